/** Pure parts of baking: kernel unpacking, the initramfs archive, manifests, recipes. */
import { expect, test } from "bun:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { vmlinuxOf } from "../../src/template/image/bzimage.ts";
import { cpio } from "../../src/template/image/cpio.ts";
import { digestOf, type Fit, misfits, parseManifest } from "../../src/template/manifest.ts";
import { recipeNames, recipeOf } from "../../src/template/recipes.ts";

const ELF = Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, ...Array(2000).fill(7)]);

function bzImage(payload: Uint8Array): Uint8Array {
  const image = new Uint8Array(5 * 512 + payload.length);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, 4);
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, 0x20f, true);
  view.setUint32(0x248, 0, true);
  view.setUint32(0x24c, payload.length, true);
  image.set(payload, 5 * 512);
  return image;
}

function withSize(packed: Uint8Array): Uint8Array {
  const out = new Uint8Array(packed.length + 4);
  out.set(packed);
  new DataView(out.buffer).setUint32(packed.length, ELF.length, true);
  return out;
}

test("vmlinuxOf unpacks gzip and zstd payloads and passes an ELF through", () => {
  expect(vmlinuxOf(bzImage(gzipSync(ELF)))).toEqual(Buffer.from(ELF));
  expect(new Uint8Array(vmlinuxOf(bzImage(withSize(zstdCompressSync(ELF)))))).toEqual(ELF);
  expect(vmlinuxOf(ELF)).toBe(ELF);
});

test("vmlinuxOf refuses what is no kernel, by a sentence with the remedy", () => {
  const cases = [
    new Uint8Array(10),
    new Uint8Array(4096),
    bzImage(withSize(Uint8Array.from(Array(64).fill(1)))),
    bzImage(gzipSync(Buffer.from("no elf here"))),
  ];
  for (const image of cases) expect(() => vmlinuxOf(image)).toThrow("WARREN_KERNEL");
});

test("vmlinuxOf refuses a payload that lies outside the file", () => {
  const image = bzImage(withSize(zstdCompressSync(ELF)));
  new DataView(image.buffer).setUint32(0x24c, 1 << 30, true);
  expect(() => vmlinuxOf(image)).toThrow("outside");
});

test("cpio writes what the system's cpio would read", () => {
  const archive = cpio([
    { path: "m", mode: 0o755 },
    { path: "m/a", mode: 0o644, content: new TextEncoder().encode("hello") },
  ]);
  const text = Buffer.from(archive).toString("latin1");
  expect(text.startsWith("070701")).toBe(true);
  expect(archive.length % 4).toBe(0);
  expect(text.match(/070701/g)?.length).toBe(3);
  expect(text).toContain("TRAILER!!!\0");
  expect(text.indexOf("hello") % 4).toBe(0);
});

const FIT: Fit = {
  format: 1,
  template: "base",
  cpu: 1,
  memoryMib: 512,
  accel: "tcg",
  cpuModel: "max",
  tscKhz: 2_300_000,
  devices: "microvm/1",
  vmm: { version: "7.2" },
  kernel: "a".repeat(64),
  initrd: "b".repeat(64),
  rootfs: "c".repeat(64),
  interpreter: "d".repeat(64),
  warm: ["json"],
};

test("misfits names every part that differs, nested ones too", () => {
  expect(misfits(FIT, structuredClone(FIT))).toEqual([]);
  expect(misfits(FIT, { ...FIT, cpu: 2, vmm: { version: "10.0" } })).toEqual(["cpu", "vmm"]);
  for (const key of Object.keys(FIT) as (keyof Fit)[]) {
    expect(misfits(FIT, { ...FIT, [key]: "other" } as Fit)).toEqual([key]);
  }
});

test("parseManifest takes torn or foreign text as no manifest", () => {
  for (const text of ["", "{", "null", "[]", '{"fit":1}']) expect(parseManifest(text)).toBeNull();
});

test("digestOf does not depend on the order of keys and depends on every value", () => {
  expect(digestOf({ a: 1, b: { c: 2, d: [1, 2] } })).toBe(digestOf({ b: { d: [1, 2], c: 2 }, a: 1 }));
  expect(digestOf({ a: [1, 2] })).not.toBe(digestOf({ a: [2, 1] }));
});

test("recipes ship base and code-interpreter, and an unknown one is refused with their names", () => {
  expect(recipeNames()).toEqual(["base", "code-interpreter"]);
  expect(() => recipeOf("nope")).toThrow('there is no template "nope"; there are base, code-interpreter');
});
