/**
 * Many creates at once: all succeed, in the order of asking, while this process stays responsive and the host keeps its
 * reserve. BURST_CREATES is how many (default 200: about 25 s on two cores under emulation).
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { systemClock } from "../../../src/base/clock.ts";
import type { Warren } from "../../../src/compose.ts";
import type { Move } from "../../../src/contract/move.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../../harness/leaks.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

const CREATES = Number(process.env["BURST_CREATES"] ?? 200);
/** The smallest that is allowed. */
const SIZE = { template: "base", cpu: 1, memoryMb: LIMITS.memoryMibMin } as const;
/** 20 s for 200 measured on two cores; three other programs that keep both busy make it four times that. */
const MS_PER_CREATE = 1_200;

const LOOK_MS = 20;
/** 110 ms measured; a machine that others use as well takes the CPU away for longer. */
const STALL_MAX_MS = 1_500;
/** What this process may grow by, however many creates wait: 25 MiB measured over 200. */
const GROWTH_MAX_MIB = 128;

interface Watched {
  /** Longest time that the event loop did not come round. */
  readonly stallMs: number;
  readonly growthMib: number;
  readonly leastAvailableMib: number;
}

/** Looks at this process and the host while `job` runs. */
async function watching(warren: Warren, job: () => Promise<void>): Promise<Watched> {
  const rss = () => process.memoryUsage().rss / 2 ** 20;
  const startMib = rss();
  let [stallMs, mostMib, leastAvailableMib] = [0, startMib, Number.POSITIVE_INFINITY];
  const over = new AbortController();
  const looking = (async () => {
    while (!over.signal.aborted) {
      const beforeMs = systemClock.monotonicMs();
      await systemClock.sleep(LOOK_MS);
      stallMs = Math.max(stallMs, systemClock.monotonicMs() - beforeMs - LOOK_MS);
      mostMib = Math.max(mostMib, rss());
      leastAvailableMib = Math.min(leastAvailableMib, warren.host.capacity().memoryAvailableMib);
    }
  })();
  try {
    await job();
  } finally {
    over.abort();
    await looking;
  }
  return { stallMs, growthMib: mostMib - startMib, leastAvailableMib };
}

/** How far the n-th asked for is from place n, at worst. */
function displacement(order: readonly number[]): number {
  return Math.max(...order.map((asked, place) => Math.abs(asked - place)));
}

/** The longest that one was on its way, from its admission until it ran: ms. */
function longestWayMs(moves: readonly Move[]): number {
  const admittedMs = new Map<string, number>();
  let longestMs = 0;
  for (const { sandbox, from, to, monotonicMs } of moves) {
    if (from === null) admittedMs.set(sandbox, monotonicMs);
    else if (to === "running") longestMs = Math.max(longestMs, monotonicMs - (admittedMs.get(sandbox) ?? 0));
  }
  return longestMs;
}

/** The most sandboxes that existed at one time. */
function mostAlive(moves: readonly Move[]): number {
  const alive = new Set<string>();
  let most = 0;
  for (const { sandbox, to } of moves) {
    if (to === "deleted" || to === "failed") alive.delete(sandbox);
    else alive.add(sandbox);
    most = Math.max(most, alive.size);
  }
  return most;
}

if (gate("vm")) {
  guardLeaks("base");
  describe("Creates, all at once,", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren();
      await warren.engine.prepare(SIZE);
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    test(
      `succeed in the order of asking, ${CREATES} of them, and leave the event loop and the host's memory room`,
      async () => {
        const moves: Move[] = [];
        const unsubscribe = warren.engine.moves.subscribe((move) => moves.push(move));
        const askedAs = new Map<string, number>();
        const answers: string[] = [];
        const ready: number[] = [];
        const one = async (n: number): Promise<void> => {
          await using sandbox = await Sandbox.create(SIZE, warren.sandboxes);
          askedAs.set(sandbox.id, n);
          ready.push(n);
          answers[n] = (await sandbox.exec(["echo", String(n)])).stdout;
        };
        const { cores } = warren.host.capacity();
        const watched = await watching(warren, async () => {
          await Promise.all(Array.from({ length: CREATES }, (_, n) => one(n)));
        });
        unsubscribe();

        expect(answers).toEqual(Array.from({ length: CREATES }, (_, n) => `${n}\n`));
        const started = moves.filter(({ from }) => from === null).map(({ sandbox }) => askedAs.get(sandbox) ?? -1);
        expect(started).toEqual(Array.from({ length: CREATES }, (_, n) => n));
        // Restores under way overtake each other, but only those.
        expect(displacement(ready)).toBeLessThanOrEqual(4 * cores * LIMITS.bootsPerCore);
        // Each guest hears the first greeting: no later one is sent before that time.
        expect(longestWayMs(moves)).toBeLessThan(LIMITS.guestResyncMs);
        expect(moves.filter(({ to }) => to === "deleted").length).toBe(CREATES);
        expect(mostAlive(moves)).toBeLessThanOrEqual(cores * LIMITS.vcpusPerCore);
        expect(watched.stallMs).toBeLessThan(STALL_MAX_MS);
        expect(watched.growthMib).toBeLessThan(GROWTH_MAX_MIB);
        expect(watched.leastAvailableMib).toBeGreaterThan(LIMITS.hostReserveMib);
      },
      30_000 + CREATES * MS_PER_CREATE,
    );

    test(
      "beyond the bound of the queue are refused by an error that says so, and the others are not disturbed",
      async () => {
        const QUEUE = 6;
        await using small = await openTestWarren({ queue: QUEUE, prepared: 0 });
        await small.engine.prepare(SIZE);
        const before = traces(TEST_HOME);
        const starting = small.host.capacity().cores * LIMITS.bootsPerCore;
        const asked = QUEUE + starting + 8;
        const results = await Promise.allSettled(
          Array.from({ length: asked }, async () => {
            await using sandbox = await Sandbox.create(SIZE, small.sandboxes);
            expect((await sandbox.exec("echo here")).stdout).toBe("here\n");
          }),
        );
        const refused = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
        expect(refused.filter((error) => !isWarrenError(error, "queue_full"))).toEqual([]);
        expect(refused.length).toBeGreaterThanOrEqual(8);
        expect(asked - refused.length).toBeGreaterThanOrEqual(QUEUE);
        expect(refused[0]).toMatchObject({ message: expect.stringContaining(`${QUEUE} creates are already waiting`) });
        expect(refused[0]).toMatchObject({ fault: "capacity", retry: true });
        await expectNoLeaks(before, TEST_HOME);
      },
      VM_TEST_MS,
    );
  });
}
