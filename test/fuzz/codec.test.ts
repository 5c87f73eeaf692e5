/** A short run of the decoder's fuzzer; `bun test/fuzz/codec.fuzz.ts --runs N --seed S` is the long one. */
import { expect, test } from "bun:test";
import { fuzzCodec } from "./codec.fuzz.ts";

test("The host's decoder holds under random and nearly right frames", () => {
  const report = fuzzCodec(5000, 7);
  // Both halves of the matter have been met: frames that pass, and bytes that do not.
  expect(report.frames).toBeGreaterThan(5000);
  expect(report.refused).toBeGreaterThan(500);
}, 30_000);
