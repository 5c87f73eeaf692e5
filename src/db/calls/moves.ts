/**
 * The log of moves and of storage, written in batches: `warren_record` folds each stretch of time once, by the rule and the
 * prices of `meter/`, in the transaction that inserts its moves.
 */
import { and, eq, isNull, sql } from "drizzle-orm";
import type { KnownEnd, Store } from "../../api/store.ts";
import type { Log } from "../../base/log.ts";
import type { Move } from "../../contract/move.ts";
import { asJson, type Database, equalsAny } from "../database.ts";
import { idempotencyKeys, moves, sandboxes } from "../schema/sandboxes.ts";
import { RULES } from "./rules.ts";

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
      const refused = await db.value(
        sql`select warren_record(${part}::text::jsonb, ${node}, ${RULES}::text::jsonb)::integer`,
      );
      if (Number(refused) > 0)
        log.warn("moves of sandboxes of unknown accounts, or long forgotten, were not kept", { refused });
    }
  };
  return {
    async record(given) {
      await write(given.map(toRow));
    },
    async recordStored(rows) {
      for (let at = 0; at < rows.length; at += ROWS) {
        const part = rows.slice(at, at + ROWS).map(({ kind, id, account, sizeBytes, monotonicMs, wallMs }) => ({
          ...{ kind, id, account, size_bytes: sizeBytes, monotonic_ms: monotonicMs, at: iso(wallMs) },
        }));
        await db.rows(storedStatement(asJson(part), node));
      }
    },
    heartbeat: () => Promise.resolve(),
    async reconcile(live, ended, atMs) {
      const open = await openRows(db, node);
      const gone = open.filter(({ id }) => !live.has(id));
      // First: once they are closed, nobody looks at them again.
      await db.rows(sql`
        delete from ${idempotencyKeys} as k where k.sandbox ${equalsAny(gone.map(({ id }) => id))}
          and not exists (select from ${moves} as m where m.sandbox = k.sandbox and m.to_state = 'running')`);
      await write(
        gone.flatMap((row) => (row.last === null ? [] : [lostMove(row, row.last, ended.get(row.id) ?? null, atMs)])),
      );
      const unmoved = equalsAny(gone.flatMap(({ id, last }) => (last === null ? [id] : [])));
      await db.rows(sql`
        update ${sandboxes} set state = 'failed', reason = ${UNSEEN}, ended_at = ${iso(atMs)}::timestamptz
        where id ${unmoved} and ended_at is null and last_sequence = 0`);
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
  const { sandbox, account, template, cpu, memoryMib, from, to, event, reason, network, sequence } = move;
  return {
    ...{ sandbox, account, template, cpu, memory_mib: memoryMib, from_state: from, to_state: to, event, reason },
    sequence,
    monotonic_ms: move.monotonicMs,
    at: iso(move.wallMs),
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
  /** Of its lifetime, as last told of; null: none, or it is not known. */
  readonly expiresMs: number | null;
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
  return rows.map(({ sandbox: { id, account, template, cpu, memoryMib, state, info }, move }) => ({
    ...{ id, account, template, cpu, memoryMib, state },
    expiresMs: typeof info?.expiresAt === "string" ? Date.parse(info.expiresAt) : null,
    last: move && { sequence: move.sequence, monotonicMs: move.monotonicMs, wallMs: move.at },
  }));
}

/**
 * The last row of a sandbox whose end nobody has seen: charged to its end as the host tells of it, else to `atMs` by the
 * wall clock, and not beyond its lifetime.
 */
function lostMove(row: OpenRow, last: NonNullable<OpenRow["last"]>, end: KnownEnd | null, atMs: number) {
  const passedMs = Math.max(
    0,
    end === null ? Math.min(atMs, row.expiresMs ?? atMs) - last.wallMs : end.endMs - last.monotonicMs,
  );
  return {
    ...{ sandbox: row.id, account: row.account, template: row.template, cpu: row.cpu, memory_mib: row.memoryMib },
    ...{ from_state: row.state, to_state: "failed", event: "lost", reason: end?.why ?? UNSEEN },
    ...{ sequence: last.sequence + 1, monotonic_ms: last.monotonicMs + passedMs, at: iso(last.wallMs + passedMs) },
  };
}

/** Rows that are known already change nothing; the newest of each thing is what it takes now. */
function storedStatement(rows: string, node: string) {
  return sql`
    with given as (
      select g.* from jsonb_to_recordset(${rows}::text::jsonb)
        as g(kind text, id text, account text, size_bytes bigint, monotonic_ms double precision, at timestamptz)
      join accounts on accounts.id = g.account
    ), logged as (
      insert into stored (account, kind, id, size_bytes, monotonic_ms, at, node)
      select account, kind, id, size_bytes, monotonic_ms, at, ${node} from given on conflict do nothing
    )
    insert into stored_now as n (account, kind, id, size_bytes, at, monotonic_ms)
    select distinct on (account, kind, id) account, kind, id, size_bytes, at, monotonic_ms
    from given order by account, kind, id, at desc, monotonic_ms desc
    on conflict (account, kind, id) do update
      set size_bytes = excluded.size_bytes, at = excluded.at, monotonic_ms = excluded.monotonic_ms
      where (excluded.at, excluded.monotonic_ms) >= (n.at, n.monotonic_ms)`;
}
