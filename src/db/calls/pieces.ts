/**
 * What was used, as the rows that every report sums up: intervals, and what is open as far as it was seen alive, cut exactly
 * at the ends of the question and where its days begin. Amounts are by the prices of the day (UTC) of the use.
 */
import { type SQL, sql } from "drizzle-orm";
import { asJson } from "../database.ts";

const iso = (ms: number) => new Date(ms).toISOString();

export interface Asked {
  readonly account: string;
  /** Milliseconds since the Unix epoch, ascending: from, where it is cut, to. */
  readonly boundsMs: readonly number[];
  readonly nowMs: number;
  /** Of this one alone. */
  readonly subject?: string;
  /** Of intervals only so many, after this one in the order of (since, subject, meter). */
  readonly page?: { readonly since: string; readonly subject: string; readonly meter: string; readonly limit: number };
}

/** Beyond every clock that is read here: years 1970 and 9999. */
export const ALWAYS = [0, Date.UTC(9999, 0, 1)] as const;

/** What lies within one day of UTC has parts of so many local days at most, and one is spare: said to the planner, which would take 1,000. */
const PARTS_MAX = "4";

/**
 * The common table expressions `bounds`, `pieces` (subject, template, meter, part, utc_day, since, until, quantity, open) and
 * `rates` (meter, from_day, until_day, costs, currency). `part` counts from 1. No interval is longer than a day of UTC, by which the
 * index of an account's intervals finds all that reach into the question.
 */
export function piecesOf({ account, boundsMs, nowMs, subject, page }: Asked): SQL {
  const [from, to] = [iso(boundsMs[0] ?? 0), iso(boundsMs.at(-1) ?? 0)];
  const only = (column: SQL) => (subject === undefined ? sql`` : sql`and ${column} = ${subject}`);
  // Those that began before the question are on its first page, as all that begins with it.
  const rest =
    page === undefined || Date.parse(page.since) <= Date.parse(from)
      ? sql``
      : sql`and lower(during) >= ${page.since}::timestamptz
          and (lower(during), subject, meter) > (${page.since}::timestamptz, ${page.subject}::text, ${page.meter}::text)
          order by lower(during), subject, meter limit ${page.limit}`;
  return sql`
    bounds as materialized (
      select array_agg(b::timestamptz order by b::timestamptz) as at
      from jsonb_array_elements_text(${asJson(boundsMs.map(iso))}::text::jsonb) as b
    ), used as (
      (select subject, template, meter, units, quantity, lower(during) as since, upper(during) as until, false as open
      from billing.intervals
      where account = ${account} ${only(sql`subject`)}
        and lower(during) >= ${from}::timestamptz - interval '1 day' and lower(during) < ${to}::timestamptz
        and (upper(during) > ${from}::timestamptz or lower(during) >= ${from}::timestamptz) ${rest})
      union all
      select o.subject, o.template, o.meter, o.units, null, part.from_at, part.to_at, true
      from billing.open_time as o, lateral billing.split(
        floor(extract(epoch from greatest(o.since, ${from}::timestamptz)) * 1000)::bigint,
        floor(extract(epoch from least(o.seen, ${to}::timestamptz, ${iso(nowMs)}::timestamptz)) * 1000)::bigint) as part
      where o.account = ${account} ${only(sql`o.subject`)}
      union all
      select s.id, s.template, c.meter, c.units, c.units, seen.at, seen.at, true
      from sandboxes as s, lateral (select billing.instant(s.seen_ms)) as seen(at),
        lateral (values ('cpu_used_ms', s.open_cpu_used_ms), ('egress_bytes', s.open_egress_bytes)) as c(meter, units)
      where s.account = ${account} ${only(sql`s.id`)} and s.ended_at is null and s.open_since_ms is not null and c.units > 0
        and seen.at >= ${from}::timestamptz and seen.at < ${to}::timestamptz
    ), pieces as (
      select u.subject, u.template, u.meter, part, (u.since at time zone 'UTC')::date as utc_day,
        greatest(u.since, b.at[part]) as since, least(u.until, b.at[part + 1]) as until, u.open,
        case when u.quantity is not null and u.since >= b.at[part] and u.until <= b.at[part + 1] then u.quantity
          else billing.quantity(u.meter, u.units, greatest(u.since, b.at[part]), least(u.until, b.at[part + 1])) end as quantity
      from used as u, bounds as b, lateral (select greatest(1, width_bucket(u.since, b.at))) as first(place),
        lateral (select generate_series(first.place, greatest(first.place,
          least(cardinality(b.at) - 1, width_bucket(u.until - interval '1 microsecond', b.at)))) limit ${sql.raw(PARTS_MAX)}) as parts(part)
    ), rates as materialized (
      select meter, from_day, until_day, price * factor as costs, currency::text as currency
      from billing.rates where account = ${account}
    )`;
}

/** Of a piece its price: `rates` as `r`. What has none costs nothing. */
export const PRICED = sql`left join rates as r on r.meter = p.meter and r.from_day <= p.utc_day
  and (r.until_day is null or p.utc_day < r.until_day)`;
