/** The books looked at again from what they were made of: intervals against the log of moves, the ledger against intervals, and both against when VMMs ran. */
import { type SQL, sql } from "drizzle-orm";
import type { BillingStore, VmmRun } from "../../api/billing.ts";
import type { Difference } from "../../contract/routes/api/billing.ts";
import { asJson, type Database } from "../database.ts";

type Calls = Pick<BillingStore, "reconcileBooks">;

/** Sandboxes that one statement folds. */
const PIECE = 1_000;
const DAY_MS = 24 * 3600 * 1000;
const iso = (ms: number) => new Date(ms).toISOString();

export function reconcileCalls(db: Database): Calls {
  return {
    async reconcileBooks(fromMs, toMs, ran = []) {
      const differences: Difference[] = [];
      let sandboxes = 0;
      for (let after = "", last: number = PIECE; last === PIECE; sandboxes += last) {
        const ids = (await db.rows(pageStatement(after, fromMs, toMs))).map(([id]) => String(id));
        for (const statement of [gapsStatement(ids), movesStatement(ids, fromMs, toMs)])
          differences.push(...(await db.rows(statement)).map(differenceOf));
        after = ids.at(-1) ?? "";
        last = ids.length;
      }
      if (ran.length > 0) differences.push(...(await db.rows(runsStatement(ran, fromMs, toMs))).map(differenceOf));
      // Day by day, as intervals lie within one each, so that no statement has more to read.
      for (let dayMs = fromMs; dayMs < toMs; dayMs = Math.floor(dayMs / DAY_MS + 1) * DAY_MS) {
        const endMs = Math.min(toMs, Math.floor(dayMs / DAY_MS + 1) * DAY_MS);
        differences.push(...(await db.rows(ledgerStatement(dayMs, endMs))).map(differenceOf));
      }
      return { sandboxes, differences };
    },
  };
}

function differenceOf([account, sandbox, meter, against, booked, found, says]: readonly unknown[]): Difference {
  return {
    ...{ account: String(account), sandbox: String(sandbox), meter: String(meter), against: String(against) },
    ...{ booked: String(booked), found: String(found), says: String(says) },
  };
}

/** That were there at some time of it. Of those that are forgotten there are no moves any more. */
function pageStatement(after: string, fromMs: number, toMs: number): SQL {
  return sql`
    select id from sandboxes
    where id > ${after} and not forgotten and last_sequence > 0 and created_at < ${iso(toMs + DAY_MS)}::timestamptz
      and (ended_at is null or ended_at >= ${iso(Math.max(0, fromMs - DAY_MS))}::timestamptz)
    order by id limit ${PIECE}`;
}

/** Moves that never came: what lies between those around them is not charged. */
function gapsStatement(ids: readonly string[]): SQL {
  return sql`
    select s.account, s.id, 'moves', 'moves', count(m.sequence)::text, s.last_sequence::text, 'moves are missing'
    from sandboxes as s left join moves as m on m.sandbox = s.id
    where s.id in (select jsonb_array_elements_text(${asJson(ids)}::text::jsonb))
    group by s.account, s.id, s.last_sequence having count(m.sequence) <> s.last_sequence order by 1, 2`;
}

