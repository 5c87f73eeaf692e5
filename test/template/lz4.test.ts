/** The kernel's LZ4 is unpacked exactly, and damage ends in an error. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { unpackLz4Legacy } from "../../src/template/image/lz4.ts";

/** A length as LZ4 writes it: 15 in the token, then 255s and a rest. */
function lengthBytes(length: number): number[] {
  if (length < 15) return [];
  const rest = length - 15;
  return [...Array(Math.floor(rest / 255)).fill(255), rest % 255];
}

/** Literals, then a match of `match` bytes from `distance` back; the last sequence has literals alone. */
function sequence(literals: number[], distance = 0, match = 0): number[] {
  const token = (Math.min(15, literals.length) << 4) | (match === 0 ? 0 : Math.min(15, match - 4));
  const head = [token, ...lengthBytes(literals.length), ...literals];
  return match === 0 ? head : [...head, distance & 255, distance >> 8, ...lengthBytes(match - 4)];
}

function frame(...blocks: number[][]): Uint8Array {
  const size = (n: number): number[] => [n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24];
  return Uint8Array.from([0x02, 0x21, 0x4c, 0x18, ...blocks.flatMap((block) => [...size(block.length), ...block])]);
}

test("unpackLz4Legacy repeats an overlapping match", () => {
  const packed = frame([...sequence([1, 2, 3], 3, 10), ...sequence([9])]);
  expect([...unpackLz4Legacy(packed, 14)]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 9]);
});

test("unpackLz4Legacy joins blocks, whose matches may reach back over the cut", () => {
  expect([...unpackLz4Legacy(frame(sequence([5, 6]), sequence([7])), 3)]).toEqual([5, 6, 7]);
});

test("unpackLz4Legacy gives back literals of any length", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 2000 }), (bytes) => {
      expect([...unpackLz4Legacy(frame(sequence(bytes)), bytes.length)]).toEqual(bytes);
    }),
    { numRuns: 200 },
  );
});

test("unpackLz4Legacy gives back runs of any length and distance", () => {
  const run = fc.record({
    seed: fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 40 }),
    match: fc.integer({ min: 4, max: 900 }),
  });
  fc.assert(
    fc.property(run, ({ seed, match }) => {
      const expected = [...seed];
      for (let i = 0; i < match; i++) expected.push(expected[expected.length - seed.length]!);
      const packed = frame([...sequence(seed, seed.length, match), ...sequence([0])]);
      expect([...unpackLz4Legacy(packed, expected.length + 1)]).toEqual([...expected, 0]);
    }),
    { numRuns: 200 },
  );
});

test("unpackLz4Legacy never hangs and never writes past its size on damaged input", () => {
  const good = frame([...sequence([1, 2, 3, 4, 5, 6, 7, 8], 4, 300), ...sequence([1])]);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 }), fc.nat(400), (at, value, size) => {
      const bad = good.slice();
      bad[at] = value;
      try {
        expect(unpackLz4Legacy(bad, size).length).toBe(size);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
    { numRuns: 2000 },
  );
});
