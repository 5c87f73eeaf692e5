/**
 * A process that is ended by SIGKILL at every step of a snapshot, a hibernation and a wake, on three sandboxes at once, two of
 * them detached: each lives on, sleeps or is gone, as it has to be at that step, no half snapshot is listed, and the next start
 * leaves nothing. SLEEP_KILLS rounds (default 1; the recorded run takes 10, which is 30 sandboxes a step).
 */
import { expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { Snapshot } from "../../../src/sandbox/snapshots.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { machineFacts, record } from "../../bench/record.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../../harness/leaks.ts";
import { openTestWarren, TEST_HOME } from "../../harness/vm.ts";
import { type Fate, fates, type Job, STEPS, type Step } from "./steps.ts";
import { COUNTS, sh, start } from "./world.ts";

/** From so many rounds on it is the recorded run, which appends its line to test/bench/results.ndjson. */
const RECORDED = 10;
const ROUNDS = Number(process.env["SLEEP_KILLS"] ?? 1);

interface Made {
  readonly id: string;
  readonly detached: boolean;
}

async function cutShort(job: Job, step: Step): Promise<Made[]> {
  const child = start("kill-child.ts", [job, step]);
  const said = await new Response(child.stdout).text();
  await child.exited;
  expect([job, step, child.signalCode]).toEqual([job, step, "SIGKILL"]);
  return JSON.parse(said) as Made[];
}

/** Memory and disk are of one instant: what counts goes on, and is ahead on the disk in no case. */
async function expectWhole(sandbox: Sandbox): Promise<void> {
  const said = await sh(sandbox, COUNTS);
  const [memory = Number.NaN, disk = Number.NaN] = said.split("\n").map(Number);
  expect([said, memory - disk]).toBeOneOf([
    [said, 0],
    [said, 1],
  ]);
}

async function fateOf(warren: Warren, id: string): Promise<Fate> {
  try {
    const { state } = await warren.sandboxes.get({ id });
    await expectWhole(new Sandbox(warren.sandboxes, id));
    await warren.sandboxes.close({ id });
    return state === "hibernated" ? "sleeps" : "runs";
  } catch (cause) {
    // One that ends with its process may still be about to.
    if (isWarrenError(cause, "not_found") || isWarrenError(cause, "sandbox_lost")) return "gone";
    throw cause;
  }
}

async function look(warren: Warren, job: Job, step: Step, made: readonly Made[]): Promise<void> {
  const listed = await Sandbox.list({}, warren.sandboxes);
  expect(new Set(listed.map(({ id }) => id)).size).toBe(listed.length);
  for (const { id, detached } of made) {
    const fate = await fateOf(warren, id);
    expect({ job, step, detached, fate, right: fates(job, step, detached).includes(fate) }).toMatchObject({
      right: true,
    });
  }
  for (const { id } of await Snapshot.list({}, warren.sandboxes)) {
    expect(job).toBe("snapshot");
    await using restored = await Sandbox.fromSnapshot(id, {}, warren.sandboxes);
    await expectWhole(restored);
    await restored.close();
    await new Snapshot(warren.sandboxes, id).remove();
  }
}

if (gate("vm")) {
  guardLeaks("base");

  for (const job of ["snapshot", "hibernate", "wake"] as const) {
    test(
      `A process that is killed at any of ${STEPS[job].length} steps of ${job} leaves sandboxes whole or gone`,
      async () => {
        {
          await using _first = await openTestWarren();
        }
        const before = traces(TEST_HOME);
        for (let round = 0; round < ROUNDS; round++) {
          for (const step of STEPS[job]) {
            {
              // What another process has open already has to do as well as a start, which sweeps.
              await using open = job === "wake" ? await openTestWarren({ prepared: 0 }) : null;
              const made = await cutShort(job, step);
              await using next = open ?? (await openTestWarren({ prepared: 0 }));
              await look(next, job, step, made);
              expect(next.snapshots.survey()).toMatchObject({ snapshots: 0, hibernated: 0, damaged: [] });
            }
            {
              await using _sweeps = await openTestWarren({ prepared: 0 });
            }
            await expectNoLeaks(before, TEST_HOME);
          }
        }
        const line = {
          bench: `kills at each step of ${job}`,
          steps: STEPS[job],
          sandboxesPerStep: 3 * ROUNDS,
          left: 0,
        };
        if (ROUNDS >= RECORDED) record({ ...line, ...(await machineFacts()) });
      },
      ROUNDS * STEPS[job].length * 30_000,
    );
  }
}
