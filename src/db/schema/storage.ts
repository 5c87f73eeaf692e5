/** What is kept on disk: the log of its sizes, for billing, and the last size of each thing, for quotas. */
import { sql } from "drizzle-orm";
import { bigint, check, doublePrecision, index, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { accounts } from "./accounts.ts";
import { instant } from "./columns.ts";

const owner = () =>
  text()
    .notNull()
    .references(() => accounts.id);

/** From its instant on, something takes so much; 0 when it is gone. A row is never changed. */
export const stored = pgTable(
  "stored",
  {
    account: owner(),
    /** `snapshot`, `image`, `volume`, `template`, `ready` or `build`. */
    kind: text().notNull(),
    id: text().notNull(),
    sizeBytes: bigint("size_bytes", { mode: "number" }).notNull(),
    /** Of the engine of `node`; fractional milliseconds. */
    monotonicMs: doublePrecision("monotonic_ms").notNull(),
    at: instant().notNull(),
    node: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.account, t.kind, t.id, t.at, t.monotonicMs] }),
    index("stored_at").on(t.at),
    check("stored_size", sql`${t.sizeBytes} >= 0`),
  ],
);

/** What is there now, as last told of. */
export const storedNow = pgTable(
  "stored_now",
  {
    account: owner(),
    kind: text().notNull(),
    id: text().notNull(),
    sizeBytes: bigint("size_bytes", { mode: "number" }).notNull(),
    at: instant().notNull(),
    monotonicMs: doublePrecision("monotonic_ms").notNull(),
    /** From when on its size is not in `billing.intervals` yet, milliseconds since the Unix epoch; null: it is gone. */
    sinceMs: bigint("since_ms", { mode: "bigint" }),
    /** The server that told of it last. */
    node: text().notNull().default(""),
  },
  (t) => [primaryKey({ columns: [t.account, t.kind, t.id] }), check("stored_now_size", sql`${t.sizeBytes} >= 0`)],
);
