/** What was used, asked by accounts: summed up by days and by what it belongs to, one by one, and of one sandbox. */
import { type SQL, sql } from "drizzle-orm";
import type { BillingStore, Grouping, UsageQuestion } from "../../api/billing.ts";
import type { Clock } from "../../base/clock.ts";
import { daysWithin } from "../../base/days.ts";
import type { UsageEntry, UsageRow } from "../../contract/routes/api/billing.ts";
import { WarrenError } from "../../errors.ts";
import type { Database } from "../database.ts";
import { ALWAYS, type Asked, PRICED, piecesOf } from "./pieces.ts";

type Calls = Pick<BillingStore, "usage" | "usageEntries" | "sandboxUsage">;

/** Of a report, which is made in memory: a thousand sandboxes on each day of a month. */
export const ROWS_MAX = 50_000;

const iso = (ms: number) => new Date(ms).toISOString();
const nameOf = (group: Grouping) => (group.kind === "metadata" ? `metadata.${group.key}` : group.kind);

export function reportCalls(db: Database, clock: Clock): Calls {
  return {
    async usage(account, question, nowMs) {
      const { fromMs, toMs, timeZone, groupBy } = question;
      const days = daysOf(question);
      const rows = fromMs < toMs ? await db.rows(usageStatement(account, question, nowMs)) : [];
      if (rows.length > ROWS_MAX) {
        const says = `groupBy: more than ${ROWS_MAX} rows; ask for less time, group by less, or read /v1/usage/entries`;
        throw new WarrenError("invalid_request", says, { details: { field: "groupBy" } });
      }
      const currency = await currencyOf(db, account, Math.min(toMs, nowMs), rows.at(0)?.slice(-2));
      const told = rows.map((row): UsageRow => {
        const values = row.slice(0, groupBy.length).map((value) => (value === null ? null : String(value)));
        const group = Object.fromEntries(
          groupBy.map((by, i) => [
            nameOf(by),
            by.kind === "day" ? (days[Number(values[i]) - 1]?.day ?? null) : (values[i] ?? null),
          ]),
        );
        const [meters, amount] = row.slice(groupBy.length);
        return { group, meters: JSON.parse(String(meters)), amount: String(amount) };
      });
      const nothing: UsageRow[] = groupBy.length === 0 ? [{ group: {}, meters: {}, amount: "0" }] : [];
      const meters = new Map<string, bigint>();
      for (const [meter, quantity] of told.flatMap((row) => Object.entries(row.meters)))
        meters.set(meter, (meters.get(meter) ?? 0n) + BigInt(quantity));
      return {
        ...{ from: iso(fromMs), to: iso(toMs), timeZone, currency, groupBy: groupBy.map(nameOf) },
        rows: told.length > 0 ? told : nothing,
        meters: Object.fromEntries([...meters].map(([meter, quantity]) => [meter, String(quantity)])),
        total: String(rows[0]?.at(groupBy.length + 2) ?? "0"),
        seenUntil: await seenUntil(db, account, Math.min(toMs, nowMs)),
      };
    },
    async usageEntries(account, { fromMs, toMs, after, limit }, nowMs) {
      if (fromMs >= toMs) return { items: [], next: null };
      const rows = await db.rows(entriesStatement({ account, boundsMs: [fromMs, toMs], nowMs }, after, limit));
      const currency = await currencyOf(db, account, Math.min(toMs, nowMs), undefined);
      const items = rows.map((row) => entryOf(row, currency));
      return { items, next: rows.length < limit ? null : String(rows.at(-1)?.at(-1)) };
    },
    async sandboxUsage(account, sandbox) {
      const [known] = await db.rows(sql`
        select coalesce(seen_ms, 0)::text from sandboxes where id = ${sandbox} and account = ${account}`);
      if (known === undefined) return null;
      // Its image, if it sleeps, is there until now; what runs, until it was seen last.
      const nowMs = Math.max(clock.wallMs(), Number(known[0]));
      const [row] = await db.rows(sql`
        with ${piecesOf({ account, boundsMs: ALWAYS, nowMs, subject: sandbox })}, priced as (
          select p.*, r.costs, r.currency from pieces as p ${PRICED}
        ), last as (
          -- Of a sandbox that lived through a change of currency, what it cost since.
          select currency from priced where currency is not null order by utc_day desc limit 1
        ), sums as (
          select meter, sum(quantity) as quantity, min(since) as since, max(until) as until, bool_or(open) as open,
            coalesce(sum(quantity * costs) filter (where currency = (select currency from last)), 0) as amount
          from priced group by meter
        )
        select coalesce(jsonb_object_agg(meter, quantity::text), '{}')::text, coalesce(trim_scale(sum(amount)), 0)::text,
          floor(extract(epoch from min(since)) * 1000)::bigint::text, ceil(extract(epoch from max(until)) * 1000)::bigint::text,
          coalesce(bool_or(open), false), (select currency from last)
        from sums`);
      const [meters, amount, fromMs, toMs, open, currency] = row ?? [];
      return {
        sandbox,
        from: fromMs == null ? null : iso(Number(fromMs)),
        to: toMs == null ? null : iso(Number(toMs)),
        open: open === true,
        currency: await currencyOf(db, account, Number(toMs ?? nowMs), [currency, currency]),
        meters: JSON.parse(String(meters)),
        amount: String(amount),
      };
    },
  };
}

