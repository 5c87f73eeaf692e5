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
    /** As last told of; null: nobody has yet, or it is long forgotten. */
    info: jsonb().$type<SandboxInfo>(),
    /** Its metadata, for reports: stays when the rest is forgotten. */
    labels: jsonb().$type<Readonly<Record<string, string>>>().notNull().default({}),
    /** Its moves are gone, and none of them counts if it comes again. */
    forgotten: boolean().notNull().default(false),
    /**
     * Time that is open: its state since when, milliseconds on the sandbox's own axis. What is charged of it is not in
     * `billing.intervals` yet. Null: it is in no state that anything is charged in.
     */
    openSinceMs: bigint("open_since_ms", { mode: "bigint" }),
    /** Proof of life: it was there at this instant of its axis, by the last heartbeat or move. */
    seenMs: bigint("seen_ms", { mode: "bigint" }),
    /** So far in the time that is open, as of the last heartbeat. */
    openCpuUsedMs: bigint("open_cpu_used_ms", { mode: "bigint" }).notNull().default(sql`0`),
    openEgressBytes: bigint("open_egress_bytes", { mode: "bigint" }).notNull().default(sql`0`),
  },
  (t) => [
    index("sandboxes_open").on(t.account).where(sql`${t.endedAt} is null`),
    index("sandboxes_open_node").on(t.node).where(sql`${t.endedAt} is null`),
    index("sandboxes_ended").on(t.endedAt).where(sql`${t.endedAt} is not null and not ${t.forgotten}`),
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
    /** CPU time since it last began to run, as the host counts it; of moves that end that. */
    cpuUsedMs: bigint("cpu_used_ms", { mode: "number" }),
    /** The sandbox's own axis of time, fractional milliseconds. Never decreases along a sandbox. */
    monotonicMs: doublePrecision("monotonic_ms").notNull(),
    at: instant().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.sandbox, t.sequence] }),
    check("moves_sequence", sql`${t.sequence} >= 1`),
    index("moves_account").on(t.account, t.at),
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
