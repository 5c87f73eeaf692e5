/** Whose credit is used up is stopped within a tick, whatever fails on the way. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createLog } from "../../../src/base/log.ts";
import type { AuditEntry } from "../../../src/contract/routes/api/accounts.ts";
import { WarrenError } from "../../../src/errors.ts";
import { LIMITS } from "../../../src/limits.ts";
import { CreditWatch } from "../../../src/server/billing/credit.ts";
import { Figures } from "../../../src/server/billing/figures.ts";
import { HealthBoard } from "../../../src/server/health.ts";
import { FakeClock } from "../../harness/clock.ts";

const TICK_SECONDS = 5;

interface Account {
  readonly name: string;
  /** Units of money. */
  readonly credit: number;
  /** Units a second of each of its sandboxes. */
  readonly rates: readonly number[];
}

/** Accounts whose sandboxes all begin at once and are charged by the second until they are hibernated. */
function world(accounts: readonly Account[], hibernateMs = 0) {
  const clock = new FakeClock();
  const beginMs = clock.monotonicMs();
  const stopped = new Map<string, number>();
  const idOf = (account: Account, i: number) => `${account.name}-${i}`;
  const spent = (account: Account) =>
    account.rates.reduce((sum, rate, i) => {
      const untilMs = stopped.get(idOf(account, i)) ?? clock.monotonicMs();
      return sum + (rate * (untilMs - beginMs)) / 1000;
    }, 0);
  const told: { audit: AuditEntry[]; logged: string[]; tries: string[]; most: number } = {
    ...{ audit: [], logged: [], tries: [], most: 0 },
  };
  let under = 0;
  let fails: (id: string) => WarrenError | null = () => null;
  const health = new HealthBoard();
  const figures = new Figures(clock);
  const watch = new CreditWatch({
    store: {
      exhausted: async () =>
        accounts
          .filter((account) => spent(account) >= account.credit)
          .map((account) => ({
            account: account.name,
            sandboxes: account.rates.map((_, i) => idOf(account, i)).filter((id) => !stopped.has(id)),
          })),
      audit: async (rows) => {
        told.audit.push(...rows);
      },
    },
    hostFor: () => ({
      hibernate: async ({ id }) => {
        told.tries.push(id);
        under += 1;
        told.most = Math.max(told.most, under);
        if (hibernateMs > 0) await clock.sleep(hibernateMs);
        under -= 1;
        const failure = fails(id);
        if (failure !== null) throw failure;
        stopped.set(id, clock.monotonicMs());
      },
    }),
    ...{ health, figures, clock, log: createLog("info", (line) => told.logged.push(line)) },
  });
  const over = new AbortController();
  return {
    ...{ clock, stopped, spent, told, health, figures, watch, over },
    start: () => void watch.watch(over.signal),
    fail: (how: typeof fails) => {
      fails = how;
    },
  };
}

describe("CreditWatch", () => {
  test("lets nobody overdraw more than a tick of what it runs, and hibernations", async () => {
    const rate = fc.integer({ min: 1, max: 1000 });
    const account = fc.record({
      credit: fc.integer({ min: 0, max: 100_000 }),
      rates: fc.array(rate, { minLength: 1, maxLength: 9 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(account, { minLength: 1, maxLength: 4 }),
        fc.constantFrom(0, 700, 4000),
        async (all, ms) => {
          const accounts = all.map((one, i) => ({ ...one, name: `a${i}` }));
          const it = world(accounts, ms);
          it.start();
          await it.clock.advance(110_000);
          const sandboxes = accounts.reduce((sum, { rates }) => sum + rates.length, 0);
          const stopSeconds = (ms * Math.ceil(sandboxes / LIMITS.creditHibernations)) / 1000;
          for (const one of accounts) {
            const perSecond = one.rates.reduce((sum, of) => sum + of, 0);
            const overdrawn = it.spent(one) - one.credit;
            expect(overdrawn).toBeLessThanOrEqual(perSecond * (TICK_SECONDS + stopSeconds));
          }
          expect(it.told.most).toBeLessThanOrEqual(LIMITS.creditHibernations);
          expect(new Set(it.told.tries).size).toBe(it.told.tries.length); // none twice while the first is under way
          it.over.abort();
        },
      ),
      { numRuns: 40 },
    );
  });

  test("tells the account in its audit, and the log", async () => {
    const it = world([{ name: "acme", credit: 100, rates: [10] }]);
    it.start();
    await it.clock.advance(9_000);
    expect(it.stopped.size).toBe(0);
    await it.clock.advance(1_000);
    expect([...it.stopped.keys()]).toEqual(["acme-0"]);
    expect(it.told.audit).toMatchObject([
      { account: "acme", actor: "server", action: "hibernateForCredit", target: "acme-0" },
    ]);
    expect(it.told.logged.join()).toContain("its account's credit is used up");
    expect(it.figures.hibernations()).toEqual({ done: 1, failed: 0 });
    it.over.abort();
  });

  test("tries again with the next tick what failed, says so until it is done, and stops the others meanwhile", async () => {
    const it = world([{ name: "acme", credit: 0, rates: [1, 1] }]);
    it.fail((id) => (id === "acme-0" ? new WarrenError("storage_exhausted", "no room") : null));
    it.start();
    await it.clock.advance(12_000);
    expect(it.told.tries).toEqual(["acme-0", "acme-1", "acme-0", "acme-0"]);
    expect(it.health.get().reasons.join()).toContain("1 sandboxes of accounts without credit could not be hibernated");
    expect(it.told.logged.filter((line) => line.includes("could not be hibernated")).length).toBe(1);
    it.fail(() => null);
    await it.clock.advance(5_000);
    expect(it.stopped.size).toBe(2);
    expect(it.health.get().reasons.join()).not.toContain("hibernated");
    expect(it.figures.hibernations()).toEqual({ done: 2, failed: 3 });
    it.over.abort();
  });

  test("leaves another server's sandboxes to it, and begins nothing after the end", async () => {
    const it = world([{ name: "acme", credit: 0, rates: [1, 1, 1, 1, 1, 1, 1] }], 1_000);
    it.fail(() => new WarrenError("not_found", "there is no such sandbox"));
    it.start();
    await it.clock.advance(500);
    expect(it.told.tries.length).toBe(LIMITS.creditHibernations);
    it.over.abort();
    await it.clock.advance(60_000);
    expect(it.told.tries.length).toBe(LIMITS.creditHibernations);
    expect(it.health.get().reasons.join()).not.toContain("hibernated");
    expect(it.told.audit).toEqual([]);
  });

  test("goes on when the store was away, and says that once", async () => {
    const it = world([{ name: "acme", credit: 0, rates: [1] }]);
    const away = new WarrenError("store_unavailable", "away");
    let isAway = true;
    const logged: string[] = [];
    const watch = new CreditWatch({
      store: {
        exhausted: async () => {
          if (isAway) throw away;
          return [{ account: "acme", sandboxes: ["acme-0"] }];
        },
        audit: async () => Promise.reject(away),
      },
      hostFor: () => ({ hibernate: async ({ id }) => void it.stopped.set(id, 0) }),
      ...{
        health: it.health,
        figures: it.figures,
        clock: it.clock,
        log: createLog("warn", (line) => logged.push(line)),
      },
    });
    void watch.watch(it.over.signal);
    await it.clock.advance(12_000);
    expect(logged.filter((line) => line.includes("credit could not be looked at")).length).toBe(1);
    isAway = false;
    await it.clock.advance(5_000);
    expect(it.stopped.has("acme-0")).toBe(true);
    it.over.abort();
  });
});
