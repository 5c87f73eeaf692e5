/**
 * What the database holds by itself, on both engines: it refuses what would be billed twice or changed afterwards, whoever asks
 * it; it knows the same meters, rules and first prices as the program; and one of before has used the same when it is brought up to date.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Store } from "../../src/api/store.ts";
import { nonce } from "../../src/base/id.ts";
import { SandboxState } from "../../src/contract/routes/sandboxes.ts";
import { StoredKind } from "../../src/contract/stored.ts";
import type { Driver } from "../../src/db/driver.ts";
import { isWarrenError } from "../../src/errors.ts";
import { CHARGED } from "../../src/meter/fold.ts";
import { METERS } from "../../src/meter/meters.ts";
import seed from "../../src/meter/rates.json" with { type: "json" };
import { STORED_METERS } from "../../src/meter/storage.ts";
import { account, LIFE, movesOf, newId, T0 } from "../suites/store/world.ts";
import { onBothEngines } from "./world.ts";

const SLOW_MS = 120_000;
const DAY_MS = 86_400_000;

interface Form {
  readonly store: Store;
  readonly driver: Driver;
  close(): Promise<void>;
}

/** SQLSTATE of what a statement fails with; `none` when it does not. */
async function stateOf(job: Promise<unknown>): Promise<string> {
  const thrown = await job.then(
    () => null,
    (error: unknown) => error,
  );
  if (!isWarrenError(thrown)) return thrown === null ? "none" : String(thrown);
  return thrown.cause instanceof Error ? (thrown.cause.message.split(":")[0] ?? "") : thrown.message;
}

/** SQLSTATEs: an exclusion's, a check's, a trigger's, a range's own, a foreign key's. */
const EXCLUDED = "23P01";
const UNSHAPED = "23514";
/** Without both bounds it has no quantity, which it must have. */
const UNMEASURED = "23502";
const CHANGED = "23001";
const REVERSED = "22000";
const ORPHANED = "23503";

/** Table → a column that can be set to itself. */
const KEPT = {
  ...{ intervals: "units", ledger: "amount", invoices: "total", invoice_lines_kept: "amount" },
  ...{ price_lists: "currency", meters: "factor" },
} as const;

