/**
 * Credit on the real books: whatever runs of an account whose credit is used up is hibernated within a tick, so that what it
 * owes at the end is at most a tick of what it ran. Prices are the default list's.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Store } from "../../src/api/store.ts";
import { createLog } from "../../src/base/log.ts";
import { CreditWatch } from "../../src/server/billing/credit.ts";
import { Figures } from "../../src/server/billing/figures.ts";
import { HealthBoard } from "../../src/server/health.ts";
import { FakeClock } from "../harness/clock.ts";
import { gate } from "../harness/gates.ts";
import { newDatabase } from "../harness/pglite.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { account, movesOf, newId, type Step, T0 } from "../suites/store/world.ts";
import { Folder, pgliteForm, postgresForm } from "./world.ts";

const TICK_MS = 5_000;
/** US dollars of the default list, in units of 10^-12, for a millisecond: 0.000010 a vCPU-second, 0.000004 a GiB-second. */
const VCPU_MS = 10_000;
const MIB_MS = 4_000 / 1024;

interface Size {
  readonly cpu: number;
  readonly memoryMib: number;
}

const costOf = ({ cpu, memoryMib }: Size) => cpu * VCPU_MS + memoryMib * MIB_MS;

/** Runs until what it has is used up and stopped, or `forMs` are over; what is left of its credit, in units of 10^-12 USD. */
async function spend(
  store: Store,
  sizes: readonly Size[],
  { creditPico, offsetMs, everyMs = TICK_MS }: { creditPico: number; offsetMs: number; everyMs?: number },
): Promise<number> {
  const clock = new FakeClock(T0 + offsetMs);
  const creditUsd = `0.${String(creditPico).padStart(12, "0")}`;
  const mine = await account(store, { creditUsd, onEmpty: "hibernate" });
  const live = new Map(sizes.map((size) => [newId(), size]));
  const beginMs = clock.wallMs();
  const steps = (last: readonly Step[]): Step[] => [["creating", beginMs - T0], ["running", beginMs - T0], ...last];
  for (const [id, size] of live) await store.record(movesOf(mine, id, steps([]), size));
  const watch = new CreditWatch({
    store: {
      // Other cases' accounts are theirs.
      exhausted: async (nowMs) => (await store.exhausted(nowMs)).filter((one) => one.account === mine),
      audit: (rows) => store.audit(rows),
    },
    hostFor: () => ({
      hibernate: async ({ id }) => {
        const rows = movesOf(mine, id, steps([["hibernated", clock.wallMs() - T0]]), live.get(id));
        live.delete(id);
        await store.record(rows);
      },
    }),
    ...{ health: new HealthBoard(), figures: new Figures(clock), clock, log: createLog("error") },
  });
  const over = new AbortController();
  const perMs = sizes.reduce((sum, size) => sum + costOf(size), 0);
  const enoughMs = creditPico / perMs + 3 * everyMs;
  for (let ms = 0; ms < enoughMs; ms += everyMs) {
    await watch.tick(over.signal);
    await watch.idle();
    await clock.advance(everyMs);
  }
  expect(live.size).toBe(0);
  const left = Number((await store.account(mine))?.creditUsd) * 1e12;
  expect(left).toBeLessThanOrEqual(0.5); // it has used all that it paid for
  expect(await store.exhausted(clock.wallMs())).not.toContainEqual(expect.objectContaining({ account: mine }));
  return left;
}

async function bounded(store: Store): Promise<void> {
  const size = fc.record({ cpu: fc.integer({ min: 1, max: 32 }), memoryMib: fc.integer({ min: 128, max: 65_536 }) });
  const sizes = fc.array(size, { minLength: 1, maxLength: 4 });
  const ticks = fc.integer({ min: 0, max: 6000 }).map((thousandths) => thousandths / 1000);
  // Also over a midnight, where what is open is cut.
  const offset = fc.constantFrom(0, 86_400_000 - 12_345);
  await fc.assert(
    fc.asyncProperty(sizes, ticks, offset, async (all, lasts, offsetMs) => {
      const perTick = all.reduce((sum, one) => sum + costOf(one), 0) * TICK_MS;
      const left = await spend(store, all, { creditPico: Math.floor(perTick * lasts), offsetMs });
      expect(-left).toBeLessThanOrEqual(perTick + 1);
    }),
    { numRuns: 25 },
  );
  // Who looks less often loses more: the bound is the tick's.
  const one = { cpu: 1, memoryMib: 1024 };
  const seldom = { creditPico: Math.floor(costOf(one) * TICK_MS * 1.5), offsetMs: 0, everyMs: 3 * TICK_MS };
  expect(-(await spend(store, [one], seldom))).toBeGreaterThan(costOf(one) * TICK_MS);
}

test("Credit on PGlite is overdrawn by no more than a tick of what runs", async () => {
  using folder = new Folder();
  await newDatabase(folder.path);
  const form = await pgliteForm(folder.path);
  try {
    await bounded(form.store);
  } finally {
    await form.close();
  }
}, 300_000);

if (gate("postgres")) {
  test("Credit on PostgreSQL is overdrawn by no more than a tick of what runs", async () => {
    await using server = await PrivatePostgres.open();
    const form = await postgresForm(await server.database());
    try {
      await bounded(form.store);
    } finally {
      await form.close();
    }
  }, 300_000);
}
