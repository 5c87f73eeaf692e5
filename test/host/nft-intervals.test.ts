/** Sums and differences of ranges against the same done address by address, on a small stretch of numbers. */
import { expect, test } from "bun:test";
import type { AddressRange } from "../../src/base/address.ts";
import { FORBIDDEN } from "../../src/base/forbidden.ts";
import { difference, merged, portBlocks } from "../../src/host/net/nft/intervals.ts";

/** The same numbers each run: a linear congruential generator. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const SIZE = 64;
function someRanges(random: (below: number) => number): AddressRange[] {
  return Array.from({ length: random(8) }, () => {
    const first = random(SIZE);
    const family = random(4) === 0 ? 6 : 4;
    return { family, first: BigInt(first), last: BigInt(first + random(SIZE - first)) } as const;
  });
}

function members(ranges: readonly AddressRange[], family: 4 | 6): boolean[] {
  return Array.from({ length: SIZE }, (_, i) =>
    ranges.some((range) => range.family === family && range.first <= BigInt(i) && BigInt(i) <= range.last),
  );
}

function expectMerged(ranges: readonly AddressRange[]): void {
  for (const [i, { first, last }] of ranges.entries()) {
    expect(first <= last).toBe(true);
    const next = ranges[i + 1];
    if (next !== undefined) expect(last + 1n < next.first).toBe(true);
  }
}

test("merged and difference have the members that sets of single addresses have, as ranges that do not touch", () => {
  const random = numbers(7);
  for (let round = 0; round < 2000; round++) {
    const [from, without] = [someRanges(random), someRanges(random)];
    for (const family of [4, 6] as const) {
      const [sum, rest] = [merged(from, family), difference(from, without, family)];
      expectMerged(sum);
      expectMerged(rest);
      const [a, b] = [members(from, family), members(without, family)];
      expect(members(sum, family)).toEqual(a);
      expect(members(rest, family)).toEqual(a.map((is, i) => is && !b[i]));
    }
  }
});

test("difference at the ends of a family: all of it, nothing of it", () => {
  const top = (1n << 128n) - 1n;
  const all = [{ family: 6, first: 0n, last: top }] as const;
  expect(difference(all, [], 6)).toEqual([...all]);
  expect(difference(all, all, 6)).toEqual([]);
  expect(difference(all, [{ family: 6, first: top, last: top }], 6)).toEqual([
    { family: 6, first: 0n, last: top - 1n },
  ]);
  expect(difference(FORBIDDEN, FORBIDDEN, 4)).toEqual([]);
});

test("portBlocks covers a range exactly, and in no more than 105 blocks", () => {
  const random = numbers(11);
  const cases = Array.from({ length: 300 }, () => {
    const from = 1 + random(65_535);
    return { from, to: from + random(65_536 - from) };
  });
  for (const range of [...cases, { from: 1, to: 65_535 }, { from: 443, to: 443 }, { from: 65_535, to: 65_535 }]) {
    const found: number[] = [];
    const blocks = portBlocks(range);
    for (const { bits, first } of blocks) {
      expect(first % 2 ** bits).toBe(0);
      for (let port = first; port < first + 2 ** bits; port++) found.push(port);
    }
    expect(found).toEqual(Array.from({ length: range.to - range.from + 1 }, (_, i) => range.from + i));
    expect(blocks.length).toBeLessThanOrEqual(105);
  }
});
