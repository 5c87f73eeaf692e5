/** Volumes on real files: made and removed whole, locked as promised whoever asks, grown, and named safely. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import type { OpenVolume } from "../../src/engine/volumes/store.ts";
import { isWarrenError, WarrenError } from "../../src/errors.ts";
import { partialOf, removePartials } from "../../src/host/home/publish.ts";
import { FileVolumes } from "../../src/volume/store.ts";
import { Random } from "../fuzz/random.ts";
import { fails } from "../suites/sandbox/subject.ts";

const MIB = 2 ** 20;
let dir = "";
let store: FileVolumes;
const opened = (): FileVolumes =>
  new FileVolumes({ data: { dir, ensureRoom: async () => undefined }, clock: systemClock });
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-volumes-"));
  mkdirSync(join(dir, "volumes"));
  store = opened();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function folder(name: string): string {
  return join(dir, "volumes/n-me", name);
}

function unlessInUse(cause: unknown): null {
  if (isWarrenError(cause, "volume_in_use")) return null;
  throw cause;
}

describe("FileVolumes", () => {
  test("FileVolumes.create makes a sparse file system that list and find tell, of this account alone", async () => {
    const made = await store.create("me", "data", 64 * MIB);
    expect(made).toMatchObject({ name: "data", sizeBytes: 64 * MIB });
    expect(made.usedBytes).toBeLessThan(MIB);
    expect(made.usedBytes).toBe(statSync(join(folder("data"), "disk.ext4")).blocks * 512);
    await store.create("me", "also", 16 * MIB);
    expect((await store.list("me")).map(({ name }) => name)).toEqual(["also", "data"]);
    expect(await store.list("you")).toEqual([]);
    await fails("not_found", store.find("you", "data"));
    await fails("already_exists", store.create("me", "data", 16 * MIB));
    const image = await Bun.file(join(folder("data"), "disk.ext4"))
      .slice(1024, 2048)
      .bytes();
    const superblock = new DataView(image.buffer);
    expect(superblock.getUint16(0x38, true)).toBe(0xef53);
    expect(superblock.getUint32(0x5c, true) & 4).toBe(4); // has_journal
  });

  test("FileVolumes.survey counts those of every account, and names what is no volume", async () => {
    expect(store.survey()).toEqual({ volumes: 0, usedBytes: 0, sizeBytes: 0, damaged: [] });
    const made = [await store.create("me", "a", 16 * MIB), await store.create("you", "b", 32 * MIB)];
    const usedBytes = made.reduce((sum, volume) => sum + volume.usedBytes, 0);
    expect(store.survey()).toEqual({ volumes: 2, usedBytes, sizeBytes: 48 * MIB, damaged: [] });
    rmSync(join(folder("a"), "manifest.json"));
    expect(store.survey()).toMatchObject({ volumes: 1, damaged: ["n-me/a"] });
  });

  test("FileVolumes.create many times at once makes one", async () => {
    const ends = await Promise.allSettled(Array.from({ length: 6 }, () => opened().create("me", "one", 16 * MIB)));
    const refused = ends.flatMap((end) => (end.status === "rejected" ? [end.reason] : []));
    expect(refused).toHaveLength(5);
    for (const cause of refused) expect(isWarrenError(cause, "already_exists")).toBe(true);
    expect(readdirSync(join(dir, "volumes/n-me"))).toEqual(["one"]);
    expect(await store.list("me")).toHaveLength(1);
  });

  test("FileVolumes never shows half a volume, and a sweep removes it", async () => {
    await store.create("me", "whole", 16 * MIB);
    const dead = partialOf(folder("half")).replace(/partial-\d+-\d+/, "partial-1-1");
    await Bun.write(join(dead, "disk.ext4"), "half of it");
    expect((await store.list("me")).map(({ name }) => name)).toEqual(["whole"]);
    await fails("not_found", store.find("me", "half"));
    removePartials(join(dir, "volumes/n-me"));
    expect(readdirSync(join(dir, "volumes/n-me"))).toEqual(["whole"]);
  });

  test("FileVolumes refuses names that are paths, and keeps any account in a folder of its own", async () => {
    for (const name of ["..", "a/b", "", "A", "a.b", "x".repeat(64)]) {
      await fails("not_found", store.create("me", name, 16 * MIB));
      await fails("not_found", store.open("me", name, false));
    }
    await store.create("../../etc", "data", 16 * MIB);
    expect(await store.list("../../etc")).toHaveLength(1);
    expect(readdirSync(dir)).toEqual(["volumes"]);
    expect(readdirSync(join(dir, "volumes")).every((name) => /^[hn]-[a-z0-9_-]+$/.test(name))).toBe(true);
  });

  test("FileVolumes.remove is refused while it is open, and takes all of it", async () => {
    await store.create("me", "data", 16 * MIB);
    const reader = await store.open("me", "data", true);
    await fails("volume_in_use", opened().remove("me", "data"));
    reader[Symbol.dispose]();
    await store.remove("me", "data");
    expect(existsSync(folder("data"))).toBe(false);
    expect(readdirSync(join(dir, "volumes/n-me"))).toEqual([]);
    await fails("not_found", store.remove("me", "data"));
    await fails("not_found", store.open("me", "data", false));
  });

  test("FileVolumes.resize only grows, and says what a guest has still to fit", async () => {
    await store.create("me", "data", 16 * MIB);
    const small = await fails("invalid_request", store.resize("me", "data", 15 * MIB));
    expect(small.details).toMatchObject({ field: "sizeMb" });
    expect(await store.resize("me", "data", 32 * MIB)).toMatchObject({ sizeBytes: 32 * MIB });
    expect(statSync(join(folder("data"), "disk.ext4")).size).toBe(32 * MIB);
    {
      using volume = await store.open("me", "data", false);
      expect(volume).toMatchObject({ hasGrown: true, medium: { sizeBytes: 32 * MIB, scratchFd: null } });
    }
    await store.fitted("me", "data", 32 * MIB);
    using again = await store.open("me", "data", false);
    expect(again.hasGrown).toBe(false);
  });

  test("FileVolumes.open for writing asks for the room that is promised, and does without", async () => {
    const asked: (number | undefined)[] = [];
    const ensureRoom = async (bytes?: number) => {
      asked.push(bytes);
      if (bytes !== undefined) throw new WarrenError("storage_exhausted", "no");
    };
    const small = new FileVolumes({ data: { dir, ensureRoom }, clock: systemClock });
    const { usedBytes } = await small.create("me", "data", 16 * MIB);
    for (const readOnly of [true, false]) (await small.open("me", "data", readOnly))[Symbol.dispose]();
    expect(asked).toEqual([undefined, 16 * MIB - usedBytes]);
  });

  test("FileVolumes.open for reading gives a descriptor that cannot write, and a file for what is written all the same", async () => {
    await store.create("me", "data", 16 * MIB);
    using volume = await store.open("me", "data", true);
    const { fd, scratchFd } = volume.medium;
    expect(() => writeFileSync(fd, "x")).toThrow(/EBADF/);
    expect(scratchFd).not.toBeNull();
    writeFileSync(scratchFd ?? -1, "x");
  });

  test("FileVolumes lets in one writer or any readers, over random openings by several stores", async () => {
    await store.create("me", "data", 16 * MIB);
    const stores = [opened(), opened(), opened()];
    const choose = new Random(7);
    const users: { readonly volume: OpenVolume; readonly readOnly: boolean }[] = [];
    const leave = () => users.splice(choose.below(users.length), 1)[0]?.volume[Symbol.dispose]();
    const seen = { granted: 0, refused: 0 };
    for (let step = 0; step < 2000; step++) {
      if (users.length > 0 && choose.once(2)) leave();
      const readOnly = !choose.once(4);
      const expected = users.every((user) => user.readOnly && readOnly) ? "granted" : "refused";
      const from = stores[choose.below(stores.length)] ?? store;
      const volume = await from.open("me", "data", readOnly).catch(unlessInUse);
      expect({ step, got: volume === null ? "refused" : "granted" }).toEqual({ step, got: expected });
      seen[expected] += 1;
      if (volume !== null) users.push({ volume, readOnly });
    }
    while (users.length > 0) leave();
    expect(Math.min(seen.granted, seen.refused)).toBeGreaterThan(100);
    await store.remove("me", "data");
  });

  test("FileVolumes frees the lock of a process that was killed", async () => {
    await store.create("me", "data", 16 * MIB);
    const script = `import { openVolumeImage } from ${JSON.stringify(join(import.meta.dir, "../../src/host/home/volume-files.ts"))};
      openVolumeImage(${JSON.stringify(join(folder("data"), "disk.ext4"))}, "write"); console.log("locked"); setInterval(() => 0, 1000);`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    const reader = child.stdout.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("locked\n");
    await fails("volume_in_use", store.open("me", "data", true));
    child.kill("SIGKILL");
    await child.exited;
    await reader.cancel();
    using volume = await store.open("me", "data", false);
    expect(volume.medium.scratchFd).toBeNull();
  });
});
