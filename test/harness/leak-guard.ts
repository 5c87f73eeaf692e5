/** For a file of VM tests: whatever its tests did, nothing of it is left on this machine when they are over. */
import { afterAll, beforeAll } from "bun:test";
import { expectNoLeaks, type Traces, traces } from "./leaks.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS } from "./vm.ts";

/** Killed VMMs are reaped within milliseconds; a busy machine may need longer. */
const GONE_MS = 5_000;

/** Bakes first what the tests need, so that only what they leave counts. */
export function guardLeaks(...templates: readonly string[]): void {
  let before: Traces = [];
  beforeAll(async () => {
    {
      await using warren = await openTestWarren();
      for (const template of templates) await warren.engine.prepare({ template });
    }
    before = traces(TEST_HOME);
  }, VM_BAKE_MS);
  afterAll(async () => {
    {
      await using _next = await openTestWarren(); // the next start removes what a program that ended without close has left
    }
    await expectNoLeaks(before, TEST_HOME, GONE_MS);
  }, 4 * GONE_MS);
}
