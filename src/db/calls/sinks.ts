/** Where usage is sent, and what waits to be: each interval becomes one event of each sink that it is for. */
import { sql } from "drizzle-orm";
import type { BillingStore, Outgoing, Sink, UsageEvent } from "../../api/billing.ts";
import type { SinkInfo } from "../../contract/routes/api/billing.ts";
import { WarrenError } from "../../errors.ts";
import { asJson, type Database } from "../database.ts";

type Calls = Pick<
  BillingStore,
  "sinks" | "createSink" | "removeSink" | "fillOutbox" | "dueEvents" | "settleEvents" | "outboxWaiting"
>;

const iso = (ms: number) => new Date(ms).toISOString();

/** So begin errors that a success does not wipe away: usage was lost to the receiver, and somebody has to see it. */
const STAYS = "given up%";

export function sinkCalls(db: Database): Calls {
  const horizon = new Horizon(db);
  return {
    async sinks() {
      const rows = await db.rows(sql`
        select id, kind, account, settings->>'url', (select count(*)::int from billing.outbox where sink = sinks.id), last_error
        from billing.sinks order by created_at, id`);
      return rows.map((row): SinkInfo => {
        const [id, kind, account, url, waiting, lastError] = row as [
          ...[string, SinkInfo["kind"], string | null, string, number, string | null],
        ];
        return { id, kind, account, url, waiting: Number(waiting), lastError };
      });
    },
    async createSink({ id, kind, account, url, token, customers }, nowMs) {
      const settings = asJson({ url, token, customers });
      const [row] = await db.rows(sql`
        with owner as (select ${account}::text is null or exists (select from accounts where id = ${account}::text) as known),
        made as (
          insert into billing.sinks (id, kind, account, settings, interval, created_at)
          select ${id}, ${kind}, ${account}::text, ${settings}::text::jsonb,
            (select case when is_called then last_value else 0 end from billing.intervals_id_seq), ${iso(nowMs)}::timestamptz
          from owner where known on conflict do nothing returning 1
        )
        select known, (select count(*)::int from made) from owner`);
      const [known, made] = row as [boolean, number];
      if (!known)
        throw new WarrenError("not_found", `there is no account ${account}`, {
          details: { field: "account", account },
        });
      if (Number(made) === 0) throw new WarrenError("already_exists", `there is a sink ${id}`, { details: { id } });
      return { id, kind, account, url, waiting: 0, lastError: null };
    },
    async removeSink(id) {
      return (await db.rows(sql`delete from billing.sinks where id = ${id} returning 1`)).length > 0;
    },
    async fillOutbox(limit, nowMs) {
      const upTo = await horizon.sure();
      return upTo === null ? 0 : Number(await db.value(fill(upTo, limit, nowMs)));
    },
    async dueEvents(nowMs, limit, leaseMs, except = []) {
      const now = sql`${iso(nowMs)}::timestamptz`;
      const rows = await db.rows(sql`
        with due as (
          select waiting.* from billing.sinks cross join lateral (
            select id as claim, sent_at as was_sent from billing.outbox where sink = sinks.id and next_at <= ${now}
            order by next_at, id limit ${limit} for update skip locked
          ) as waiting
          where not sinks.id in (select jsonb_array_elements_text(${asJson(except)}::text::jsonb))
        ), claimed as (
          update billing.outbox set next_at = ${iso(nowMs + leaseMs)}::timestamptz, sent_at = coalesce(sent_at, ${now})
          from due where id = claim returning id, sink, body, tries, was_sent
        )
        select claimed.id::text, claimed.body, claimed.tries, (extract(epoch from was_sent) * 1000)::bigint::text,
          sinks.id, kind, account, settings
        from claimed join billing.sinks on sinks.id = claimed.sink order by claimed.id`);
      return rows.map(outgoingOf);
    },
    async settleEvents(outcomes) {
      if (outcomes.length === 0) return;
      const rows = outcomes.map(({ id, error, next }) => ({
        ...{ id, error, next_at: next === null ? null : iso(next.atMs), tries: next?.tries ?? 0 },
        sent_at: next === null || next.sentAtMs === null ? null : iso(next.sentAtMs),
      }));
      await db.rows(settle(asJson(rows)));
    },
    async outboxWaiting() {
      const rows = await db.rows(sql`
        select sinks.id, count(outbox.id)::int from billing.sinks left join billing.outbox on outbox.sink = sinks.id
        group by sinks.id`);
      return new Map(rows.map((row) => [String(row[0]), Number(row[1])]));
    },
  };
}

/**
 * One statement, so that what is queued and how far that has come never differ. A sink that another server fills just now is
 * left to it. Lago and Stripe get the usage of those accounts that they have a name for.
 */
