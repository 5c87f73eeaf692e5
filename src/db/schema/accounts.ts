/** Who may ask for what: accounts with their quotas and credit, their keys, what they did, and this installation's secrets. */
import { sql } from "drizzle-orm";
import { bigint, boolean, check, index, integer, jsonb, numeric, pgTable, text } from "drizzle-orm/pg-core";
import type { BillTo } from "../../contract/routes/api/billing.ts";
import { instant } from "./columns.ts";

export const accounts = pgTable(
  "accounts",
  {
    id: text().primaryKey(),
    name: text().notNull(),
    createdAt: instant("created_at").notNull(),
    suspended: boolean().notNull().default(false),
    /** Null in a quota: as much as the host has. */
    quotaSandboxes: bigint("quota_sandboxes", { mode: "number" }),
    quotaVcpus: bigint("quota_vcpus", { mode: "number" }),
    quotaMemoryMib: bigint("quota_memory_mib", { mode: "number" }),
    quotaStorageMib: bigint("quota_storage_mib", { mode: "number" }),
    quotaRequestsPerSecond: bigint("quota_requests_per_second", { mode: "number" }),
    /** Exact, with every decimal that a price has; null: not prepaid. */
    creditUsd: numeric("credit_usd"),
    /** What happens to what runs when the credit is used up: `nothing`, or it is hibernated. */
    onEmpty: text("on_empty").notNull().default("nothing"),
    /** IANA name: in which days of its reports begin. */
    timeZone: text("time_zone").notNull().default("UTC"),
    /** Name, address and tax id on invoices; null: the account's name. */
    billTo: jsonb("bill_to").$type<BillTo>(),
  },
  (t) => [
    check(
      "accounts_quota",
      sql`least(${t.quotaSandboxes}, ${t.quotaVcpus}, ${t.quotaMemoryMib}, ${t.quotaStorageMib}) >= 0`,
    ),
    check("accounts_on_empty", sql`${t.onEmpty} in ('nothing', 'hibernate')`),
    check("accounts_quota_requests", sql`${t.quotaRequestsPerSecond} >= 1`),
  ],
);

export const apiKeys = pgTable(
  "api_keys",
  {
    /** SHA-256 of the whole token, in hex. */
    hash: text().primaryKey(),
    account: text()
      .notNull()
      .references(() => accounts.id, { onDelete: "cascade" }),
    prefix: text().notNull().unique(),
    label: text().notNull(),
    scopes: text().array().notNull(),
    createdAt: instant("created_at").notNull(),
    expiresAt: instant("expires_at"),
    lastUsedAt: instant("last_used_at"),
    revokedAt: instant("revoked_at"),
  },
  (t) => [index("api_keys_account").on(t.account), check("api_keys_hash", sql`${t.hash} ~ '^[0-9a-f]{64}$'`)],
);

/** Of this installation, the same for every server. */
export const secrets = pgTable("secrets", { name: text().primaryKey(), value: text().notNull() });

/** Outlives the accounts that it names. */
export const auditLog = pgTable(
  "audit_log",
  {
    id: bigint({ mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    at: instant().notNull(),
    account: text(),
    actor: text().notNull(),
    action: text().notNull(),
    target: text(),
    status: integer().notNull(),
    requestId: text("request_id").notNull(),
  },
  (t) => [index("audit_log_account").on(t.account, t.at), index("audit_log_at").on(t.at)],
);

/** URLs that an account's events are sent to. */
export const webhooks = pgTable(
  "webhooks",
  {
    id: text().primaryKey(),
    account: text()
      .notNull()
      .references(() => accounts.id, { onDelete: "cascade" }),
    url: text().notNull(),
    /** Types of events as an array of strings, `*` for all. */
    events: jsonb().$type<string[]>().notNull(),
    secret: text().notNull(),
    createdAt: instant("created_at").notNull(),
    /** When and how the last try of any delivery ended. */
    lastAt: instant("last_at"),
    lastStatus: integer("last_status"),
  },
  (t) => [index("webhooks_account").on(t.account)],
);

/** What waits to be sent; gone when it was taken or given up. */
export const webhookDeliveries = pgTable(
  "webhook_deliveries",
  {
    id: text().primaryKey(),
    webhook: text()
      .notNull()
      .references(() => webhooks.id, { onDelete: "cascade" }),
    /** JSON text as it is signed and sent, to the byte. */
    body: text().notNull(),
    tries: integer().notNull().default(0),
    /** Not before; a server that sends it moves this on by its lease. */
    nextAt: instant("next_at").notNull(),
  },
  (t) => [index("webhook_deliveries_due").on(t.nextAt), index("webhook_deliveries_webhook").on(t.webhook)],
);