/** One row for each group: its values (a day as its number, from 1), meters as JSON, amount, amount of all, least and greatest currency of all. */
export function usageStatement(account: string, question: UsageQuestion, nowMs: number): SQL {
  const { fromMs, toMs, groupBy } = question;
  const cuts = daysOf(question).map((day) => day.fromMs);
  const boundsMs = [fromMs, ...cuts.filter((ms) => ms > fromMs), toMs];
  const labels = groupBy.some(({ kind }) => kind === "metadata");
  const bySubject = labels || groupBy.some(({ kind }) => kind === "sandbox");
  const columns = [
    ...(bySubject ? [sql`p.subject`] : []),
    ...(groupBy.some(({ kind }) => kind === "template") ? [sql`p.template`] : []),
    ...(groupBy.some(({ kind }) => kind === "day") ? [sql`p.part`] : []),
  ];
  const listed = columns.length === 0 ? sql`` : sql`${sql.join(columns, sql`, `)},`;
  const groups = groupBy.map((by, i) => sql`${columnOf(by)} as ${sql.raw(`g${i}`)}`);
  const names = groupBy.map((_, i) => sql.raw(`g${i}`));
  const named = names.length === 0 ? sql`` : sql`${sql.join(names, sql`, `)},`;
  const grouping = names.length === 0 ? sql`having count(*) > 0` : sql`group by ${sql.join(names, sql`, `)}`;
  return sql`
    with ${piecesOf({ account, boundsMs, nowMs })}, sums as (
      select ${listed} p.meter, p.utc_day, sum(p.quantity) as quantity from pieces as p group by ${listed} p.meter, p.utc_day
    ), priced as (
      select ${groups.length === 0 ? sql`` : sql`${sql.join(groups, sql`, `)},`} p.meter, sum(p.quantity) as quantity,
        sum(p.quantity * coalesce(r.costs, 0)) as amount, min(r.currency) as low, max(r.currency) as high
      from sums as p ${PRICED} ${labels ? sql`left join sandboxes as s on s.id = p.subject and s.account = ${account}` : sql``}
      group by ${named} p.meter
    )
    select ${named} jsonb_object_agg(meter, quantity::text)::text, trim_scale(sum(amount))::text,
      trim_scale(sum(sum(amount)) over ())::text, min(min(low)) over (), max(max(high)) over ()
    from priced ${grouping} ${
      names.length === 0
        ? sql``
        : sql`order by ${sql.join(
            names.map((name) => sql`${name} nulls last`),
            sql`, `,
          )}`
    } limit ${ROWS_MAX + 1}`;
}

function columnOf(by: Grouping): SQL {
  if (by.kind === "metadata") return sql`s.labels ->> ${by.key}::text`;
  return { day: sql`p.part`, sandbox: sql`p.subject`, template: sql`p.template` }[by.kind];
}

/** In their order; without days in the question, all of it is one. */
function daysOf({
  fromMs,
  toMs,
  timeZone,
  groupBy,
}: UsageQuestion): { readonly day: string; readonly fromMs: number }[] {
  return groupBy.some(({ kind }) => kind === "day") ? daysWithin(fromMs, toMs, timeZone) : [];
}

function entriesStatement(asked: Asked, after: string | null, limit: number): SQL {
  const [since = "", subject = "", meter = ""] = after === null ? [] : (JSON.parse(after) as string[]);
  const later =
    after === null
      ? sql``
      : sql`where (since, subject, meter) > (${since}::timestamptz, ${subject}::text, ${meter}::text)`;
  const page = after === null ? undefined : { since, subject, meter, limit };
  return sql`
    with ${piecesOf({ ...asked, ...(page !== undefined && { page }) })}, page as (
      select * from pieces ${later} order by since, subject, meter limit ${limit}
    )
    select p.subject, p.template, p.meter, floor(extract(epoch from p.since) * 1000)::bigint::text,
      floor(extract(epoch from p.until) * 1000)::bigint::text, p.quantity::text,
      trim_scale(p.quantity * coalesce(r.costs, 0))::text, r.currency, p.open,
      jsonb_build_array(p.since, p.subject, p.meter)::text
    from page as p ${PRICED} order by p.since, p.subject, p.meter`;
}

function entryOf(row: readonly unknown[], otherwise: string): UsageEntry {
  const [subject, template, meter, fromMs, toMs, quantity, amount, currency, open] = row;
  return {
    ...{ subject: String(subject), template: template === null ? null : String(template), meter: String(meter) },
    ...{ from: iso(Number(fromMs)), to: iso(Number(toMs)), quantity: String(quantity), amount: String(amount) },
    ...{ currency: currency === null ? otherwise : String(currency), open: open === true },
  };
}

/** The one that amounts are in, or would be in. */
async function currencyOf(
  db: Database,
  account: string,
  atMs: number,
  used: readonly unknown[] | undefined,
): Promise<string> {
  const [low, high] = used ?? [];
  if (low != null && low !== high) {
    const says = `from: the account's prices were in ${String(low)} and in ${String(high)} in this time: ask for the time before the change, and after it`;
    throw new WarrenError("invalid_request", says, { details: { field: "from" } });
  }
  if (low != null) return String(low);
  const day = iso(atMs).slice(0, 10);
  return String((await db.value(sql`select currency from billing.terms(${account}, ${day}::date)`)) ?? "USD");
}

/** When all of what runs was last seen alive, at least. */
async function seenUntil(db: Database, account: string, untilMs: number): Promise<string> {
  const ms = await db.value(sql`
    select floor(extract(epoch from min(seen)) * 1000)::bigint::text from billing.open_time
    where account = ${account} and seen > since and seen < ${iso(untilMs)}::timestamptz`);
  return iso(ms === null ? untilMs : Math.min(untilMs, Number(ms)));
}
