/** Snapshots on real files: what is opened is what was saved, byte for byte, or it is refused. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { LIMITS } from "../../src/limits.ts";
import { makePoint, metaOf, PAGE, type Pages, seen, snapshotsIn } from "./points.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-snapshots-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const PAGES = 256; // 1 MiB
const pages = fc
  .array(fc.tuple(fc.nat(PAGES - 1), fc.nat({ max: 3 })), { maxLength: 60 })
  .map((list): Pages => new Map(list));

test("Snapshots.open gives what was saved, over any layers, flattened when there are many, and frees it with the last hold", async () => {
  let n = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(pages, { minLength: 1, maxLength: LIMITS.layerDepth + 3 }), async (layers) => {
      const id = `snap_${n++}`;
      using point = makePoint(dir, 1, layers, id);
      const expected = seen(point);
      const fds = readdirSync("/proc/self/fd").length;
      await snapshotsIn(dir).save(point, metaOf(id));
      expect(point.holds()).toBe(0);
      const again = snapshotsIn(dir); // as another process would
      {
        using opened = await again.open("local", id);
        expect(opened.snapshot.layers.length).toBeLessThanOrEqual(LIMITS.layerDepth);
        expect(seen(opened).memory.equals(expected.memory)).toBe(true);
        expect(seen(opened).state.equals(expected.state)).toBe(true);
        expect(seen(opened).disk.equals(expected.disk)).toBe(true);
        expect([opened.size, opened.machine, opened.warm]).toEqual([point.size, point.machine, point.warm]);
      }
      await again.remove("local", id);
      expect(readdirSync("/proc/self/fd").length).toBe(fds);
    }),
    { numRuns: 60 },
  );
  expect(readdirSync(join(dir, "snapshots", ".bases"))).toEqual([]);
  expect(PAGE).toBe(4096);
});
