/** Answers of the library inside a VMM, which may have been taken over: sound ones are read, all others refused with a type. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseAnswer } from "../../src/driver/qemu/control.ts";
import { isWarrenError } from "../../src/errors.ts";

const SIZE = 1 << 20;

function answer(result: bigint, count: bigint, runs: readonly (readonly [number, number])[]): Uint8Array<ArrayBuffer> {
  const words = [BigInt.asUintN(64, result), count, 0n, ...runs.flat().map(BigInt)];
  return new Uint8Array(new BigUint64Array(words).buffer);
}

test("parseAnswer reads runs, and what was written before a failure", () => {
  expect(
    parseAnswer(
      answer(0n, 2n, [
        [0, 4096],
        [8192, 8192],
      ]),
      SIZE,
    ),
  ).toEqual({
    result: 0,
    runs: [
      { offset: 0, length: 4096 },
      { offset: 8192, length: 8192 },
    ],
  });
  expect(parseAnswer(answer(-28n, 1n, [[4096, 4096]]), SIZE)).toEqual({
    result: -28,
    runs: [{ offset: 4096, length: 4096 }],
  });
});

test("parseAnswer refuses what cannot be: cut short, out of order, over each other, beyond the guest, in parts of pages", () => {
  const bad = [
    new Uint8Array(0),
    new Uint8Array(23),
    answer(0n, 2n, [[0, 4096]]),
    answer(0n, 0n, [[0, 4096]]),
    answer(1n, 0n, []),
    answer(-5000n, 0n, []),
    answer(0n, 2n, [
      [8192, 4096],
      [0, 4096],
    ]),
    answer(0n, 2n, [
      [0, 8192],
      [4096, 4096],
    ]),
    answer(0n, 1n, [[SIZE, 4096]]),
    answer(0n, 1n, [[0, SIZE + 4096]]),
    answer(0n, 1n, [[1, 4096]]),
    answer(0n, 1n, [[0, 100]]),
    answer(0n, 1n, [[0, 0]]),
  ];
  for (const bytes of bad) expect(() => parseAnswer(bytes, SIZE)).toThrow("the VMM");
});

test("parseAnswer ends in sound runs or a driver_failed on any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (noise, framed) => {
      const bytes = new Uint8Array(noise);
      if (framed && bytes.length >= 24)
        new DataView(bytes.buffer).setBigUint64(8, BigInt((bytes.length - 24) >> 4), true);
      try {
        let end = 0;
        for (const { offset, length } of parseAnswer(bytes, SIZE).runs) {
          expect(offset).toBeGreaterThanOrEqual(end);
          end = offset + length;
        }
        expect(end).toBeLessThanOrEqual(SIZE);
      } catch (error) {
        expect(isWarrenError(error, "driver_failed")).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
});
