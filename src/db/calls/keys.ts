/** Keys of accounts: by their hash when a request comes with one, by their prefix when a person names one. */
import { and, desc, eq, isNull, sql } from "drizzle-orm";
import type { Store } from "../../api/store.ts";
import type { Clock } from "../../base/clock.ts";
import type { Scope } from "../../contract/route.ts";
import { WarrenError } from "../../errors.ts";
import { asJson, type Database, owned } from "../database.ts";
import { accounts, apiKeys } from "../schema/accounts.ts";
import { accountColumns, toAccount } from "./accounts.ts";

type Calls = Pick<Store, "createKey" | "keyByHash" | "keys" | "revokeKey" | "touchKeys">;

const iso = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());

export function keyCalls(db: Database, clock: Clock, changed: () => void): Calls {
  /** Why no key was made: there is no such account, or a key by which people would call it the same. */
  const refusal = async (account: string, prefix: string): Promise<WarrenError> => {
    const there = await db.rows(sql`select id from ${accounts} where id = ${account}`);
    return there.length === 0
      ? new WarrenError("not_found", `there is no account ${account}`)
      : new WarrenError("already_exists", `there is an API key ${prefix} already`, { details: { prefix } });
  };
  return {
    async createKey(account, { hash, prefix, label, scopes, createdAtMs, expiresAtMs }) {
      // One statement, which makes nothing where there is no such account. One that its account had, and revoked, is back:
      // an operator's preset key, for instance.
      const made = await db.rows(sql`
        insert into ${apiKeys} (hash, account, prefix, label, scopes, created_at, expires_at)
        select ${hash}, id, ${prefix}, ${label}, array(select jsonb_array_elements_text(${asJson(scopes)}::text::jsonb)),
          ${iso(createdAtMs)}::timestamptz, ${iso(expiresAtMs)}::timestamptz
        from ${accounts} where id = ${account}
          and not exists (select from ${apiKeys} other where other.prefix = ${prefix} and other.hash <> ${hash})
        on conflict (hash) do update set label = excluded.label, scopes = excluded.scopes,
          created_at = excluded.created_at, expires_at = excluded.expires_at, revoked_at = null
        where api_keys.account = excluded.account and api_keys.revoked_at is not null
        returning hash`);
      if (made.length === 0) throw await refusal(account, prefix);
      changed();
    },
    async keyByHash(hash) {
      const [row] = await db.ask((orm) =>
        orm
          .select({ key: apiKeys, account: accountColumns })
          .from(apiKeys)
          .innerJoin(accounts, eq(accounts.id, apiKeys.account))
          .where(and(eq(apiKeys.hash, hash), isNull(apiKeys.revokedAt))),
      );
      if (row === undefined) return null;
      const { prefix, label, scopes, expiresAt } = row.key;
      const account = toAccount(row.account);
      return { prefix, label, scopes: scopes as Scope[], expiresAtMs: expiresAt, account };
    },
    async keys(account) {
      const rows = await db.ask((orm) =>
        orm
          .select()
          .from(apiKeys)
          .where(owned(apiKeys, account, isNull(apiKeys.revokedAt)))
          .orderBy(desc(apiKeys.createdAt), desc(apiKeys.prefix)),
      );
      return rows.map(({ prefix, label, scopes, createdAt, lastUsedAt, expiresAt }) => ({
        prefix,
        label,
        scopes: scopes as Scope[],
        createdAt: new Date(createdAt).toISOString(),
        lastUsedAt: iso(lastUsedAt),
        expiresAt: iso(expiresAt),
      }));
    },
    async revokeKey(account, prefix) {
      const revoked = await db.ask((orm) =>
        orm
          .update(apiKeys)
          .set({ revokedAt: clock.wallMs() })
          .where(owned(apiKeys, account, eq(apiKeys.prefix, prefix), isNull(apiKeys.revokedAt)))
          .returning({ prefix: apiKeys.prefix }),
      );
      if (revoked.length > 0) changed();
      return revoked.length > 0;
    },
    async touchKeys(used) {
      if (used.size === 0) return;
      const rows = [...used].map(([prefix, ms]) => ({ prefix, at: iso(ms) }));
      await db.rows(sql`
        with used as (
          select k.hash, u.at from ${apiKeys} as k
          join jsonb_to_recordset(${asJson(rows)}::text::jsonb) as u(prefix text, at timestamptz) using (prefix)
          order by k.hash for no key update of k -- in one order, or two servers would wait for each other
        )
        update ${apiKeys} set last_used_at = greatest(${apiKeys.lastUsedAt}, used.at)
        from used where ${apiKeys.hash} = used.hash`);
    },
  };
}
