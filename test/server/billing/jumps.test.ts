/**
 * Wall clocks that jump, from the server's moves through the database to reports and credit: an hour either way,
 * a leap second, and a host that was suspended, whose monotonic clock stood still. What ran is charged, and no jump.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { newAccount } from "../../../src/api/access/tokens.ts";
import type { Move } from "../../../src/contract/move.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Folder, pgliteForm } from "../../db/world.ts";
import { newDatabase } from "../../harness/pglite.ts";
import { ACCOUNT, TruthWorld } from "../truth-world.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const JUMPS = {
  "an hour back": -HOUR_MS,
  "an hour on": HOUR_MS,
  "a leap second": -1000,
  "a night's sleep": 8 * HOUR_MS,
};
/** 1 vCPU at $0.000010 and half a GiB at $0.000004 a second. */
const USD_PER_SECOND = 0.000012;

/** Some seconds of running, with a jump in each pause, before and after a server that is killed, and while it hibernates. */
async function lived(
  byMs: number,
): Promise<{ readonly ranMs: number; readonly moves: Move[]; readonly wallMs: number }> {
  const world = new TruthWorld({ accounts: true });
  const { clock } = world;
  await world.start();
  const { id } = await world.host.create({ detached: true });
  const beganMs = clock.monotonicMs();
  let restedMs = 0;
  const jump = async () => {
    await clock.advance(4_000);
    clock.jumpWall(byMs);
    await clock.advance(3_000);
  };
  await jump();
  world.kill();
  await jump();
  await world.start();
  await jump();
  await world.host.hibernate({ id });
  const sleptMs = clock.monotonicMs();
  await jump();
  await world.host.wake({ id });
  restedMs += clock.monotonicMs() - sleptMs;
  await jump();
  world.machine(id)?.die({ reason: "vmm_exit", end: { atMs: clock.monotonicMs(), cpuMs: 0 } });
  const ranMs = clock.monotonicMs() - beganMs - restedMs;
  await clock.advance(3 * LIMITS.inheritedLookMs);
  return { ranMs, moves: [...world.books.moves.values()], wallMs: clock.wallMs() };
}

for (const [name, byMs] of Object.entries(JUMPS)) {
  test(`A wall clock that makes a jump of ${name} is in no interval, report, ledger or credit`, async () => {
    const { ranMs, moves, wallMs } = await lived(byMs);
    using folder = new Folder();
    await newDatabase(folder.path);
    const { store, driver, close } = await pgliteForm(folder.path);
    try {
      await store.createAccount(newAccount({ id: ACCOUNT, name: ACCOUNT, creditUsd: "1" }, {}, 0));
      // In any order, and three times.
      const [shuffled = moves] = fc.sample(fc.shuffledSubarray(moves, { minLength: moves.length }), 1);
      for (const move of [...shuffled, ...moves, ...moves]) await store.record([move]);
      const laterMs = wallMs + 40 * DAY_MS;
      await store.settleBooks(laterMs);
      const sums = await driver.query({
        text: `select sum(quantity) filter (where meter = 'vcpu_ms')::float8,
          (select sum(quantity)::float8 from billing.rollups where meter = 'vcpu_ms'),
          (select sum(amount)::float8 from billing.ledger) from billing.intervals`,
        parameters: [],
      });
      const [billedMs, rolledMs, usd] = (sums[0] ?? []).map(Number);
      // Rounded to whole milliseconds at each of its ends, in favour of who pays.
      expect(billedMs).toBeLessThanOrEqual(ranMs);
      expect(billedMs).toBeGreaterThan(ranMs - 4);
      expect(rolledMs).toBe(Number(billedMs));
      expect(usd).toBeCloseTo((Number(billedMs) / 1000) * USD_PER_SECOND, 12);
      const range = { fromMs: Date.UTC(2029, 0), toMs: Date.UTC(2031, 0) };
      const report = await store.usage(ACCOUNT, { ...range, timeZone: "UTC", groupBy: [] }, laterMs);
      expect(Number(report.meters["vcpu_ms"])).toBe(Number(billedMs));
      expect(Number(report.total)).toBeCloseTo(Number(usd), 12);
      expect(Number((await store.account(ACCOUNT))?.creditUsd)).toBeCloseTo(1 - Number(usd), 12);
    } finally {
      await close();
    }
  }, 60_000);
}
