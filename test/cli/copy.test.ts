/** Directories as archives: into a guest byte for byte, and out of it without harm, whatever the archive says. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { tarEnd, tarHeader, tarPadding } from "../../src/base/tar.ts";
import { type TarEntry, TarError, untar } from "../../src/base/untar.ts";
import { endOf } from "../../src/cli/copy/ends.ts";
import { tarOf } from "../../src/cli/copy/in.ts";
import { staysInside, Unpacker } from "../../src/cli/copy/unpack.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-copy-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

interface Fake {
  readonly name: string | Buffer;
  readonly kind?: "file" | "directory" | "symlink" | "hardlink" | "device";
  readonly link?: string;
  readonly content?: string;
  readonly mode?: number;
}

const TYPES = { hardlink: "1", device: "3" } as const;

/** An archive by hand: what no honest tar would write. */
function archive(entries: readonly Fake[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { name, kind = "file", link = "", content = "", mode = 0o644 } of entries) {
    const plain = kind === "hardlink" || kind === "device" ? "symlink" : kind;
    const body = Buffer.from(kind === "file" ? content : "");
    const header = tarHeader({
      kind: plain,
      name: Buffer.from(name),
      link: Buffer.from(link),
      size: body.length,
      mode,
      mtime: 1,
    });
    if (kind === "hardlink" || kind === "device") retype(header, TYPES[kind]);
    parts.push(header, body, new Uint8Array(tarPadding(body.length)));
  }
  return Buffer.concat([...parts, tarEnd()]);
}

function retype(header: Uint8Array, type: string): void {
  header[156] = type.charCodeAt(0);
  header.fill(32, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.set(Buffer.from(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
}

async function* pieces(bytes: Uint8Array, size = 700): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function unpack(entries: readonly Fake[], root = dir): Promise<readonly string[]> {
  const unpacker = new Unpacker(root);
  for await (const entry of untar(pieces(archive(entries)))) await unpacker.take(entry);
  await unpacker.finish();
  return unpacker.refused;
}

async function read(bytes: Uint8Array, size?: number): Promise<(Omit<TarEntry, "body"> & { content: string })[]> {
  const found = [];
  for await (const { body, ...entry } of untar(pieces(bytes, size))) {
    const parts: Uint8Array[] = [];
    for await (const part of body) parts.push(part.slice());
    found.push({ ...entry, content: Buffer.concat(parts).toString() });
  }
  return found;
}

describe("untar", () => {
  test("untar reads what GNU tar writes in each of its formats: long names, links, bytes that are no text", async () => {
    mkdirSync(join(dir, "in/deep"), { recursive: true });
    const long = "x".repeat(150);
    writeFileSync(join(dir, "in", `${long}.txt`), "long");
    writeFileSync(Buffer.concat([Buffer.from(join(dir, "in/deep/")), Buffer.from([0x62, 0xff])]), "bytes");
    symlinkSync(`deep/${long}`, join(dir, "in/link"));
    for (const format of ["gnu", "pax", "ustar"]) {
      const made = Bun.spawnSync(["tar", `--format=${format}`, "-C", join(dir, "in"), "-cf", "-", "."]);
      const found = await read(new Uint8Array(made.stdout), 333);
      const by = new Map(found.map((entry) => [Buffer.from(entry.name).toString("latin1"), entry]));
      expect(by.get("./deep/b\xff")?.content).toBe("bytes");
      expect(by.get("./deep/")?.kind).toBe("directory");
      if (format === "ustar") continue; // it refuses a link that long
      expect(by.get(`./${long}.txt`)?.content).toBe("long");
      expect(Buffer.from(by.get("./link")?.link ?? []).toString()).toBe(`deep/${long}`);
    }
  });

  test("untar survives any bytes: entries or a TarError, nothing else, and never more than it was given", async () => {
    const valid = archive([
      { name: "a", content: "hello" },
      { name: "b".repeat(300), content: "long" },
    ]);
    const mutated = fc
      .tuple(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 8 }), fc.nat(valid.length))
      .map(([edits, cut]) => {
        const bytes = valid.slice(0, cut);
        for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
        return bytes;
      });
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutated, fc.uint8Array({ maxLength: 3000 })), async (bytes) => {
        try {
          const total = (await read(bytes)).reduce((sum, { content }) => sum + content.length, 0);
          expect(total).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(TarError);
        }
      }),
      { numRuns: 1500 },
    );
  });

  test("untar refuses lengths that cannot be", async () => {
    const header = tarHeader({ kind: "file", name: Buffer.from("a"), size: 0, mode: 0, mtime: 0 });
    const withSize = (field: Buffer) => {
      const bytes = header.slice();
      bytes.set(field, 124);
      retype(bytes, "0");
      return bytes;
    };
    await expect(read(withSize(Buffer.from("77777777777\0")))).rejects.toThrow("ends inside an entry");
    await expect(read(withSize(Buffer.alloc(12, 0xff)))).rejects.toThrow("impossible size");
    await expect(read(withSize(Buffer.from("-0000000001\0")))).rejects.toThrow("no octal number");
    const name = withSize(Buffer.from("00000777777\0"));
    retype(name, "L");
    await expect(read(name)).rejects.toThrow("a name of more than 64 KiB");
  });
});

