/**
 * Facts and money. `intervals` says what was used and when, `ledger` what it cost; both are only ever added to. What they rest
 * on beside them: meters, price lists with dates, plans, who has which, the windows that were settled, and invoices.
 * Constraints that Drizzle does not know (no overlap, no change) are in the migration after this schema's.
 */
import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  char,
  check,
  date,
  foreignKey,
  index,
  integer,
  jsonb,
  numeric,
  pgSchema,
  primaryKey,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import { accounts } from "./accounts.ts";
import { instant, instantRange } from "./columns.ts";

export const billing = pgSchema("billing");

const owner = () =>
  text()
    .notNull()
    .references(() => accounts.id);

/** What can be measured; its rows come with a migration, from the one list in `meter/meters.ts`. */
export const meters = billing.table(
  "meters",
  {
    /** With its unit, as `vcpu_ms`. */
    meter: text().primaryKey(),
    /** `level`: units × time. `count`: as many, at an instant. */
    kind: text().notNull(),
    /** What a price is for, as `vCPU-second`. */
    unit: text().notNull(),
    /** Price units in one of the meter's: exact, as all of them are powers of 2 and 10. */
    factor: numeric().notNull(),
    describes: text().notNull(),
  },
  (t) => [check("meters_kind", sql`${t.kind} in ('level', 'count')`), check("meters_factor", sql`${t.factor} > 0`)],
);