function ledgerSuite(name: string, open: () => Promise<Form>): void {
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
    const state = (text: string, ...parameters: (string | number)[]) => stateOf(ask(text, ...parameters));
    /** Puts an interval in by hand; its SQLSTATE. */
    const put = (of: string, subject: string, meter: string, range: string) =>
      state(
        `insert into billing.intervals (account, subject, meter, units, during) values ($1, $2, $3, 1, ${range})`,
        ...[of, subject, meter],
      );
    const within = (from: string, to: string, bounds = "[)") =>
      `tstzrange('2030-01-01 ${from}+00', '2030-01-01 ${to}+00', '${bounds}')`;

    test("An interval that overlaps another of the same thing and meter is refused, one beside it is not", async () => {
      const [mine, id] = [await account(form().store), newId()];
      expect(await put(mine, id, "vcpu_ms", within("10:00", "11:00"))).toBe("none");
      for (const [from, to] of [
        ["10:00", "11:00"],
        ["10:59:59.999", "12:00"],
        ["09:00", "10:00:00.001"],
        ["10:30", "10:31"],
        ["09:00", "12:00"],
      ] as const) {
        expect(await put(mine, id, "vcpu_ms", within(from, to))).toBe(EXCLUDED);
      }
      expect(await put(await account(form().store), id, "vcpu_ms", within("10:00", "11:00"))).toBe(EXCLUDED);
      expect(await put(mine, id, "memory_mib_ms", within("10:00", "11:00"))).toBe("none");
      expect(await put(mine, newId(), "vcpu_ms", within("10:00", "11:00"))).toBe("none");
      expect(await put(mine, id, "vcpu_ms", within("11:00", "12:00"))).toBe("none");
      expect(await put(mine, id, "creates", within("10:00", "10:00", "[]"))).toBe("none");
      expect(await put(mine, id, "creates", within("10:00", "10:00", "[]"))).toBe(EXCLUDED);
    });

    test("A negative duration, an unknown meter, units below nothing, no account: refused", async () => {
      const [mine, id] = [await account(form().store), newId()];
      expect(await put(mine, id, "vcpu_ms", within("11:00", "10:00"))).toBe(REVERSED);
      expect(await put(mine, id, "gpu_ms", within("10:00", "11:00"))).toBe(UNSHAPED);
      expect(await put("nobody", id, "vcpu_ms", within("10:00", "11:00"))).toBe(ORPHANED);
      const negative = `insert into billing.intervals (account, subject, meter, units, during)
        values ($1, $2, 'vcpu_ms', -1, ${within("10:00", "11:00")})`;
      expect(await state(negative, mine, id)).toBe(UNSHAPED);
    });

    test("A level that is empty, endless, not of whole milliseconds or over midnight, and a count that lasts: refused", async () => {
      const [mine, id] = [await account(form().store), newId()];
      for (const range of [
        within("10:00", "10:00"),
        within("10:00", "10:00", "[]"),
        within("10:00", "11:00", "[]"),
        within("10:00", "11:00", "()"),
        within("10:00:00.0001", "11:00"),
        within("10:00", "11:00:00.0001"),
        "tstzrange('2030-01-01 10:00+00', null)",
        "tstzrange(null, '2030-01-01 10:00+00')",
        "tstzrange('2030-01-01 23:00+00', '2030-01-02 00:00:00.001+00')",
      ]) {
        const refused = await put(mine, id, "volume_mib_s", range);
        expect([range, UNMEASURED, UNSHAPED]).toContain(refused);
      }
      expect(await put(mine, id, "volume_mib_s", within("23:00", "24:00"))).toBe("none");
      expect(await put(mine, id, "egress_bytes", within("10:00", "11:00"))).toBe(UNSHAPED);
      expect(await put(mine, id, "egress_bytes", within("10:00", "10:00"))).toBe(UNMEASURED);
    });

    test("What is written stays as it is: no interval, entry or invoice is changed, removed or cleared away", async () => {
      for (const [table, column] of Object.entries(KEPT)) {
        for (const change of [
          `update billing.${table} set ${column} = ${column}`,
          `delete from billing.${table}`,
          `truncate billing.${table} cascade`,
        ]) {
          expect([change, await state(change)]).toEqual([change, CHANGED]);
        }
      }
    });

    test("A ledger entry is charged once, and nothing is booked in a window that is closed, nor is that opened again", async () => {
      const [mine, id, day] = [await account(form().store), newId(), "2029-12-31"];
      await put(mine, id, "vcpu_ms", within("10:00", "11:00"));
      await ask("insert into billing.windows (day) values ($1::date) on conflict do nothing", day);
      const charge = `insert into billing.ledger (account, kind, interval, "window", day, meter, quantity, list, price, amount, currency)
        select account, 'charge', id, $2::date, '2030-01-01', meter, quantity, 'default', 0.00001, 0.036, 'USD'
        from billing.intervals where subject = $1`;
      for (const wrong of ["'NaN'", "'Infinity'", "'-Infinity'"]) {
        expect(await state(charge.replace("0.036", wrong), id, day)).toBe(UNSHAPED);
        expect(await state(charge.replace("0.00001", wrong), id, day)).toBe(UNSHAPED);
      }
      expect(await state(charge, id, day)).toBe("none");
      expect(await state(charge, id, day)).toBe("23505");
      await ask("update billing.windows set closed_at = now() where day = $1::date and closed_at is null", day);
      expect(await state("update billing.windows set closed_at = null where day = $1::date", day)).toBe(CHANGED);
      expect(await state("delete from billing.windows where day = $1::date", day)).toBe(CHANGED);
      await put(mine, id, "vcpu_ms", within("12:00", "13:00"));
      const late = charge.replace("where subject = $1", "where subject = $1 and lower(during) = '2030-01-01 12:00+00'");
      expect(await state(late, id, day)).toBe(CHANGED);
      const rollup = `insert into billing.rollups ("window", day, account, template, meter, quantity, amount, currency)
        values ($2::date, '2030-01-01', $1, '', 'vcpu_ms', 1, 1, 'USD')`;
      expect(await state(rollup, mine, day)).toBe(CHANGED);
    });

    test("A price of a day that has begun is not changed, and no list gets one", async () => {
      const list = `l-${nonce()}`;
      const begun =
        "insert into billing.prices (list, meter, from_day, price) values ($1, 'creates', billing.today(), 1)";
      await ask("insert into billing.price_lists (id, currency) values ($1, 'USD')", list);
      expect(await state(begun, list)).toBe(CHANGED);
      expect(await state(begun, "default")).toBe(CHANGED);
      expect(await state("update billing.prices set price = 0 where list = 'default'")).toBe(CHANGED);
      expect(await state("delete from billing.prices where list = 'default'")).toBe(CHANGED);
      const later =
        "insert into billing.prices (list, meter, from_day, price) values ($1, 'creates', billing.today() + 1, $2)";
      expect(await state(later, list, -1)).toBe(UNSHAPED);
      expect(await state(later, list, 1)).toBe("none");
      expect(await state("update billing.prices set price = 2 where list = $1", list)).toBe("none");
      const back = "update billing.prices set from_day = billing.today() where list = $1";
      expect(await state(back, list)).toBe(CHANGED);
    });

    test("A plan that an account has is not changed, one that an account will have is", async () => {
      const { store } = form();
      const [mine, plan] = [await account(store), `p-${nonce()}`];
      await ask("insert into billing.plans (id, list) values ($1, 'default')", plan);
      const include = "insert into billing.plan_included (plan, meter, quantity) values ($1, $2, 1)";
      expect(await state(include, plan, "creates")).toBe("none");
      const have =
        "insert into billing.subscriptions (account, plan, from_day) values ($1, $2, billing.today() + $3::integer)";
      const changes = [
        "update billing.plans set cap = 5 where id = $1",
        "update billing.plan_included set quantity = 2 where plan = $1",
        "update billing.plan_included set plan = $1 where plan = $1",
      ];
      await ask(have, mine, plan, 1);
      for (const change of changes) expect([change, await state(change, plan)]).toEqual([change, "none"]);
      await ask(have, mine, plan, 0);
      for (const change of [...changes, "delete from billing.plan_included where plan = $1"]) {
        expect([change, await state(change, plan)]).toEqual([change, CHANGED]);
      }
      expect(await state(include, plan, "vcpu_ms")).toBe(CHANGED);
      for (const table of ["plans", "plan_included"]) {
        expect(await state(`truncate billing.${table} cascade`)).toBe(CHANGED);
      }
    });

    test("A price, a bound or a quantity that is no finite number is refused", async () => {
      const list = `l-${nonce()}`;
      await ask("insert into billing.price_lists (id, currency) values ($1, 'USD')", list);
      await ask("insert into billing.plans (id, list) values ($1, $1)", list);
      for (const amount of ["NaN", "Infinity"]) {
        for (const statement of [
          "insert into billing.prices (list, meter, from_day, price) values ($1, 'creates', billing.today() + 1, $2::numeric)",
          "insert into billing.plans (id, list, cap) values ($1 || 'c', $1, $2::numeric)",
          "insert into billing.plans (id, list, minimum) values ($1 || 'm', $1, $2::numeric)",
          "insert into billing.plan_included (plan, meter, quantity) values ($1, 'creates', $2::numeric)",
          "insert into billing.meters (meter, kind, unit, factor, describes) values ($1, 'count', '', $2::numeric, '')",
        ]) {
          expect([statement, await state(statement, list, amount)]).toEqual([statement, UNSHAPED]);
        }
      }
    });

    test("The database has the program's meters, rules and first prices", async () => {
      const meters = await ask("select meter, kind, unit, trim_scale(factor)::text, describes from billing.meters");
      const told = meters.map(([meter, kind, unit, factor, describes]) => [meter, { kind, unit, factor, describes }]);
      expect(Object.fromEntries(told)).toEqual(METERS);
      for (const { const: of } of SandboxState.anyOf) {
        const rows = await ask("select meter, units from billing.charged($1, 3, 700)", of);
        const sizes = Object.entries(CHARGED[of] as Record<string, "cpu" | "memoryMib">);
        const charged = sizes.map(([meter, size]) => [meter, size === "cpu" ? 3 : 700]);
        expect(Object.fromEntries(rows.map(([meter, units]) => [meter, Number(units)]))).toEqual(
          Object.fromEntries(charged),
        );
      }
      for (const { const: kind } of StoredKind.anyOf) {
        expect(await ask("select billing.stored_meter($1)", kind)).toEqual([[STORED_METERS[kind]]]);
      }
      const prices = await ask(`select list, currency, meter, price::text from billing.prices p
        join billing.price_lists l on l.id = p.list where list in ('default', 'pandastack-hosted') and from_day = '1970-01-01'`);
      const lists = Object.entries(seed).flatMap(([list, { currency, prices: of }]) =>
        Object.entries(of).map(([meter, price]) => [list, currency, meter, price]),
      );
      expect(prices.map(String).sort()).toEqual(lists.map(String).sort());
    });

    test("billing.quantity is additive over any cut, nothing of nothing, and never less of more", async () => {
      const micros = fc.integer({ min: 0, max: 3_000_000_000 });
      const given = fc.record({
        ...{ meter: fc.constantFrom("vcpu_ms", "snapshot_mib_s"), units: fc.integer({ min: 0, max: 2 ** 40 }) },
        cuts: fc.array(micros, { minLength: 2, maxLength: 8 }),
      });
      await fc.assert(
        fc.asyncProperty(given, async ({ meter, units, cuts }) => {
          const sorted = [...cuts].sort((a, b) => a - b);
          const [row] = await ask(
            `with at as (select ordinality as n, '2030-01-01 00:00+00'::timestamptz + make_interval(secs => m::numeric / 1000000) as t
              from jsonb_array_elements_text($3::text::jsonb) with ordinality as e(m, ordinality)),
            part as (select t, lead(t) over (order by n) as u from at)
            select coalesce(sum(case when t < u then billing.quantity($1, $2::bigint, t, u) else 0 end), 0)::text,
              (select case when min(t) = max(t) then 0 else billing.quantity($1, $2::bigint, min(t), max(t)) end from at)::text,
              coalesce(min(case when t < u then billing.quantity($1, $2::bigint, t, u) end), 0) >= 0
            from part where u is not null`,
            ...[meter, units, JSON.stringify(sorted)],
          );
          const per = meter === "vcpu_ms" ? 1000 : 1_000_000;
          const [first = 0, last = 0] = [sorted[0], sorted.at(-1)];
          const whole = BigInt(units) * BigInt(Math.floor(last / per) - Math.floor(first / per));
          expect(row).toEqual([String(whole), String(whole), true]);
        }),
        { numRuns: 60 },
      );
    });

    test("billing.cut writes what is open up to the last midnight that was lived through, once, and the move after it the rest", async () => {
      const { store } = form();
      const [mine, id] = [await account(store, { creditUsd: "10" }), newId()];
      const used = async () =>
        (
          await ask("select sum(quantity)::text from billing.intervals where subject = $1 and meter = 'vcpu_ms'", id)
        )[0]?.[0];
      const cut = (ms: number) => ask("select billing.cut($1::timestamptz, 1000)", new Date(ms).toISOString());
      await store.record(movesOf(mine, id, LIFE.slice(0, 2)));
      await cut(T0 + DAY_MS + 61_000); // not seen alive since
      expect(await used()).toBeNull();
      const beat = (seenMs: number) => store.heartbeat([{ sandbox: id, seenMs, cpuUsedMs: null, egressBytes: null }]);
      await beat(T0 + DAY_MS + 59_999);
      await cut(T0 + DAY_MS + 61_000);
      expect(await used()).toBeNull();
      await beat(T0 + 3 * DAY_MS + 1);
      for (let again = 0; again < 3; again++) await cut(T0 + 3 * DAY_MS + 61_000);
      expect(await used()).toBe(String(2 * DAY_MS - 40));
      const steps = [...LIFE.slice(0, 2), ["deleted", 3 * DAY_MS + 7.5] as const];
      for (let again = 0; again < 3; again++) await store.record(movesOf(mine, id, steps));
      expect(await used()).toBe(String(3 * DAY_MS + 7 - 40));
      const ms = 3 * DAY_MS + 7 - 40;
      const cost = 10 - ms * (1e-8 + 512 * 3.90625e-12);
      expect(Number((await store.account(mine))?.creditUsd)).toBeCloseTo(cost, 9);
    });
  });
}

onBothEngines(ledgerSuite);
