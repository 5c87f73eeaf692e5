/** A short run of the agent's fuzzer; `bun test/fuzz/agent.fuzz.ts --runs N --seed S` is the long one. */
import { beforeAll, expect, test } from "bun:test";
import { BUILD_MS, binaries } from "../guest/process.ts";
import { gate } from "../harness/gates.ts";
import { fuzzAgent } from "./agent.fuzz.ts";

if (gate("gcc", "root")) {
  beforeAll(() => binaries(), BUILD_MS);

  test("The guest agent holds under random and nearly right frames", async () => {
    const report = await fuzzAgent(3000, 11);
    // Commands have really run to their end, and nonsense has really been refused.
    expect(report.exits).toBeGreaterThan(50);
    expect(report.errors).toBeGreaterThan(100);
    expect(report.terminals).toBeGreaterThan(10);
    expect(report.watches).toBeGreaterThan(10);
  }, 120_000);
}