/** One stretch of one thing by one meter, whole milliseconds, within one day of UTC. Written once it is over, never changed. */
export const intervals = billing.table(
  "intervals",
  {
    id: bigint({ mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    account: owner(),
    /** A sandbox's id, or `kind/account/name` of what else is charged. */
    subject: text().notNull(),
    template: text(),
    meter: text().notNull(),
    /** vCPUs, MiB; of a count what was counted. */
    units: bigint({ mode: "bigint" }).notNull(),
    /** `[from, to)` of a level, `[at, at]` of a count: the subject's own axis of time, on which no clock jumps. */
    during: instantRange().notNull(),
    /** In the meter's unit: each instant is taken down to it before anything is subtracted, so that any cut adds up. */
    quantity: bigint({ mode: "bigint" })
      .notNull()
      .generatedAlwaysAs(sql`billing.quantity(meter, units, lower(during), upper(during))`),
    recordedAt: instant("recorded_at").notNull().default(sql`now()`),
    /** Of subject and meter, which no two stretches have at one time: kept apart as a number, that takes half as long as by text. */
    key: bigint({ mode: "bigint" }).notNull().generatedAlwaysAs(sql`hashtextextended(subject || ' ' || meter, 0)`),
  },
  (t) => [
    index("intervals_account").on(t.account, sql`lower(${t.during})`),
    index("intervals_subject").on(t.subject),
    check("intervals_units", sql`${t.units} >= 0`),
  ],
);

/** What may cost: everybody's lists, and those that were agreed on with one account. */
export const priceLists = billing.table("price_lists", {
  id: text().primaryKey(),
  /** ISO 4217. */
  currency: char({ length: 3 }).notNull(),
  /** Null: for everybody. */
  account: text().references(() => accounts.id),
  createdAt: instant("created_at").notNull().default(sql`now()`),
});

/** From the beginning of a day (UTC) until the list has a newer price of the meter. Days that have begun are never changed. */
export const prices = billing.table(
  "prices",
  {
    list: text()
      .notNull()
      .references(() => priceLists.id),
    meter: text()
      .notNull()
      .references(() => meters.meter),
    fromDay: date("from_day").notNull(),
    price: numeric().notNull(),
  },
  (t) => [primaryKey({ columns: [t.list, t.meter, t.fromDay] }), check("prices_price", sql`${t.price} >= 0`)],
);

/** What of a month's costs is different: included amounts, at least, at most. */
export const plans = billing.table(
  "plans",
  {
    id: text().primaryKey(),
    list: text()
      .notNull()
      .references(() => priceLists.id),
    /** Of an invoice, in the list's currency; null: none. */
    minimum: numeric(),
    cap: numeric(),
    createdAt: instant("created_at").notNull().default(sql`now()`),
  },
  (t) => [check("plans_bounds", sql`0 <= ${t.minimum} and coalesce(${t.minimum}, 0) <= ${t.cap}`)],
);

export const planIncluded = billing.table(
  "plan_included",
  {
    plan: text()
      .notNull()
      .references(() => plans.id),
    meter: text()
      .notNull()
      .references(() => meters.meter),
    /** Of the meter's unit, in each month. */
    quantity: numeric().notNull(),
  },
  (t) => [primaryKey({ columns: [t.plan, t.meter] }), check("plan_included_quantity", sql`${t.quantity} > 0`)],
);

/** Which plan an account has from a day (UTC) on; who has none is charged by the default list. */
export const subscriptions = billing.table(
  "subscriptions",
  {
    account: owner(),
    fromDay: date("from_day").notNull(),
    plan: text()
      .notNull()
      .references(() => plans.id),
  },
  (t) => [primaryKey({ columns: [t.account, t.fromDay] })],
);

/** A day of UTC that is settled, in their order. Closed ones are never changed: what comes late is booked in the open one. */
export const windows = billing.table("windows", {
  day: date().primaryKey(),
  /** Null: what is settled now is booked here. */
  closedAt: instant("closed_at"),
});

/** Money. An entry names the interval that it is for; a wrong one is reversed by another, and perhaps followed by a right one. */
export const ledger = billing.table(
  "ledger",
  {
    id: bigint({ mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    account: owner(),
    /** `charge`, `reversal` or `correction`. */
    kind: text().notNull(),
    interval: bigint({ mode: "bigint" })
      .notNull()
      .references(() => intervals.id),
    /** The entry that this one takes back or replaces. */
    corrects: bigint({ mode: "bigint" }),
    /** The window that it was booked in. */
    window: date()
      .notNull()
      .references(() => windows.day),
    /** When it was used (UTC). */
    day: date().notNull(),
    meter: text().notNull(),
    template: text(),
    /** Negative in a reversal. */
    quantity: bigint({ mode: "bigint" }).notNull(),
    list: text().references(() => priceLists.id),
    /** For one of the price's units. */
    price: numeric().notNull(),
    /** Exact, not rounded. */
    amount: numeric().notNull(),
    currency: char({ length: 3 }).notNull(),
    bookedAt: instant("booked_at").notNull().default(sql`now()`),
    reason: text(),
  },
  (t) => [
    foreignKey({ columns: [t.corrects], foreignColumns: [t.id], name: "ledger_corrects_fk" }),
    uniqueIndex("ledger_charge").on(t.interval).where(sql`${t.kind} = 'charge'`),
    uniqueIndex("ledger_corrected").on(t.corrects, t.kind).where(sql`${t.corrects} is not null`),
    index("ledger_account").on(t.account, t.day),
    check("ledger_kind", sql`${t.kind} in ('charge', 'reversal', 'correction')`),
    check("ledger_names", sql`(${t.kind} = 'charge') = (${t.corrects} is null)`),
    check("ledger_price", sql`${t.price} >= 0`),
  ],
);

/** Sums of the ledger by day, exactly: `sum(quantity)` and `sum(amount)` of the entries booked in a window. */
export const rollups = billing.table(
  "rollups",
  {
    window: date()
      .notNull()
      .references(() => windows.day),
    day: date().notNull(),
    account: owner(),
    template: text().notNull(),
    meter: text().notNull(),
    quantity: numeric().notNull(),
    amount: numeric().notNull(),
    currency: char({ length: 3 }).notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.account, t.day, t.meter, t.template, t.window, t.currency] }),
    index("rollups_day").on(t.day),
  ],
);

/** How far settlement has come: one row. */
export const settled = billing.table(
  "settled",
  {
    only: boolean().primaryKey().default(true),
    /** Every interval up to this id has its charge. */
    interval: bigint({ mode: "bigint" }).notNull().default(sql`0`),
    /** Every entry up to this id is in the rollups. */
    entry: bigint({ mode: "bigint" }).notNull().default(sql`0`),
  },
  (t) => [check("settled_only", sql`${t.only}`)],
);

/** One account's month (UTC), as it was sent. Frozen when it is issued. */
export const invoices = billing.table(
  "invoices",
  {
    /** For people, in order: `2026-11-0001`. */
    id: text().primaryKey(),
    account: owner(),
    /** First day of the month. */
    month: date().notNull(),
    currency: char({ length: 3 }).notNull(),
    plan: text().references(() => plans.id),
    total: numeric().notNull(),
    issuedAt: instant("issued_at").notNull(),
    /** Entries up to this one of days before the month's end are on this invoice or an earlier one. */
    upToEntry: bigint("up_to_entry", { mode: "bigint" }).notNull(),
    /** Name and address as they were then. */
    billTo: jsonb("bill_to").notNull(),
  },
  (t) => [uniqueIndex("invoices_month").on(t.account, t.month, t.currency)],
);

export const invoiceLines = billing.table(
  "invoice_lines_kept",
  {
    invoice: text()
      .notNull()
      .references(() => invoices.id),
    line: integer().notNull(),
    /** `usage`, `included`, `minimum`, `cap`, `late`. */
    kind: text().notNull(),
    meter: text(),
    describes: text().notNull(),
    quantity: numeric(),
    price: numeric(),
    /** Rounded, by `billing.rounded`. */
    amount: numeric().notNull(),
  },
  (t) => [primaryKey({ columns: [t.invoice, t.line] })],
);

/** CloudEvents that sinks have not taken yet. */
export const outbox = billing.table(
  "outbox",
  {
    id: bigint({ mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    sink: text()
      .notNull()
      .references(() => sinks.id, { onDelete: "cascade" }),
    /** Of the event, the same whenever it is made again. */
    event: text().notNull(),
    body: jsonb().notNull(),
    tries: integer().notNull().default(0),
    nextAt: instant("next_at").notNull(),
    /** When it may first have been taken, without our knowing; null: it was not sent yet. */
    sentAt: instant("sent_at"),
  },
  (t) => [uniqueIndex("outbox_event").on(t.sink, t.event), index("outbox_due").on(t.sink, t.nextAt)],
);

/** Where usage is sent, and how far that has come. */
export const sinks = billing.table("sinks", {
  id: text().primaryKey(),
  /** `webhook`, `openmeter`, `lago` or `stripe`. */
  kind: text().notNull(),
  /** Null: of every account. */
  account: text().references(() => accounts.id),
  settings: jsonb().notNull(),
  /** Every interval up to this id was queued. */
  interval: bigint({ mode: "bigint" }).notNull().default(sql`0`),
  createdAt: instant("created_at").notNull(),
  lastError: text("last_error"),
});
