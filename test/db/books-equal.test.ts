/**
 * The same facts in any order, settled in any pieces, come to the same to the last digit: in the ledger, the rollups, the reports
 * and the invoices, on PGlite and on PostgreSQL.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { nonce } from "../../src/base/id.ts";
import { gate } from "../harness/gates.ts";
import { newDatabase } from "../harness/pglite.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { type BooksForm, DAY_MS, type Fact, HOUR_MS, rows, sums, utc, write } from "../suites/store/books/world.ts";
import { accountInfo } from "../suites/store/world.ts";
import { Folder, pgliteForm, postgresForm } from "./world.ts";

const SLOW_MS = 240_000;
const T = utc("2030-01-30");
/** In the month after that of the facts: what is settled late is on the next invoice. */
const END = utc("2030-03-01") + HOUR_MS;
const LEVELS = ["vcpu_ms", "memory_mib_ms", "paused_memory_mib_ms", "hibernated_mib_s", "volume_mib_s"] as const;
const COUNTS = ["egress_bytes", "creates", "cpu_used_ms"] as const;
/** Digits of every kind: powers of two below, thirds above, 18 decimals. */
const PRICES = {
  ...{ vcpu_ms: "0.000010", memory_mib_ms: "0.000004000000000001", paused_memory_mib_ms: "0.333333333333333333" },
  ...{ volume_mib_s: "0.0000000001", egress_bytes: "0.09", creates: "7", cpu_used_ms: "0.000000000000000001" },
};

interface Drawn {
  readonly meter: (typeof LEVELS)[number] | (typeof COUNTS)[number];
  readonly units: number;
  readonly fromMs: number;
  readonly lengthMs: number;
  readonly template: string | null;
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  meter: fc.constantFrom(...LEVELS, ...COUNTS),
  units: fc.integer({ min: 1, max: 2 ** 31 }),
  fromMs: fc.integer({ min: 0, max: 3 * DAY_MS }),
  lengthMs: fc.integer({ min: 1, max: 3 * DAY_MS }),
  template: fc.constantFrom("base", "ünïcode", null),
});

/** One way to come to the end: in which order, how many at a time, how often again, when what is settled. */
const course = fc.record({
  order: fc.array(fc.nat(), { minLength: 12, maxLength: 12 }),
  piece: fc.integer({ min: 1, max: 6 }),
  settleMs: fc.array(fc.integer({ min: 0, max: 4 * DAY_MS }), { minLength: 3, maxLength: 3 }),
});
type Course = typeof course extends fc.Arbitrary<infer T> ? T : never;

