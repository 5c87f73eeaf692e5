/**
 * What no wall clock and no midnight may do to the books, on both engines: many things are cut in pieces, no server's clock charges
 * or closes what has not been, one that is set back gives nothing for free, and an end that nobody saw loses nothing that was told of.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Move } from "../../src/contract/move.ts";
import type { Stored } from "../../src/contract/stored.ts";
import { account, booking, LIFE, movesOf, newId, type Step, T0 } from "../suites/store/world.ts";
import { onBothEngines, type postgresForm } from "./world.ts";

const SLOW_MS = 120_000;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

type Form = Pick<Awaited<ReturnType<typeof postgresForm>>, "store" | "driver" | "meter" | "close">;

const volume = (mine: string, id: string, atMs: number, sizeBytes = 1 << 20): Stored => ({
  ...{ kind: "volume", id, account: mine, sizeBytes, monotonicMs: atMs, wallMs: atMs },
});

function clocksSuite(name: string, open: () => Promise<Form>): void {
  describe(name, () => {
    let opened: Form | null = null;
    beforeAll(async () => {
      opened = await open();
    }, SLOW_MS);
    afterAll(async () => {
      await opened?.close();
    }, SLOW_MS);
    const form = (): Form => {
      if (opened === null) throw new Error("not open");
      return opened;
    };
    const ask = (text: string, ...parameters: (string | number)[]) => form().driver.query({ text, parameters });
    /** What the database takes for now, at most. */
    const latest = (at: string) =>
      form().driver.script(
        `create or replace function billing.latest() returns timestamptz language sql stable as $$ select '${at}'::timestamptz $$`,
      );
    const cut = async (ms: number, most: number) =>
      Number((await ask("select billing.cut($1::timestamptz, $2)", new Date(ms).toISOString(), most))[0]?.[0]);
    const beat = (sandbox: string, seenMs: number, cpuUsedMs: number | null = null) =>
      form().store.heartbeat([{ sandbox, seenMs, cpuUsedMs, egressBytes: cpuUsedMs }]);

    test("billing.cut takes few of many in one transaction, also few days of one, and comes to the same", async () => {
      const { store } = form();
      const owners = [await account(store), await account(store), await account(store)];
      const begin = T0 - 4 * DAY_MS;
      for (const mine of owners)
        await store.recordStored(Array.from({ length: 40 }, (_, i) => volume(mine, `v${i}`, begin)));
      const dead = newId();
      const lost = await account(store);
      await store.record(movesOf(lost, dead, LIFE.slice(0, 2), { monotonicMs: begin + 1 }));
      const told: number[] = [];
      do told.push(await cut(T0 + HOUR_MS, 40));
      while (told.at(-1) !== 0);
      expect(told.length).toBeGreaterThan(10);
      expect(Math.max(...told)).toBeLessThanOrEqual(10); // of four days each
      expect(told.reduce((sum, one) => sum + one, 0)).toBe(120);
      for (const mine of owners) {
        const [row] = await ask(
          "select count(*)::integer, sum(quantity)::text, max(upper(during)) = $2::timestamptz from billing.intervals where account = $1",
          ...[mine, new Date(T0).toISOString()],
        );
        expect(row).toEqual([160, String(40 * 4 * 86_400), true]);
      }
      const left = await ask(
        "select count(*)::integer from billing.intervals where subject = $1 and meter = 'vcpu_ms'",
        dead,
      );
      expect(left).toEqual([[0]]);
      for (const mine of owners)
        await store.recordStored(Array.from({ length: 40 }, (_, i) => volume(mine, `v${i}`, T0, 0)));
    });

    test(
      "Store.settleBooks gets over a midnight with more than one statement could cut",
      async () => {
        const { store } = form();
        const mine = await account(store);
        await ask(
          `insert into stored_now (account, kind, id, size_bytes, at, monotonic_ms, node, since_ms)
            select $1, 'snapshot', 's' || g, 1048576, now(), 1, 'n', $2::bigint from generate_series(1, 12000) as g`,
          ...[mine, T0 + HOUR_MS],
        );
        expect((await store.settleBooks(T0 + DAY_MS + HOUR_MS)).cut).toBe(12_000);
        expect(await ask("select count(*)::integer from billing.ledger where account = $1", mine)).toEqual([[12_000]]);
        await ask("update stored_now set since_ms = null, size_bytes = 0 where account = $1", mine);
      },
      SLOW_MS,
    );

    test("A server whose clock is ahead of the database's cuts, charges, closes and issues nothing of what is to come", async () => {
      const { store } = form();
      const mine = await account(store, { creditUsd: "10" });
      const id = newId();
      const from = T0 + 3 * DAY_MS + 23 * HOUR_MS;
      await store.settleBooks(from);
      const before = await ask("select max(day)::text, count(*)::integer from billing.windows");
      await store.recordStored([volume(mine, id, from)]);
      await latest(new Date(from + 60_000).toISOString());
      try {
        for (const aheadMs of [4 * 60_000, HOUR_MS + 120_000, 40 * DAY_MS]) {
          expect(await store.settleBooks(from + 60_000 + aheadMs)).toEqual({
            cut: 0,
            charged: 0,
            closed: 0,
            issued: 0,
          });
        }
        expect(await ask("select max(day)::text, count(*)::integer from billing.windows")).toEqual(before);
      } finally {
        await latest("infinity");
      }
      await store.recordStored([volume(mine, id, from + 120_000, 0)]);
      const [row] = await ask("select sum(quantity)::text from billing.intervals where account = $1", mine);
      expect(row).toEqual(["120"]);
    });

    test("The database's own now is what no server's clock is believed beyond", async () => {
      const [row] = await ask("select pg_get_functiondef('billing.latest'::regproc)");
      expect(String(row?.[0])).toContain("infinity"); // of tests; the program's is in migrations/schema.sql
      const kept = await Bun.file("migrations/schema.sql").text();
      expect(kept).toMatch(/FUNCTION billing\.latest\(\)[^$]*\$function\$ SELECT now\(\) \$function\$/);
    });

    test("A wall clock that is set back charges credit for all that was seen, one that is ahead for a minute more", async () => {
      const { store } = form();
      const mine = await account(store, { creditUsd: "0.05", onEmpty: "hibernate" });
      const id = newId();
      await store.record(movesOf(mine, id, LIFE.slice(0, 2)));
      await beat(id, T0 + 40 + HOUR_MS);
      const cost = async (ms: number) =>
        Number((await ask("select billing.open_cost($1, $2::bigint)::text", mine, ms))[0]?.[0]);
      const hour = 3600 * (0.00001 + 0.000002);
      expect(await cost(T0 + 40 + HOUR_MS)).toBeCloseTo(hour, 12);
      expect(await cost(T0 - 40 * DAY_MS)).toBeCloseTo(hour, 12);
      expect(await cost(T0 + 40 * DAY_MS)).toBeCloseTo((hour * 61) / 60, 12);
      await beat(id, T0 + 40 + 2 * HOUR_MS);
      expect((await store.exhausted(T0)).map((one) => one.account)).toContain(mine);
      expect((await store.admit(mine, [booking({ atMs: T0 })], null)).kind).toBe("no-credit");
      await store.record(movesOf(mine, id, LIFE));
    });

    describe("An end that nobody saw", () => {
      const RUN: readonly Step[] = LIFE.slice(0, 2);
      const used = async (id: string) => {
        const { closed } = (await form().meter?.(id)) ?? { closed: null };
        return [Number(closed?.["cpu_used_ms"]), Number(closed?.["egress_bytes"])];
      };
      const began = async (mine: string) => {
        const id = newId();
        await form().store.record(movesOf(mine, id, RUN));
        await beat(id, T0 + 50_000, 700);
        return id;
      };
      const left = async (id: string) =>
        (await ask("select open_cpu_used_ms::integer, open_egress_bytes::integer from sandboxes where id = $1", id))[0];

      test("is charged with what its run was last known to have used, once, in any order", async () => {
        const { store } = form();
        const mine = await account(store);
        const orders: ((rows: readonly Move[]) => Promise<void>)[] = [
          (rows) => store.record(rows),
          async (rows) => {
            for (const row of rows) await store.record([row]);
          },
          async (rows) => {
            for (const row of [...rows].reverse()) await store.record([row]);
          },
        ];
        for (const order of orders) {
          const id = await began(mine);
          for (let again = 0; again < 3; again++) await order(movesOf(mine, id, LIFE).slice(2));
          expect(await used(id)).toEqual([700, 700]);
          expect(await left(id)).toEqual([0, 0]);
        }
      });

      test("is charged with what its move says where it says it, whatever was known before", async () => {
        const { store } = form();
        const mine = await account(store);
        const told: Partial<Move> = { cpuUsedMs: 900, network: { bytesOut: 800, bytesIn: 1, connections: 1 } };
        const steps = [...RUN, ["stopping", 60_040, told], ["deleted", 60_100]] as const satisfies readonly Step[];
        for (const turned of [false, true]) {
          const id = await began(mine);
          const rows = movesOf(mine, id, steps).slice(2);
          for (const row of turned ? rows.reverse() : rows) await store.record([row]);
          expect(await used(id)).toEqual([900, 800]);
        }
        // Said once, for two runs of which the second is as silent as it is short.
        const id = await began(mine);
        const runs = [...RUN, ["hibernated", 60_040, told], ["running", 61_000], ["failed", 61_001]] as const;
        await store.record(movesOf(mine, id, runs));
        expect(await used(id)).toEqual([900, 800]);
      });

      test("is charged with the use before a pause too; a sleep ends a run, and the next one counts from nothing", async () => {
        const { store } = form();
        const mine = await account(store);
        const id = await began(mine);
        const steps: Step[] = [
          ...RUN,
          ["paused", 51_000],
          ["hibernated", 52_000],
          ["running", 53_000],
          ["stopping", 60_000],
        ];
        await store.record(movesOf(mine, id, steps.slice(0, 3)));
        expect(await left(id)).toEqual([700, 700]);
        await store.record(movesOf(mine, id, steps.slice(0, 5)));
        expect(await used(id)).toEqual([700, 700]);
        expect(await left(id)).toEqual([0, 0]);
        await beat(id, T0 + 54_000, 11);
        await store.record(movesOf(mine, id, steps));
        expect(await used(id)).toEqual([711, 711]);
      });
    });
  });
}

onBothEngines(clocksSuite);