describe("tarOf", () => {
  test("tarOf gives GNU tar the same tree: content, modes, links, names of any bytes", async () => {
    const [source, target] = [join(dir, "in"), join(dir, "out")];
    mkdirSync(join(source, "empty"), { recursive: true });
    mkdirSync(join(source, "n".repeat(120)), { recursive: true });
    mkdirSync(target);
    writeFileSync(join(source, "n".repeat(120), "f"), "x".repeat(70_000));
    writeFileSync(join(source, "run.sh"), "#!/bin/sh\n", { mode: 0o755 });
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0xff, 0x0a, 0x41])]), "odd");
    symlinkSync("../somewhere", join(source, "link"));
    const tar = Bun.spawn(["tar", "-C", target, "-xf", "-"], { stdin: "pipe", stderr: "pipe" });
    for await (const chunk of tarOf(source)) {
      tar.stdin.write(chunk);
      await tar.stdin.flush();
    }
    await tar.stdin.end();
    expect([await new Response(tar.stderr).text(), await tar.exited]).toEqual(["", 0]);
    expect(Bun.spawnSync(["diff", "-r", "--no-dereference", source, target]).exitCode).toBe(0);
    expect(lstatSync(join(target, "run.sh")).mode & 0o777).toBe(0o755);
    expect(
      readdirSync(target, { encoding: "buffer" }).some((name) => name.equals(Buffer.from([0xff, 0x0a, 0x41]))),
    ).toBe(true);
  });
});

/** Where a path leads, component by component as the kernel goes, missing ones included; null for what leads nowhere: a loop, a file's inside. */
function leadsTo(path: string): string | null {
  let rest = path.split("/");
  let at = "";
  for (let hops = 0; rest.length > 0; ) {
    const [part = "", ...more] = rest;
    rest = more;
    if (part === "..") at = at.slice(0, Math.max(0, at.lastIndexOf("/")));
    if (part === "" || part === "." || part === "..") continue;
    const next = `${at}/${part}`;
    if (at !== "" && lstatSync(at, { throwIfNoEntry: false })?.isFile() === true) return null;
    if (lstatSync(next, { throwIfNoEntry: false })?.isSymbolicLink() !== true) {
      at = next;
      continue;
    }
    hops += 1;
    if (hops > 40) return null;
    const target = readlinkSync(next);
    if (target.startsWith("/")) at = "";
    rest = [...target.split("/"), ...rest];
  }
  return at;
}

/** Links below `dir`; none is followed on the way. */
function linksIn(dir: string): string[] {
  return readdirSync(dir).flatMap((name) => {
    const path = join(dir, name);
    const stat = lstatSync(path);
    if (stat.isSymbolicLink()) return [path];
    return stat.isDirectory() ? linksIn(path) : [];
  });
}

/** Those below `root` that lead out of it. */
function linksOutOf(root: string): string[] {
  return linksIn(root).filter((path) => !`${leadsTo(path) ?? root}/`.startsWith(`${root}/`));
}

