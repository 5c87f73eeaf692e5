/**
 * The owner is killed at a random point, again and again: the next start removes within a second whatever the kernel did
 * not. KILLS is how often (default 12; the recorded run takes 100), KILLS_SEED where the series begins.
 */
import { expect, test } from "bun:test";
import { systemClock } from "../../src/base/clock.ts";
import { machineFacts, record } from "../bench/record.ts";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../harness/leaks.ts";
import { openTestWarren, TEST_HOME } from "../harness/vm.ts";

/** From so many on it is the recorded run, which appends its line to test/bench/results.ndjson. */
const RECORDED = 100;
const KILLS = Number(process.env["KILLS"] ?? 12);
const SEED = Number(process.env["KILLS_SEED"] ?? 1);
/** From nothing made yet to several sandboxes deep. */
const LONGEST_MS = 2_000;

/** Milliseconds of the n-th kill after the child has opened its home: spread evenly, the same for every seed. */
function delayMs(n: number): number {
  return ((n * 0.618_033_988_75 + SEED * 0.414_213_562_37) % 1) * LONGEST_MS;
}

async function killOne(n: number): Promise<void> {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/kill-child.ts`], {
    env: { ...process.env, WARREN_HOME: TEST_HOME },
    stdout: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  expect(new TextDecoder().decode(value)).toStartWith("go");
  await systemClock.sleep(delayMs(n));
  child.kill("SIGKILL");
  await child.exited;
  await reader.cancel();
}

if (gate("vm")) {
  guardLeaks("base");

  test(
    `A killed owner leaves nothing that the next start does not remove, ${KILLS} times`,
    async () => {
      {
        await using _first = await openTestWarren(); // what a process keeps open after its first use is no leak
      }
      const before = traces(TEST_HOME);
      for (let n = 0; n < KILLS; n++) {
        await killOne(n);
        await using _next = await openTestWarren();
        await _next[Symbol.asyncDispose]();
        await expectNoLeaks(before, TEST_HOME, 1_000);
      }
      if (KILLS >= RECORDED) record({ bench: "kills", kills: KILLS, seed: SEED, left: 0, ...(await machineFacts()) });
    },
    KILLS * 20_000,
  );
}
