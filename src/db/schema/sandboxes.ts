/** Sandboxes, the log of their moves, and what those amount to. */
import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  check,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
} from "drizzle-orm/pg-core";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import { accounts } from "./accounts.ts";
import { instant } from "./columns.ts";

const owner = () =>
  text()
    .notNull()
    .references(() => accounts.id);

/** One that was booked, described or has moved; open until `ended_at`. */
export const sandboxes = pgTable(
  "sandboxes",
  {
    id: text().primaryKey(),
    account: owner(),
    template: text().notNull(),
    cpu: integer().notNull(),
    memoryMib: integer("memory_mib").notNull(),
    /** After its last move; `creating` before the first. */
    state: text().notNull(),
    reason: text(),
    /** Of its last move; 0 before the first. */
    lastSequence: integer("last_sequence").notNull().default(0),
    /** The server that has it. */
    node: text().notNull(),
    createdAt: instant("created_at").notNull(),
    endedAt: instant("ended_at"),
    /** Admitted: against the quota from then on. What only has moved counts when its admission is long overdue. */
    booked: boolean().notNull().default(false),
    /** As last told of; null: nobody has yet. */
    info: jsonb().$type<SandboxInfo>(),
  },
  (t) => [
    index("sandboxes_open").on(t.account).where(sql`${t.endedAt} is null`),
    index("sandboxes_open_node").on(t.node).where(sql`${t.endedAt} is null`),
    index("sandboxes_ended").on(t.endedAt).where(sql`${t.endedAt} is not null`),
    check("sandboxes_size", sql`${t.cpu} > 0 and ${t.memoryMib} > 0`),
  ],
);

/** The log that billing folds; a row is never changed. */
export const moves = pgTable(
  "moves",
  {
    sandbox: text()
      .notNull()
      .references(() => sandboxes.id, { onDelete: "cascade" }),
    sequence: integer().notNull(),
    account: owner(),
    template: text().notNull(),
    cpu: integer().notNull(),
    memoryMib: integer("memory_mib").notNull(),
    fromState: text("from_state"),
    toState: text("to_state").notNull(),
    event: text().notNull(),
    reason: text(),
    networkOutBytes: bigint("network_out_bytes", { mode: "number" }),
    networkInBytes: bigint("network_in_bytes", { mode: "number" }),
    networkConnections: integer("network_connections"),
    /** The engine's monotonic clock, fractional milliseconds. Never decreases along a sandbox. */
    monotonicMs: doublePrecision("monotonic_ms").notNull(),
    at: instant().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.sandbox, t.sequence] }),
    check("moves_sequence", sql`${t.sequence} >= 1`),
    index("moves_account").on(t.account, t.at),
  ],
);

/**
 * What a sandbox has used: sums over its moves, kept up by `warren_record` in the transaction that inserts them. Stays when
 * the sandbox and its moves are forgotten.
 */
export const meters = pgTable(
  "meters",
  {
    sandbox: text().primaryKey(),
    account: owner(),
    template: text().notNull(),
    /** Of stretches that have ended; what is open is not in it. */
    closedVcpuMs: bigint("closed_vcpu_ms", { mode: "bigint" }).notNull(),
    closedMemoryMibMs: bigint("closed_memory_mib_ms", { mode: "bigint" }).notNull(),
    egressBytes: bigint("egress_bytes", { mode: "bigint" }).notNull(),
    /** Of the stretch that is open: since when, by both clocks, and what is charged in it. Null: nothing is. */
    openSinceMs: bigint("open_since_ms", { mode: "bigint" }),
    openSince: instant("open_since"),
    openVcpus: integer("open_vcpus"),
    openMemoryMib: integer("open_memory_mib"),
    /** Its moves are gone, and none of them counts if it comes again. */
    forgotten: boolean().notNull().default(false),
  },
  (t) => [
    index("meters_account").on(t.account),
    check("meters_sums", sql`least(${t.closedVcpuMs}, ${t.closedMemoryMibMs}, ${t.egressBytes}) >= 0`),
  ],
);

/** What a request with this key has made. */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    account: owner(),
    key: text().notNull(),
    requestHash: text("request_hash").notNull(),
    sandbox: text()
      .notNull()
      .references(() => sandboxes.id, { onDelete: "cascade" }),
    at: instant().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.account, t.key] }),
    index("idempotency_keys_sandbox").on(t.sandbox),
    index("idempotency_keys_at").on(t.at),
  ],
);

export const portLabels = pgTable(
  "port_labels",
  { account: owner(), sandbox: text().notNull(), port: integer().notNull(), label: text() },
  (t) => [
    primaryKey({ columns: [t.account, t.sandbox, t.port] }),
    check("port_labels_port", sql`${t.port} between 1 and 65535`),
  ],
);
