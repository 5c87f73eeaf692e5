/**
 * The log of moves and of storage, written in batches: `warren_record` makes intervals of stretches that are over, each once, in
 * the transaction that inserts their moves. And proofs of life, by which what has no known end is closed.
 */
import { and, eq, inArray, isNotNull, isNull, sql } from "drizzle-orm";
import type { Beat } from "../../api/billing.ts";
import type { KnownEnd, Store } from "../../api/store.ts";
import type { Log } from "../../base/log.ts";
import type { Move } from "../../contract/move.ts";
import type { Stored } from "../../contract/stored.ts";
import { asJson, type Database, equalsAny } from "../database.ts";
import { idempotencyKeys, moves, sandboxes } from "../schema/sandboxes.ts";
import { storedNow } from "../schema/storage.ts";

type Calls = Pick<Store, "record" | "recordStored" | "heartbeat" | "reconcile">;

/** Rows of one statement: some 200 KB of JSON, and a few milliseconds in which an account's creates wait. */
const ROWS = 500;

interface Parts {
  readonly db: Database;
  readonly log: Log;
  readonly node: string;
}

export function moveCalls({ db, log, node }: Parts): Calls {
  const write = async (rows: readonly unknown[]): Promise<void> => {
    for (let at = 0; at < rows.length; at += ROWS) {
      const part = asJson(rows.slice(at, at + ROWS));
      const refused = await db.value(sql`select warren_record(${part}::text::jsonb, ${node})::integer`);
      if (Number(refused) > 0)
        log.warn("moves of sandboxes of unknown accounts, or long forgotten, were not kept", { refused });
    }
  };
  const recordStored = async (rows: readonly Stored[]): Promise<void> => {
    for (let at = 0; at < rows.length; at += ROWS) {
      const part = rows.slice(at, at + ROWS).map(({ kind, id, account, sizeBytes, monotonicMs, wallMs }) => ({
        ...{ kind, id, account, size_bytes: sizeBytes, monotonic_ms: monotonicMs, at: iso(wallMs) },
      }));
      await db.rows(sql`select warren_record_stored(${asJson(part)}::text::jsonb, ${node})`);
    }
  };
  return {
    async record(given) {
      await write(given.map(toRow));
    },
    recordStored,
    async heartbeat(beats) {
      if (beats.length === 0) return;
      await db.rows(heartbeatStatement(asJson(beats.map(toBeat))));
    },
    async reconcile(live, ended, atMs, servedMs = null) {
      const open = await openRows(db, node);
      const gone = open.filter(({ id }) => !live.has(id));
      // First: once they are closed, nobody looks at them again.
      await db.rows(sql`
        delete from ${idempotencyKeys} as k where k.sandbox ${equalsAny(gone.map(({ id }) => id))}
          and not exists (select from ${moves} as m where m.sandbox = k.sandbox and m.to_state = 'running')`);
      await write(
        gone.flatMap((row) => (row.last === null ? [] : [lostMove(row, row.last, ended.get(row.id) ?? null)])),
      );
      const unmoved = equalsAny(gone.flatMap(({ id, last }) => (last === null ? [id] : [])));
      await db.rows(sql`
        update ${sandboxes} set state = 'failed', reason = ${UNSEEN}, ended_at = ${iso(atMs)}::timestamptz
        where id ${unmoved} and ended_at is null and last_sequence = 0`);
      await recordStored(await leftOf(db, node, atMs, servedMs ?? 0));
      return gone.length;
    },
  };
}

const UNSEEN = "its end was not seen";
/** With what the clock has below a millisecond. */
function iso(ms: number): string {
  const micros = Math.floor((ms - Math.floor(ms)) * 1000);
  return new Date(ms).toISOString().replace("Z", `${String(micros).padStart(3, "0")}Z`);
}

function toRow(move: Move) {
  const { sandbox, account, template, cpu, memoryMib, from, to, event, reason, network, cpuUsedMs, sequence } = move;
  return {
    ...{ sandbox, account, template, cpu, memory_mib: memoryMib, from_state: from, to_state: to, event, reason },
    sequence,
    monotonic_ms: move.monotonicMs,
    at: iso(move.wallMs),
    ...(cpuUsedMs !== undefined && { cpu_used_ms: Math.floor(cpuUsedMs) }),
    ...(network !== undefined && {
      ...{
        network_out_bytes: network.bytesOut,
        network_in_bytes: network.bytesIn,
        network_connections: network.connections,
      },
    }),
  };
}

