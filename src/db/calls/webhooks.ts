/** Webhooks, and deliveries that wait for one to be taken. */
import { asc, count, eq, sql } from "drizzle-orm";
import type { Delivery, Store } from "../../api/store.ts";
import { nonce } from "../../base/id.ts";
import { type Database, owned } from "../database.ts";
import { webhookDeliveries, webhooks } from "../schema/accounts.ts";

type Calls = Pick<Store, "createWebhook" | "webhooks" | "removeWebhook" | "enqueue" | "due" | "settle">;

const iso = (ms: number) => new Date(ms).toISOString();

export function webhookCalls(db: Database): Calls {
  return {
    async createWebhook(account, { id, url, events, createdAt }, secret) {
      const row = { id, account, url, events, secret, createdAt: Date.parse(createdAt) };
      await db.ask((orm) => orm.insert(webhooks).values(row));
    },
    async webhooks(account) {
      const rows = await db.ask((orm) =>
        orm
          .select({ hook: webhooks, waiting: count(webhookDeliveries.id) })
          .from(webhooks)
          .leftJoin(webhookDeliveries, eq(webhookDeliveries.webhook, webhooks.id))
          .where(owned(webhooks, account))
          .groupBy(webhooks.id)
          .orderBy(asc(webhooks.createdAt), asc(webhooks.id)),
      );
      return rows.map(({ hook: { id, url, events, createdAt, lastAt, lastStatus }, waiting }) => ({
        ...{ id, url, events, createdAt: iso(createdAt), waiting: Number(waiting), lastStatus },
        lastAt: lastAt === null ? null : iso(lastAt),
      }));
    },
    async removeWebhook(account, id) {
      const gone = await db.ask((orm) =>
        orm
          .delete(webhooks)
          .where(owned(webhooks, account, eq(webhooks.id, id)))
          .returning({ id: webhooks.id }),
      );
      return gone.length > 0;
    },
    async enqueue(account, type, body, atMs) {
      // Of each webhook one, whose id no other delivery has: this event's and the webhook's.
      const rows = await db.rows(sql`
        insert into ${webhookDeliveries} (id, webhook, body, next_at)
        select ${nonce()}::text || '-' || id, id, ${body}, ${iso(atMs)}::timestamptz from ${webhooks}
        where ${owned(webhooks, account)} and (events ? '*' or events ? ${type}::text) returning 1`);
      return rows.length;
    },
    async due(atMs, limit, leaseMs) {
      const rows = await db.rows(sql`
        with claimed as (
          update ${webhookDeliveries} set next_at = ${iso(atMs + leaseMs)}::timestamptz
          from (
            select id as claim, next_at as was from ${webhookDeliveries} where next_at <= ${iso(atMs)}::timestamptz
            order by next_at, id limit ${limit} for update skip locked
          ) as waiting
          where id = claim returning id, webhook, body, tries, was
        )
        select claimed.id, webhook, url, secret, body, tries from claimed join ${webhooks} on ${webhooks.id} = webhook
        order by was, claimed.id`);
      return rows.map((row): Delivery => {
        const [id, webhook, url, secret, body, tries] = row as [string, string, string, string, string, number];
        return { id, webhook, url, secret, body, tries };
      });
    },
    async settle(delivery, { status, nextAtMs, atMs }) {
      const change =
        nextAtMs === null
          ? sql`delete from webhook_deliveries where id = ${delivery} returning webhook`
          : sql`update webhook_deliveries set next_at = ${iso(nextAtMs)}::timestamptz, tries = tries + 1
              where id = ${delivery} returning webhook`;
      await db.rows(sql`
        with settled as (${change})
        update ${webhooks} set last_at = ${iso(atMs)}::timestamptz, last_status = ${status}::integer
        from settled where id = webhook`);
    },
  };
}
