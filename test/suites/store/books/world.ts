/** What cases about the books share: facts written as the database's own functions write them, and sums read back as text. */
import type { BillingStore } from "../../../../src/api/billing.ts";
import type { Store } from "../../../../src/api/store.ts";
import { nonce } from "../../../../src/base/id.ts";
import type { Driver } from "../../../../src/db/driver.ts";

export interface BooksForm {
  readonly store: Store & BillingStore;
  /** Another server on the same database; null: there can be none. */
  readonly second: (Store & BillingStore) | null;
  readonly driver: Driver;
}

export const SECOND_MS = 1000;
export const HOUR_MS = 3600 * SECOND_MS;
export const DAY_MS = 24 * HOUR_MS;
export const utc = (text: string) => Date.parse(text.length === 10 ? `${text}T00:00:00Z` : text);

/** A stretch of something; a count when it has no end. */
export interface Fact {
  readonly account: string;
  readonly subject: string;
  readonly meter: string;
  readonly units: number;
  readonly fromMs: number;
  readonly toMs: number | null;
  readonly template?: string | null;
}

export const newSubject = () => `sb_${nonce()}`;

/** So long of one vCPU and 1 GiB. */
export function ran(account: string, fromMs: number, toMs: number, change: Partial<Fact> = {}): Fact[] {
  const fact = { account, subject: newSubject(), template: "base", fromMs, toMs, ...change };
  return [
    { ...fact, meter: "vcpu_ms", units: 1 },
    { ...fact, meter: "memory_mib_ms", units: 1024 },
  ];
}

export async function rows(driver: Driver, text: string, ...parameters: (string | number)[]): Promise<unknown[][]> {
  return driver.query({ text, parameters });
}

/** What is there already is left as it is; how many are new. */
export async function write(driver: Driver, facts: readonly Fact[]): Promise<number> {
  const given = facts.map(({ account, subject, template = null, meter, units, fromMs, toMs }) => ({
    ...{ account, subject, template, meter, units, from_ms: fromMs, to_ms: toMs, micros: 0 },
  }));
  const [row] = await rows(
    driver,
    "select billing.write(array(select g from jsonb_populate_recordset(null::billing.stretch, $1::text::jsonb) as g))::text",
    JSON.stringify(given),
  );
  return Number(row?.[0]);
}

export type Sum = readonly [day: string, meter: string, quantity: string, amount: string];

const SUMS = {
  ledger: `select day::text, meter, sum(quantity)::text, trim_scale(sum(amount))::text from billing.ledger
    where account = $1 group by day, meter order by day, meter`,
  rollups: `select day::text, meter, sum(quantity)::text, trim_scale(sum(amount))::text from billing.rollups
    where account = $1 group by day, meter order by day, meter`,
  intervals: `select day::text, i.meter, sum(quantity)::text, trim_scale(sum(quantity * coalesce(r.factor * r.price, 0)))::text
    from (select *, (lower(during) at time zone 'UTC')::date as day from billing.intervals where account = $1) as i
    left join billing.rates as r on r.account = i.account and r.meter = i.meter
      and r.from_day <= i.day and (r.until_day is null or i.day < r.until_day)
    group by day, i.meter order by day, i.meter`,
} as const;

/** Of an account by day and meter: in the ledger, in the rollups, or of its intervals by the rates. */
export async function sums(driver: Driver, what: keyof typeof SUMS, account: string): Promise<Sum[]> {
  return (await rows(driver, SUMS[what], account)) as unknown as Sum[];
}