interface OpenRow {
  readonly id: string;
  readonly account: string;
  readonly template: string;
  readonly cpu: number;
  readonly memoryMib: number;
  readonly state: string;
  /** Of the time that is open, as last told of. */
  readonly used: { readonly seenMs: number; readonly cpuUsedMs: number; readonly egressBytes: number };
  readonly last: { readonly sequence: number; readonly monotonicMs: number; readonly wallMs: number } | null;
}

async function openRows(db: Database, node: string): Promise<OpenRow[]> {
  const rows = await db.ask((orm) =>
    orm
      .select({ sandbox: sandboxes, move: moves })
      .from(sandboxes)
      .leftJoin(moves, and(eq(moves.sandbox, sandboxes.id), eq(moves.sequence, sandboxes.lastSequence)))
      .where(and(eq(sandboxes.node, node), isNull(sandboxes.endedAt))),
  );
  return rows.map(({ sandbox: { id, account, template, cpu, memoryMib, state, ...open }, move }) => ({
    ...{ id, account, template, cpu, memoryMib, state },
    used: {
      seenMs: Number(open.seenMs ?? 0n),
      ...{ cpuUsedMs: Number(open.openCpuUsedMs), egressBytes: Number(open.openEgressBytes) },
    },
    last: move && { sequence: move.sequence, monotonicMs: move.monotonicMs, wallMs: move.at },
  }));
}

/** The last rows of what ended with its process, when that ended without a word: at the last instant at which it is known to have lived. */
async function leftOf(db: Database, node: string, atMs: number, servedMs: number): Promise<Stored[]> {
  const rows = await db.ask((orm) =>
    orm
      .select()
      .from(storedNow)
      .where(and(eq(storedNow.node, node), inArray(storedNow.kind, ENDS_WITH_PROCESS), isNotNull(storedNow.sinceMs))),
  );
  const left = rows.filter(({ at }) => at < atMs);
  return left.map(({ account, kind, id, sinceMs }) => ({
    ...{ account, kind: kind as Stored["kind"], id, sizeBytes: 0 },
    ...{ monotonicMs: Math.max(Number(sinceMs ?? 0n), servedMs), wallMs: atMs },
  }));
}

const ENDS_WITH_PROCESS: Stored["kind"][] = ["ready", "build"];

/**
 * The last row of a sandbox whose end nobody has seen: at its end as the host tells of it, else at its last proof of life;
 * with what it was last said to have used. Neither is beyond its lifetime: the host sees to that, on the sandbox's own axis. What
 * its description says of it was told by a wall clock, which may have jumped since.
 */
function lostMove(row: OpenRow, last: NonNullable<OpenRow["last"]>, end: KnownEnd | null) {
  const endMs = end?.endMs ?? row.used.seenMs;
  const passedMs = Math.max(0, endMs - last.monotonicMs);
  return {
    ...{ sandbox: row.id, account: row.account, template: row.template, cpu: row.cpu, memory_mib: row.memoryMib },
    ...{ from_state: row.state, to_state: "failed", event: "lost", reason: end?.why ?? UNSEEN },
    ...{ sequence: last.sequence + 1, monotonic_ms: last.monotonicMs + passedMs, at: iso(last.wallMs + passedMs) },
    ...{ cpu_used_ms: row.used.cpuUsedMs, network_out_bytes: row.used.egressBytes },
  };
}

function toBeat({ sandbox, seenMs, cpuUsedMs, egressBytes }: Beat) {
  const whole = (value: number | null) => (value === null ? null : Math.floor(value));
  return { id: sandbox, seen: whole(seenMs), cpu: whole(cpuUsedMs), egress: whole(egressBytes) };
}

/**
 * Rows are locked in the order of their ids, as `warren_record` does. A beat from before the time that is open says nothing of
 * what was used in it.
 */
function heartbeatStatement(beats: string) {
  return sql`
    with beats as (
      select * from jsonb_to_recordset(${beats}::text::jsonb) as b(id text, seen bigint, cpu bigint, egress bigint)
    ), live as materialized (
      select s.id, b.seen, b.cpu, b.egress from beats as b, lateral (
        select id from ${sandboxes} where sandboxes.id = b.id and ended_at is null
          and seen_ms is not null and seen_ms <= b.seen offset 0
      ) as s order by s.id
    ), locked as materialized (
      select s.id from ${sandboxes} as s where s.id = any (array(select id from live)) order by s.id for no key update
    )
    update ${sandboxes} as s set seen_ms = greatest(s.seen_ms, live.seen),
      open_cpu_used_ms = coalesce(live.cpu, s.open_cpu_used_ms), open_egress_bytes = coalesce(live.egress, s.open_egress_bytes)
    from locked join live using (id) where s.id = locked.id and s.ended_at is null and s.seen_ms <= live.seen`;
}
