/** The reports that are measured, and that plans are looked at of. */
import { type SQL, sql } from "drizzle-orm";
import { usageStatement } from "../../../src/db/calls/reports.ts";
import { DAYS, FIRST_DAY } from "./month.ts";

const FROM_MS = Date.parse(`${FIRST_DAY}T00:00:00Z`);
const DAY_MS = 24 * 3600 * 1000;
const MONTH = `day >= date '${FIRST_DAY}' and day < date '${FIRST_DAY}' + ${DAYS}`;

/** Every account's every day by meter, from intervals, priced as charges are: what the rollups save. */
export const RAW = `
  with sums as (
    select account, meter, (lower(during) at time zone 'UTC')::date as day, sum(quantity) as quantity
    from billing.intervals group by 1, 2, 3
  )
  select s.account, s.day, s.meter, s.quantity::text, (s.quantity * r.price * r.factor)::text
  from sums as s join billing.rates as r on r.account = s.account and r.meter = s.meter and r.from_day <= s.day
    and (r.until_day is null or s.day < r.until_day)`;

/** The same from the rollups, by the view that BI reads: a row for each account, day and meter. */
export const MONTH_BY_DAY = `select account, day, meter, quantity::text, amount::text from billing.usage_by_day where ${MONTH}`;

/** What each day came to: a row for each account and day. */
export const DAY_SUMS = `select account, day, sum(amount)::text from billing.rollups where ${MONTH} group by account, day`;

/** `GET /v1/usage?groupBy=day` of an account: its month, cut exactly at its own midnights. */
export function monthOf(account: string): SQL {
  const [fromMs, toMs] = [FROM_MS + 3.5 * 3600 * 1000, FROM_MS + DAYS * DAY_MS + 3.5 * 3600 * 1000];
  const question = { fromMs, toMs, timeZone: "America/St_Johns", groupBy: [{ kind: "day" }] } as const;
  return usageStatement(account, question, toMs);
}

/** One day (UTC) of all accounts, of intervals. */
export function dayOf(day: number): SQL {
  const [from, to] = [day, day + 1].map((n) => new Date(FROM_MS + n * DAY_MS).toISOString());
  return sql`
    select account, meter, sum(quantity)::text from billing.intervals
    where lower(during) >= ${from}::timestamptz and lower(during) < ${to}::timestamptz group by account, meter`;
}
