/** The log of who did what, and forgetting what is older than it has to be. */
import { and, desc, isNotNull, lt, type SQL, sql } from "drizzle-orm";
import type { Store } from "../../api/store.ts";
import { WarrenError } from "../../errors.ts";
import { asJson, type Database, equalsAny, owned } from "../database.ts";
import { auditLog } from "../schema/accounts.ts";
import { idempotencyKeys, moves, portLabels, sandboxes } from "../schema/sandboxes.ts";

type Calls = Pick<Store, "audit" | "auditLog" | "forget">;

/** Tables whose rows come and go, or change often. */
const CHANGING = [
  "sandboxes",
  "moves",
  "accounts",
  "api_keys",
  "idempotency_keys",
  "audit_log",
  "webhook_deliveries",
  "stored_now",
  "billing.intervals",
  "billing.outbox",
];
/** Rows that one statement removes: more would hold locks for long. */
const PIECE = 2000;

/** `tidy` is called when rows were forgotten. */
export function auditCalls(db: Database, tidy: (tables: readonly string[]) => Promise<void>): Calls {
  return {
    async audit(rows) {
      if (rows.length === 0) return;
      const given = rows.map(({ requestId, ...row }) => ({ ...row, request_id: requestId }));
      await db.rows(sql`
        insert into ${auditLog} (at, account, actor, action, target, status, request_id)
        select at, account, actor, action, target, status, request_id
        from rows from (jsonb_to_recordset(${asJson(given)}::text::jsonb) as (at timestamptz, account text, actor text,
          action text, target text, status integer, request_id text)) with ordinality order by ordinality`);
    },
    async auditLog(account, { limit, before }) {
      const earlier: SQL[] = before === null ? [] : [lt(auditLog.at, instantOf(before))];
      const wanted = account === null ? and(...earlier) : owned(auditLog, account, ...earlier);
      const rows = await db.ask((orm) =>
        orm.select().from(auditLog).where(wanted).orderBy(desc(auditLog.at), desc(auditLog.id)).limit(limit),
      );
      return rows.map(({ at, account, actor, action, target, status, requestId }) => ({
        ...{ at: new Date(at).toISOString(), account, actor, action, target, status, requestId },
      }));
    },
    async forget(beforeMs) {
      const forgotten = await forgetSandboxes(db, beforeMs);
      const keys = await pieces((limit) =>
        db.rows(sql`
          delete from ${idempotencyKeys} where (account, key) in
            (select account, key from ${idempotencyKeys} where ${lt(idempotencyKeys.at, beforeMs)} limit ${limit}) returning 1`),
      );
      const rows = await pieces((limit) =>
        db.rows(sql`
          delete from ${auditLog} where id in
            (select id from ${auditLog} where ${lt(auditLog.at, beforeMs)} limit ${limit}) returning 1`),
      );
      await tidy(CHANGING);
      return forgotten + keys + rows;
    },
  };
}

/** Their rows stay: what reports tell of them, and that no move of theirs counts again. */
async function forgetSandboxes(db: Database, beforeMs: number): Promise<number> {
  const old = and(isNotNull(sandboxes.endedAt), sql`not ${sandboxes.forgotten}`, lt(sandboxes.endedAt, beforeMs));
  return pieces(async (limit) => {
    const found = await db.ask((orm) =>
      orm
        .select({ id: sandboxes.id })
        .from(sandboxes)
        .where(old)
        .limit(limit / 10),
    );
    if (found.length === 0) return [];
    const named = equalsAny(found.map(({ id }) => id));
    const rows = await db.rows(sql`
      update ${sandboxes} set forgotten = true, info = null where id ${named} and not forgotten returning 1`);
    await db.rows(sql`delete from ${portLabels} where sandbox ${named}`);
    await db.rows(sql`delete from ${idempotencyKeys} where sandbox ${named}`);
    return [...rows, ...(await db.rows(sql`delete from ${moves} where sandbox ${named} returning 1`))];
  });
}

/** Piece by piece until one finds nothing; how many rows in all. */
async function pieces(remove: (limit: number) => Promise<readonly unknown[]>): Promise<number> {
  let count = 0;
  for (let last = 1; last > 0; count += last) last = (await remove(PIECE)).length;
  return count;
}

function instantOf(text: string): number {
  const ms = Date.parse(text);
  if (!Number.isNaN(ms)) return ms;
  throw new WarrenError("invalid_request", "before: has to be a time, as `at` of an entry is", {
    details: { field: "before" },
  });
}
