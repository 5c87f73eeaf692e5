/** Snapshots where blocks are shared: on a small XFS of their own, which can be filled. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import { openData } from "../../src/host/home/data.ts";
import { availableIn, ownBytes } from "../../src/host/home/disk.ts";
import { unmountImage } from "../../src/host/home/image.ts";
import { gate } from "../harness/gates.ts";
import { until } from "../harness/until.ts";
import { fails } from "../suites/sandbox/subject.ts";
import { MIB, makePoint, metaOf, openFiles, seen, snapshotsIn } from "./points.ts";

if (gate("root")) {
  describe("Snapshots on XFS", () => {
    let home: string;
    let dir: string;
    let emptyBytes: number;
    beforeAll(async () => {
      home = mkdtempSync(join(tmpdir(), "warren-xfs-"));
      const image = join(home, "data.xfs");
      writeFileSync(image, "");
      truncateSync(image, 320 * MIB);
      const made = Bun.spawnSync(["mkfs.xfs", "-q", "-m", "reflink=1", image]);
      expect(made.stderr.toString()).toBe("");
      ({ dir } = await openData(home, { clock: systemClock, log: createLog("silent") }));
      emptyBytes = availableIn(dir);
    });
    afterAll(() => {
      unmountImage(home);
      rmSync(home, { recursive: true, force: true });
    });

    const pages = (from: number, count: number, fill: number) =>
      new Map(Array.from({ length: count }, (_, i): [number, number] => [from + i, fill]));

    /** Writes until so much is left. */
    function fill(path: string, leaveBytes: number): void {
      const fd = openSync(path, "w");
      const some = new Uint8Array(MIB).fill(1);
      while (availableIn(dir) > leaveBytes + MIB) writeSync(fd, some);
      fsyncSync(fd);
      closeSync(fd);
    }

    test("a snapshot of what was restored shares its layers, and each can be removed by itself", async () => {
      const store = snapshotsIn(dir, { shares: true });
      const point = makePoint(dir, 16, [pages(0, 2000, 1), pages(0, 1000, 2)]);
      const expected = seen(point).memory;
      const first = await store.save(point, metaOf("snap_a"));
      expect(first.memoryBytes).toBeWithin(1000 * 4096, 1100 * 4096);
      {
        using opened = await store.open("local", "snap_a");
        const before = availableIn(dir);
        await store.save(opened, metaOf("snap_b"));
        expect(before - availableIn(dir)).toBeLessThan(1 * MIB); // of 12 MiB
        expect(ownBytes(join(dir, "snapshots", "snap_b", "memory-1"))).toBe(0);
        expect(ownBytes(join(dir, "snapshots", "snap_b", "disk"))).toBe(0);
      }
      await store.remove("local", "snap_a");
      point[Symbol.dispose]();
      using again = await snapshotsIn(dir, { shares: true }).open("local", "snap_b");
      expect(seen(again).memory.equals(expected)).toBe(true);
      const alone = async () => (await store.find("local", "snap_b")).info.diskBytes > 2 * MIB;
      await until("its disk is its alone, as the other's is gone", alone); // XFS removes files a moment later
      again[Symbol.dispose]();
      await store.remove("local", "snap_b");
      expect(readdirSync(join(dir, "snapshots", ".bases"))).toEqual([]);
    });

    test("a full disk is told as such; nothing is left, and with room again the same point is saved", async () => {
      const store = snapshotsIn(dir, { shares: true });
      using point = makePoint(dir, 64, [pages(0, 8000, 1), pages(4000, 8000, 2), pages(0, 100, 3)]);
      for (const roomMib of [2, 20, 45]) {
        const filler = join(dir, "filler");
        await until("freed blocks are given back", () => availableIn(dir) > emptyBytes - 8 * MIB);
        fill(filler, roomMib * MIB);
        const fds = openFiles(dir);
        const error = await fails("storage_exhausted", store.save(point, metaOf("snap_full")));
        expect(error.message).toContain("room");
        expect(await store.list("local")).toEqual([]);
        await store.collect();
        expect(readdirSync(join(dir, "snapshots"))).toEqual([".bases"]);
        expect(readdirSync(join(dir, "snapshots", ".bases"))).toEqual([]);
        expect(openFiles(dir)).toBe(fds);
        rmSync(filler);
      }
      await store.save(point, metaOf("snap_full"));
      using opened = await snapshotsIn(dir, { shares: true }).open("local", "snap_full");
      expect(seen(opened).memory.equals(seen(point).memory)).toBe(true);
    }, 30_000);
  });
}
