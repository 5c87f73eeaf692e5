/** Sandboxes of an account: booked, told of, counted, and what is known of those that have ended. */
import { desc, eq, isNotNull, isNull, sql } from "drizzle-orm";
import type { Admission, Store } from "../../api/store.ts";
import { WarrenError } from "../../errors.ts";
import { asJson, type Database, equalsAny, owned } from "../database.ts";
import { accounts } from "../schema/accounts.ts";
import { idempotencyKeys, moves, sandboxes } from "../schema/sandboxes.ts";
import { storedNow } from "../schema/storage.ts";
import { RULES } from "./rules.ts";

type Calls = Pick<Store, "admit" | "cancel" | "describe" | "inUse" | "events" | "provenMs" | "endedSandbox">;

const iso = (ms: number) => new Date(ms).toISOString();

export function sandboxCalls(db: Database, node: string): Calls {
  return {
    async admit(account, bookings, idempotency) {
      const rows = bookings.map(({ id, cpu, memoryMib, template, atMs }) => ({
        ...{ id, cpu, memory_mib: memoryMib, template, at: iso(atMs) },
      }));
      const told = await db.value(sql`
        select warren_admit(${account}, ${asJson(rows)}::text::jsonb, ${idempotency?.key ?? null},
          ${idempotency?.requestHash ?? null}, ${node}, ${RULES}::text::jsonb)::text`);
      const admission = JSON.parse(String(told)) as Admission | { readonly kind: "no-account" };
      if (admission.kind === "no-account") throw new WarrenError("not_found", `there is no account ${account}`);
      return admission;
    },
    async cancel(account, ids) {
      const named = equalsAny(ids);
      // An `admit` whose answer was not waited for may be under way: what it books is seen by the statements after this one.
      await db.rows(sql`select from ${accounts} where id = ${account} for no key update`);
      await db.ask((orm) =>
        orm.delete(idempotencyKeys).where(owned(idempotencyKeys, account, sql`${idempotencyKeys.sandbox} ${named}`)),
      );
      // What has moved was there for a moment: its moves tell of it, and of its end.
      const bare = sql`${sandboxes.id} ${named} and ${sandboxes.lastSequence} = 0 and ${sandboxes.info} is null`;
      await db.ask((orm) => orm.delete(sandboxes).where(owned(sandboxes, account, bare)));
    },
    async describe(account, infos) {
      if (infos.length === 0) return;
      // The account first, as in `warren_record`: who writes several sandboxes never waits for who waits for it.
      await db.rows(sql`
        with owner as materialized (select id from accounts where id = ${account} for no key update)
        insert into ${sandboxes} as s (id, account, template, cpu, memory_mib, state, node, created_at, info, labels)
        select distinct on (i ->> 'id') i ->> 'id', owner.id, i ->> 'template', (i ->> 'cpu')::integer,
          (i ->> 'memoryMb')::integer, 'creating', ${node}, (i ->> 'createdAt')::timestamptz, i, i -> 'metadata'
        from owner, jsonb_array_elements(${asJson(infos)}::text::jsonb) with ordinality as e(i, place)
        order by i ->> 'id', place desc
        on conflict (id) do update set info = excluded.info, labels = excluded.labels
          where s.account = excluded.account and not s.forgotten`);
    },
    async inUse(account) {
      const [row] = await db.rows(sql`
        select count(*)::integer, coalesce(sum(cpu) filter (where state <> 'hibernated'), 0)::double precision,
          coalesce(sum(memory_mib) filter (where state <> 'hibernated'), 0)::double precision,
          (select coalesce(sum(ceil(size_bytes / 1048576.0)), 0)::double precision from ${storedNow}
            where ${owned(storedNow, account)})
        from ${sandboxes} where ${owned(sandboxes, account, isNull(sandboxes.endedAt))}`);
      const [open, vcpus, memoryMib, storageMib] = row as [number, number, number, number];
      return { sandboxes: open, vcpus, memoryMib, storageMib };
    },
    async events(account, sandbox, tail) {
      const rows = await db.ask((orm) =>
        orm
          .select()
          .from(moves)
          .where(owned(moves, account, eq(moves.sandbox, sandbox)))
          .orderBy(desc(moves.sequence))
          .limit(tail),
      );
      if (rows.length === 0) return (await has(db, account, sandbox)) ? [] : null;
      return rows.reverse().map(({ sequence, at, event, fromState, toState, reason }) => ({
        ...{ sequence, at: iso(at), type: event, from: fromState, to: toState, reason },
      }));
    },
    async provenMs(account, sandbox) {
      const [row] = await db.rows(sql`
        select greatest(seen_ms, (select monotonic_ms from ${moves} as m where m.sandbox = ${sandbox} order by sequence desc limit 1))
        from ${sandboxes} where ${owned(sandboxes, account, eq(sandboxes.id, sandbox))}`);
      return row === undefined ? null : Number(row[0] ?? 0);
    },
    async endedSandbox(account, sandbox) {
      const [row] = await db.ask((orm) =>
        orm
          .select({ info: sandboxes.info, state: sandboxes.state, reason: sandboxes.reason })
          .from(sandboxes)
          .where(owned(sandboxes, account, eq(sandboxes.id, sandbox), isNotNull(sandboxes.endedAt))),
      );
      if (row === undefined || row.info === null) return null;
      return { ...row.info, state: row.state === "deleted" ? "deleted" : "failed", reason: row.reason };
    },
  };
}

async function has(db: Database, account: string, sandbox: string): Promise<boolean> {
  const mine = owned(sandboxes, account, eq(sandboxes.id, sandbox), sql`not ${sandboxes.forgotten}`);
  const rows = await db.ask((orm) => orm.select({ id: sandboxes.id }).from(sandboxes).where(mine));
  return rows.length > 0;
}