function fill(upTo: string, limit: number, nowMs: number) {
  return sql`
    with behind as (
      select id as sink, kind, account as only_of, settings->'customers' as customers, interval as done
      from billing.sinks where interval < ${upTo}::bigint order by id for update skip locked
    ), taken as (
      select behind.*, fresh.* from behind cross join lateral (
        select id, account, subject, template, meter, quantity, lower(during) as since, upper(during) as until
        from billing.intervals where id > behind.done and id <= ${upTo}::bigint order by id limit ${limit}
      ) as fresh
    ), queued as (
      insert into billing.outbox (sink, event, body, next_at)
      select sink, event, jsonb_build_object('id', event, 'account', account, 'subject', subject, 'meter', meter,
        'template', template, 'fromMs', from_ms, 'toMs', to_ms, 'quantity', quantity::text), ${iso(nowMs)}::timestamptz
      from taken cross join lateral (
        select (extract(epoch from since) * 1000)::bigint as from_ms, (extract(epoch from until) * 1000)::bigint as to_ms
      ) as times cross join lateral (select subject || ':' || meter || ':' || from_ms as event) as named
      where (only_of is null or only_of = account) and (kind not in ('lago', 'stripe') or customers ? account)
      order by id on conflict do nothing returning 1
    ), moved as (
      update billing.sinks set interval = case when coalesce(got, 0) < ${limit} then ${upTo}::bigint else last end
      from behind left join (select sink as of, count(*) as got, max(id) as last from taken group by sink) as sums
        on sums.of = behind.sink
      where sinks.id = behind.sink
    )
    select count(*)::int from queued`;
}

/** `rows`: JSON of each event's outcome. */
function settle(rows: string) {
  return sql`
    with outcomes as (
      select * from jsonb_to_recordset(${rows}::text::jsonb)
        as o(id bigint, error text, next_at timestamptz, tries int, sent_at timestamptz)
    ), gone as (
      delete from billing.outbox using outcomes where outbox.id = outcomes.id and outcomes.next_at is null
      returning outbox.sink, outcomes.error, true as over
    ), kept as (
      update billing.outbox set next_at = outcomes.next_at, tries = outcomes.tries, sent_at = outcomes.sent_at
      from outcomes where outbox.id = outcomes.id and outcomes.next_at is not null
      returning outbox.sink, outcomes.error, false as over
    ), said as (
      select sink, coalesce(max(error) filter (where over), max(error)) as error, bool_or(over) as over
      from (select * from gone union all select * from kept) as both_kinds group by sink
    )
    update billing.sinks set last_error = said.error from said
    where sinks.id = said.sink and sinks.last_error is distinct from said.error and (said.error is not null or said.over)
      and (sinks.last_error is null or sinks.last_error not like ${STAYS} or said.error like ${STAYS})`;
}

function outgoingOf(row: unknown[]): Outgoing {
  const [id, body, tries, sentAtMs, sink, kind, account, settings] = row as [
    ...[string, string, number, string | null, string, Sink["kind"], string | null, string],
  ];
  const { url, token, customers } = JSON.parse(settings) as Pick<Sink, "url" | "token" | "customers">;
  return {
    ...{ id, event: JSON.parse(body) as UsageEvent, tries: Number(tries) },
    sentAtMs: sentAtMs === null ? null : Number(sentAtMs),
    sink: { id: sink, kind, account, url, token, customers },
  };
}

/**
 * Up to which interval everything is known. Ids are given out in order and become visible in another: a transaction that has a
 * smaller one may end later. So the last id that was given out is looked at, then who is writing; once all of those have ended,
 * nothing up to that id can appear any more. Nobody is made to wait for it.
 */
class Horizon {
  readonly #db: Database;
  #seen: { readonly upTo: string; readonly writers: readonly string[] } | null = null;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Null: not known yet; whoever wrote when it was last asked still does. */
  async sure(): Promise<string | null> {
    // In this order: who gets a smaller id than this one has its lock on the table by now, until its end.
    const upTo = String(
      await this.#db.value(
        sql`select (case when is_called then last_value else 0 end)::text from billing.intervals_id_seq`,
      ),
    );
    const writers = (
      await this.#db.rows(sql`
        select distinct virtualtransaction from pg_locks
        where relation = 'billing.intervals'::regclass and mode = 'RowExclusiveLock' and granted
          and database = (select oid from pg_database where datname = current_database())
          and pid is distinct from pg_backend_pid()`)
    ).map(([writer]) => String(writer));
    if (writers.length === 0) {
      this.#seen = null;
      return upTo;
    }
    const before = this.#seen;
    if (before?.writers.some((writer) => writers.includes(writer))) return null;
    this.#seen = { upTo, writers };
    return before?.upTo ?? null;
  }
}