/** The fold of \`meter/fold.ts\` in SQL. What is open is not in intervals: it ends where it is cut. */
function movesStatement(ids: readonly string[], fromMs: number, toMs: number): SQL {
  return sql`
    with known as materialized (
      select id, account, open_since_ms from sandboxes where id in (select jsonb_array_elements_text(${asJson(ids)}::text::jsonb))
    ), moved as (
      select s.id, s.account, m.to_state, m.cpu, m.memory_mib, m.from_state, m.network_out_bytes, m.cpu_used_ms,
        floor(m.monotonic_ms)::bigint as at_ms, case lead(m.sequence) over steps
          when m.sequence + 1 then lead(floor(m.monotonic_ms)::bigint) over steps
          else case when lead(m.sequence) over steps is null then s.open_since_ms end end as until_ms
      from known as s join moves as m on m.sandbox = s.id window steps as (partition by m.sandbox order by m.sequence)
    ), found as (
      select id, account, meter, sum(quantity) as quantity from (
        select m.id, m.account, c.meter, c.units * (least(m.until_ms, ${toMs}::bigint) - greatest(m.at_ms, ${fromMs}::bigint)) as quantity
        from moved as m, lateral billing.charged(m.to_state, m.cpu, m.memory_mib) as c
        where m.until_ms is not null and least(m.until_ms, ${toMs}::bigint) > greatest(m.at_ms, ${fromMs}::bigint)
        union all
        select m.id, m.account, c.meter, c.units
        from moved as m, lateral (values ('egress_bytes', m.network_out_bytes), ('cpu_used_ms', m.cpu_used_ms),
          ('creates', case when m.to_state = 'running' and coalesce(m.from_state, 'creating') = 'creating' then 1 end)) as c(meter, units)
        where c.units > 0 and m.at_ms >= ${fromMs}::bigint and m.at_ms < ${toMs}::bigint
      ) as parts group by id, account, meter
    ), booked as (
      select s.id, i.account, i.meter, sum(billing.quantity(i.meter, i.units, greatest(lower(i.during), ${iso(fromMs)}::timestamptz),
        least(upper(i.during), ${iso(toMs)}::timestamptz))) as quantity
      from known as s, lateral (select * from billing.intervals where subject = s.id
        and meter in ('vcpu_ms', 'memory_mib_ms', 'paused_memory_mib_ms', 'egress_bytes', 'cpu_used_ms', 'creates')
        and during && tstzrange(${iso(fromMs)}::timestamptz, ${iso(toMs)}::timestamptz) offset 0) as i
      group by s.id, i.account, i.meter
    )
    select coalesce(b.account, f.account), coalesce(b.id, f.id), coalesce(b.meter, f.meter), 'moves', coalesce(b.quantity, 0)::text,
      coalesce(f.quantity, 0)::text, case when coalesce(b.quantity, 0) > coalesce(f.quantity, 0) then 'more is booked than its moves tell'
        else 'less is booked than its moves tell' end
    from booked as b full join found as f using (id, account, meter)
    where coalesce(b.quantity, 0) <> coalesce(f.quantity, 0) order by 1, 2, 3`;
}

/** Of the sandboxes that there are runs of: what is charged as running outside of all of them. */
function runsStatement(ran: readonly VmmRun[], fromMs: number, toMs: number): SQL {
  return sql`
    with runs as (
      select sandbox, range_agg(tstzrange(billing.instant(from_ms), billing.instant(to_ms))) as ran
      from jsonb_to_recordset(${asJson(
        ran.map(({ sandbox, fromMs: from, toMs: to }) => ({
          sandbox,
          from_ms: from === null ? null : Math.floor(from),
          to_ms: to === null ? null : Math.ceil(to),
        })),
      )}::text::jsonb) as r(sandbox text, from_ms bigint, to_ms bigint) group by sandbox
    ), sums as (
      select i.account, i.subject, i.meter,
        sum(billing.quantity(i.meter, i.units, lower(cut.during), upper(cut.during))) as booked,
        sum((select coalesce(sum(billing.quantity(i.meter, i.units, lower(part), upper(part))), 0)
          from unnest(runs.ran * cut.during::tstzmultirange) as part)) as found
      from runs, lateral (select * from billing.intervals where subject = runs.sandbox and meter in ('vcpu_ms', 'memory_mib_ms')
          and during && tstzrange(${iso(fromMs)}::timestamptz, ${iso(toMs)}::timestamptz) offset 0) as i,
        lateral (select i.during * tstzrange(${iso(fromMs)}::timestamptz, ${iso(toMs)}::timestamptz)) as cut(during)
      group by i.account, i.subject, i.meter
    )
    select account, subject, meter, 'accounting', booked::text, found::text, 'charged as running while no VMM of it ran'
    from sums where booked <> found order by 1, 2, 3`;
}

/** Charges against what they are for. What was recorded in the last minutes may be waiting for its settlement. */
function ledgerStatement(fromMs: number, toMs: number): SQL {
  return sql`
    select i.account, i.subject, i.meter, 'ledger', sum(i.quantity)::text, sum(coalesce(l.quantity, 0))::text,
      case when bool_or(l.id is null) then 'not charged' else 'charged otherwise than it is recorded' end
    from billing.intervals as i join billing.meters as m on m.meter = i.meter
    left join billing.ledger as l on l.interval = i.id and l.kind = 'charge'
    where lower(i.during) >= ${iso(fromMs)}::timestamptz and lower(i.during) < ${iso(toMs)}::timestamptz
      and (l.id is null and i.recorded_at < now() - interval '5 minutes' or l.quantity <> i.quantity or l.account <> i.account
        or l.meter <> i.meter or l.amount <> i.quantity * m.factor * l.price
        or l.day <> (lower(i.during) at time zone 'UTC')::date)
    group by i.account, i.subject, i.meter order by 1, 2, 3`;
}