if (gate("postgres")) {
  describe("PGlite beside PostgreSQL", () => {
    const forms: (BooksForm & { close(): PromiseLike<void> })[] = [];
    const folder = new Folder();
    let server: PrivatePostgres | null = null;
    beforeAll(async () => {
      await newDatabase(folder.path);
      server = await PrivatePostgres.open();
      forms.push(await pgliteForm(folder.path), await postgresForm(await server.database()));
      for (const { store, driver } of forms) {
        await store.setPrices(
          { list: "odd", currency: undefined, account: undefined, fromDay: undefined, prices: PRICES },
          utc("2026-11-21"),
        );
        const later = { vcpu_ms: "0.000011", volume_mib_s: "0" };
        const change = { list: "odd", currency: undefined, account: undefined, fromDay: "2030-02-01", prices: later };
        await store.setPrices(change, utc("2026-11-21"));
        await store.setPlan({
          id: "odd",
          list: "odd",
          minimum: "1",
          cap: "100000",
          included: { vcpu_ms: "123456789012" },
        });
        expect(await rows(driver, "select 1")).toEqual([[1]]);
      }
    }, SLOW_MS);
    afterAll(async () => {
      for (const { close } of forms) await close();
      await server?.[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    }, SLOW_MS);

    /** What is told of an account in the end. */
    async function told({ store, driver }: BooksForm, mine: string) {
      const question = { fromMs: T - DAY_MS, toMs: T + 10 * DAY_MS, timeZone: "America/St_Johns" };
      const groupBy = [{ kind: "day" }, { kind: "template" }, { kind: "sandbox" }] as const;
      const [draft] = await store.invoices(mine, END);
      return {
        intervals: await sums(driver, "intervals", mine),
        ledger: await sums(driver, "ledger", mine),
        rollups: await sums(driver, "rollups", mine),
        report: await store.usage(mine, { ...question, groupBy }, END),
        entries: await store.usageEntries(mine, { ...question, after: null, limit: 500 }, END),
        draft: await store.invoice(mine, draft?.id ?? "", END),
      };
    }

    async function go(form: BooksForm, facts: readonly Fact[], { order, piece, settleMs }: Course) {
      const mixed = facts
        .map((fact, i) => ({ fact, place: order[i % order.length] ?? 0 }))
        .sort((a, b) => a.place - b.place)
        .map(({ fact }) => fact);
      for (let i = 0; i < mixed.length; i += piece) {
        await write(form.driver, mixed.slice(0, i + piece)); // those before once more
        await form.store.settleBooks(T + (settleMs[i % settleMs.length] ?? 0));
      }
      expect(await write(form.driver, mixed)).toBe(0);
      await form.store.settleBooks(T + 5 * DAY_MS);
      expect((await form.store.settleBooks(T + 5 * DAY_MS)).charged).toBe(0);
    }

    test(
      "Store.settleBooks comes to the same in any order of facts, pieces and replays, to the last digit, on both engines",
      async () => {
        await fc.assert(
          fc.asyncProperty(
            fc.array(drawn, { minLength: 1, maxLength: 12 }),
            course,
            course,
            fc.boolean(),
            async (list, a, b, plan) => {
              const mine = `acc-${nonce()}`;
              const facts = list.map(({ meter, units, fromMs, lengthMs, template }, i): Fact => {
                const toMs = (COUNTS as readonly string[]).includes(meter) ? null : T + fromMs + lengthMs;
                return { account: mine, subject: `sb_${mine}_${i}`, template, meter, units, fromMs: T + fromMs, toMs };
              });
              const results = [];
              for (const [form, way] of [
                [forms[0], a],
                [forms[1], b],
              ] as const) {
                if (form === undefined) throw new Error("not open");
                await form.store.createAccount(accountInfo({ id: mine, creditUsd: "1000000000" }));
                if (plan) await form.store.subscribeTo(mine, "odd", "2030-01-30", utc("2026-11-21"));
                await go(form, facts, way);
                results.push({ ...(await told(form, mine)), credit: await creditOf(form, mine) });
              }
              const [lite, full] = results;
              expect(lite).toEqual(full as never);
              expect(lite?.ledger).toEqual(lite?.intervals as never);
              expect(lite?.rollups).toEqual(lite?.intervals as never);
              expect(lite?.report.total).toBe(total(lite?.entries.items.map(({ amount }) => amount) ?? []));
              expect(lite?.credit).toBe(
                total(["1000000000", ...(lite?.ledger.map(([, , , amount]) => `-${amount}`) ?? [])]),
              );
            },
          ),
          { numRuns: 30, seed: 61, endOnFailure: true },
        );
      },
      SLOW_MS,
    );

    test(
      "Invoices are the same on both engines where the same days were open, and each is the sum of its lines",
      async () => {
        const dumped = [];
        for (const { store, driver } of forms) {
          await store.settleBooks(END);
          dumped.push(
            await rows(
              driver,
              `select i.account, i.month::text, i.currency, i.total::text, jsonb_agg(to_jsonb(l) - 'invoice' order by l.line)::text
               from billing.invoices i left join billing.invoice_lines_kept l on l.invoice = i.id
               where i.account not in (select account from billing.invoices where month < '2030-02-01')
               group by i.id order by i.account, i.month`,
            ),
          );
          const wrong = `select i.id from billing.invoices i
            where i.total <> (select coalesce(sum(amount), 0) from billing.invoice_lines_kept l where l.invoice = i.id)`;
          expect(await rows(driver, wrong)).toEqual([]);
        }
        expect(dumped[0]?.length).toBeGreaterThan(20);
        expect(dumped[0]).toEqual(dumped[1] as never);
      },
      SLOW_MS,
    );
  });
}

/** With every digit that it has: an account tells twelve decimals. */
async function creditOf({ driver }: BooksForm, mine: string): Promise<unknown> {
  return (await rows(driver, "select trim_scale(credit_usd)::text from accounts where id = $1", mine))[0]?.[0];
}

/** Exact sum of decimal text, without trailing zeros. */
function total(amounts: readonly string[]): string {
  const digits = 60;
  const sum = amounts.reduce((so, amount) => {
    const [whole = "", fraction = ""] = amount.replace("-", "").split(".");
    const units = BigInt(whole + fraction.padEnd(digits, "0"));
    return amount.startsWith("-") ? so - units : so + units;
  }, 0n);
  const text = (sum < 0n ? -sum : sum).toString().padStart(digits + 1, "0");
  const fraction = text.slice(-digits).replace(/0+$/, "");
  return `${sum < 0n ? "-" : ""}${text.slice(0, -digits)}${fraction === "" ? "" : `.${fraction}`}`;
}