describe("Unpacker", () => {
  test("Unpacker makes files, directories, links and modes below its root", async () => {
    const refused = await unpack([
      { name: "./", kind: "directory", mode: 0o700 },
      { name: "./a/", kind: "directory", mode: 0o500 },
      { name: "./a/f", content: "hello", mode: 0o4755 },
      { name: "l", kind: "symlink", link: "a/f" },
      { name: "a/up", kind: "symlink", link: "../a/f" },
      { name: "h", kind: "hardlink", link: "./a/f" },
    ]);
    expect(refused).toEqual([]);
    expect(readFileSync(join(dir, "a/up"), "utf8")).toBe("hello");
    expect(lstatSync(join(dir, "a/f")).mode & 0o7777).toBe(0o755);
    expect(lstatSync(join(dir, "a")).mode & 0o777).toBe(0o500);
    expect(lstatSync(join(dir, "h")).ino).toBe(lstatSync(join(dir, "a/f")).ino);
  });

  const attacks: [string, Fake[]][] = [
    ["an absolute name", [{ name: "/tmp/evil-warren", content: "x" }]],
    ["a name that climbs", [{ name: "a/../../evil", content: "x" }]],
    [
      "a link out and a file through it",
      [
        { name: "l", kind: "symlink", link: ".." },
        { name: "l/evil", content: "x" },
      ],
    ],
    [
      "an absolute link and a file through it",
      [
        { name: "l", kind: "symlink", link: "/tmp" },
        { name: "l/evil-warren", content: "x" },
      ],
    ],
    [
      "links that climb together",
      [
        { name: "a/b/c/", kind: "directory" },
        { name: "a/b/c/y", kind: "symlink", link: "../../.." },
        { name: "z", kind: "symlink", link: "a/b/c/y/../.." },
      ],
    ],
    ["a hard link to a file of the host", [{ name: "h", kind: "hardlink", link: "../outside" }]],
    [
      "a hard link through a link",
      [
        { name: "l", kind: "symlink", link: "." },
        { name: "h", kind: "hardlink", link: "l/../../outside" },
      ],
    ],
    ["a device", [{ name: "d", kind: "device" }]],
    [
      "a file in place of a directory's parent",
      [
        { name: "p", content: "x" },
        { name: "p/evil", content: "x" },
      ],
    ],
  ];
  for (const [what, entries] of attacks) {
    test(`Unpacker refuses ${what}`, async () => {
      const root = join(dir, "root");
      mkdirSync(root);
      writeFileSync(join(dir, "outside"), "precious");
      const refused = await unpack(entries, root);
      expect(refused.length).toBeGreaterThan(0);
      expect(readdirSync(dir).sort()).toEqual(["outside", "root"]);
      expect(readFileSync(join(dir, "outside"), "utf8")).toBe("precious");
      expect(existsSync("/tmp/evil-warren")).toBe(false);
    });
  }

  test("Unpacker does not write through a link that was there before it", async () => {
    mkdirSync(join(dir, "root"));
    mkdirSync(join(dir, "elsewhere"));
    symlinkSync("../elsewhere", join(dir, "root/l"));
    const refused = await unpack(
      [
        { name: "l/f", content: "x" },
        { name: "l", content: "mine" },
      ],
      join(dir, "root"),
    );
    expect(refused).toHaveLength(1);
    expect(readdirSync(join(dir, "elsewhere"))).toEqual([]);
    expect(readFileSync(join(dir, "root/l"), "utf8")).toBe("mine");
  });

  test("Unpacker never leaves its root, whatever entries come in whatever order", async () => {
    const part = fc.constantFrom("a", "b", "..", ".", "", "l");
    const path = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/"));
    const entry = fc.record({
      name: path,
      kind: fc.constantFrom("file", "directory", "symlink", "hardlink" as const),
      link: path,
      content: fc.constant("x"),
    }) as fc.Arbitrary<Fake>;
    let round = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 8 }), async (entries) => {
        const outer = join(dir, String(round++));
        const root = join(outer, "x/y/root");
        mkdirSync(root, { recursive: true });
        await unpack(entries, root);
        expect(readdirSync(join(outer, "x/y"))).toEqual(["root"]);
        expect(readdirSync(join(outer, "x"))).toEqual(["y"]);
        expect(linksOutOf(root)).toEqual([]);
        rmSync(outer, { recursive: true });
      }),
      { numRuns: 30 },
    );
  }, 120_000);

  test("staysInside lets links climb to the root and no further", () => {
    const stays = (target: string, depth: number) => staysInside(Buffer.from(target), depth);
    expect([stays("a", 0), stays("../a", 1), stays("../..", 2), stays("./a/b", 0)]).toEqual([true, true, true, true]);
    expect([stays("..", 0), stays("../../a", 1), stays("a/..", 3), stays("/a", 9), stays("", 1)]).toEqual(
      Array(5).fill(false),
    );
  });
});

test("endOf tells a path in a sandbox from one of this host", () => {
  expect(endOf("sb_a1:/work/x")).toEqual({ sandbox: "sb_a1", path: "/work/x" });
  for (const path of ["a.txt", "./sb_a:/x", "/a:/b", "C:x", "a b:/x"])
    expect(endOf(path)).toEqual({ sandbox: null, path });
});
