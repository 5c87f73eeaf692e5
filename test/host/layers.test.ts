/** Memory made of layers: every byte comes from the highest layer that holds it, whatever lies below and beside. */
import { expect, test } from "bun:test";
import { closeSync, writeSync } from "node:fs";
import fc from "fast-check";
import type { Run } from "../../src/driver/driver.ts";
import { flatten, imageOf, runsOf } from "../../src/host/layers.ts";
import { createMemory } from "../../src/host/memory.ts";

const PAGES = 48;
/** Runs as a capture makes them: sorted and apart, from any set of pages. */
const runs = fc.uniqueArray(fc.nat(PAGES - 1)).map((pages): Run[] => {
  const set = new Set(pages);
  const found: { offset: number; length: number }[] = [];
  for (let page = 0; page < PAGES; page++) {
    if (!set.has(page)) continue;
    const last = found.at(-1);
    if (last !== undefined && last.offset + last.length === page * 4096) last.length += 4096;
    else found.push({ offset: page * 4096, length: 4096 });
  }
  return found;
});

test("flatten takes every page from the highest layer that has it, and joins what belongs together", () => {
  fc.assert(
    fc.property(fc.array(runs, { maxLength: 5 }), (layers) => {
      const from = new Array<number>(PAGES).fill(-1);
      for (const [layer, own] of layers.entries()) {
        for (const { offset, length } of own) from.fill(layer, offset / 4096, (offset + length) / 4096);
      }
      const flat = flatten(layers);
      const seen = new Array<number>(PAGES).fill(-1);
      let end = -1;
      for (const { offset, length, layer } of flat) {
        expect(length).toBeGreaterThan(0);
        expect(offset).toBeGreaterThanOrEqual(end);
        end = offset + length;
        seen.fill(layer, offset / 4096, end / 4096);
      }
      expect(seen).toEqual(from);
      for (const [i, { offset, layer }] of flat.entries()) {
        const before = flat[i - 1];
        if (before !== undefined && before.layer === layer) expect(before.offset + before.length).toBeLessThan(offset);
      }
    }),
    { numRuns: 500 },
  );
});

test("runsOf finds what a sparse memory file holds, and imageOf writes the table that the VMM reads", async () => {
  const MIB = 2 ** 20;
  const fd = createMemory("layers-test", 8 * MIB);
  try {
    writeSync(fd, new Uint8Array(4096).fill(1), 0, 4096, 0);
    writeSync(fd, new Uint8Array(4096).fill(1), 0, 4096, 3 * 4096); // a small gap: taken along
    writeSync(fd, new Uint8Array(8192).fill(2), 0, 8192, 4 * MIB);
    expect(runsOf(fd, 8 * MIB)).toEqual([
      { offset: 0, length: 4 * 4096 },
      { offset: 4 * MIB, length: 8192 },
    ]);
    const image = imageOf([
      { fd, runs: runsOf(fd, 8 * MIB) },
      { fd: 77, runs: [{ offset: 4096, length: 4096 }] },
    ]);
    const table = new BigUint64Array((await Bun.file(image.tableFd).bytes()).buffer);
    closeSync(image.tableFd);
    const page = (n: number) => BigInt(n * 4096);
    expect([...table]).toEqual([
      ...[page(0), page(1), page(0), 0n],
      ...[page(1), page(1), page(1), 1n],
      ...[page(2), page(2), page(2), 0n],
      ...[page(1024), page(2), page(1024), 0n],
    ]);
    expect(image.layerFds).toEqual([fd, 77]);
  } finally {
    closeSync(fd);
  }
});
