/** Waits for a condition instead of for a time; a test that needs longer than its deadline fails with what was expected. */
import { systemClock } from "../../src/base/clock.ts";

const LOOK_MS = 10;

/** Resolves once `holds` does. @throws when it still does not after `deadlineMs`. */
export async function until(says: string, holds: () => boolean | Promise<boolean>, deadlineMs = 20_000): Promise<void> {
  const endMs = systemClock.monotonicMs() + deadlineMs;
  while (!(await holds())) {
    if (systemClock.monotonicMs() > endMs) throw new Error(`not within ${deadlineMs} ms: ${says}`);
    await systemClock.sleep(LOOK_MS);
  }
}
