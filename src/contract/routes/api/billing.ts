/** Usage, prices and invoices of an account. */
import { type Static, Type } from "@sinclair/typebox";
import type { Contract } from "../../route.ts";

export const OrNull = <S extends Parameters<typeof Type.Union>[0][number]>(schema: S) =>
  Type.Union([schema, Type.Null()]);
/** Exact, as decimal text: no float ever holds money. */
export const Amount = Type.String({ pattern: "^-?\\d{1,30}(\\.\\d{1,60})?$" });
const Price = Type.String({ pattern: "^\\d{1,12}(\\.\\d{1,18})?$" });
/** ISO 4217. */
export const Currency = Type.String({ pattern: "^[A-Z]{3}$" });
/** A day, `2026-11-21`. */
export const Day = Type.String({ pattern: "^\\d{4}-\\d{2}-\\d{2}$" });
/** A day (its beginning, in the account's time zone) or an instant with its offset, `2026-11-21T10:00:00Z`. */
export const Moment = Type.String({ minLength: 10, maxLength: 40 });
export const Name = Type.String({ pattern: "^[a-z0-9][a-z0-9_-]{0,62}$" });
export const Nothing = Type.Object({}, { additionalProperties: false });
/** Another one than the key's, for administrators. */
const Whose = Type.Optional(Name);
const OfAccount = Type.Object({ account: Whose }, { additionalProperties: false });
const InvoiceId = Type.Object(
  { id: Type.String({ pattern: "^[a-z0-9-]{1,32}$" }), account: Whose },
  { additionalProperties: false },
);

/** Meter → how much, in the meter's own unit: whole numbers. */
export const Quantities = Type.Record(Type.String(), Type.String());
export type Quantities = Static<typeof Quantities>;

export const UsageRow = Type.Object({
  /** One value for each name in `groupBy`; null: it has none, as a volume has no template. */
  group: Type.Record(Type.String(), OrNull(Type.String())),
  meters: Quantities,
  /** Before plans and credit, exact. */
  amount: Amount,
});
export type UsageRow = Static<typeof UsageRow>;

export const UsageReport = Type.Object({
  from: Type.String(),
  to: Type.String(),
  /** In which its days begin. */
  timeZone: Type.String(),
  currency: Currency,
  groupBy: Type.Array(Type.String()),
  rows: Type.Array(UsageRow),
  meters: Quantities,
  total: Amount,
  /** Up to when it is sure: what runs was seen alive then. */
  seenUntil: Type.String(),
});
export type UsageReport = Static<typeof UsageReport>;

/** What a report sums up: one stretch of one thing by one meter, within a day of UTC and what was asked for. */
export const UsageEntry = Type.Object({
  /** A sandbox's id, or `kind/account/name` of what else is charged. */
  subject: Type.String(),
  template: OrNull(Type.String()),
  meter: Type.String(),
  from: Type.String(),
  /** Of a count the same as `from`. */
  to: Type.String(),
  /** In the meter's unit. */
  quantity: Type.String(),
  /** Before plans and credit, exact. */
  amount: Amount,
  currency: Currency,
  /** It goes on, and was seen alive until `to`. */
  open: Type.Boolean(),
});
export type UsageEntry = Static<typeof UsageEntry>;

export const SandboxUsage = Type.Object({
  sandbox: Type.String(),
  /** Null: it has not run. */
  from: OrNull(Type.String()),
  to: OrNull(Type.String()),
  /** It is still being charged. */
  open: Type.Boolean(),
  currency: Currency,
  meters: Quantities,
  amount: Amount,
});
export type SandboxUsage = Static<typeof SandboxUsage>;

export const PriceInfo = Type.Object({
  meter: Type.String(),
  /** What the price is for, as `vCPU-second`. */
  unit: Type.String(),
  price: Price,
  fromDay: Day,
  describes: Type.String(),
});
export type PriceInfo = Static<typeof PriceInfo>;

export const PlanInfo = Type.Object({
  id: Name,
  list: Name,
  /** Of each invoice. */
  minimum: OrNull(Price),
  cap: OrNull(Price),
  /** Free in each month. */
  included: Quantities,
});
export type PlanInfo = Static<typeof PlanInfo>;

export const PriceList = Type.Object({
  id: Name,
  currency: Currency,
  /** Null: for everybody. */
  account: OrNull(Type.String()),
  /** All that was and will be, by meter and day. */
  prices: Type.Array(PriceInfo),
});
export type PriceList = Static<typeof PriceList>;

export const Pricing = Type.Object({
  list: Name,
  currency: Currency,
  /** Those in force, and those that are to come. */
  prices: Type.Array(PriceInfo),
  plan: OrNull(PlanInfo),
  /** Rules that a price alone does not tell. */
  notes: Type.Array(Type.String()),
});
export type Pricing = Static<typeof Pricing>;

export const InvoiceLine = Type.Object({
  kind: Type.Union(
    (["usage", "included", "correction", "minimum", "cap", "late", "credit"] as const).map((kind) =>
      Type.Literal(kind),
    ),
  ),
  meter: OrNull(Type.String()),
  describes: Type.String(),
  /** In the price's unit, exact. */
  quantity: OrNull(Amount),
  unit: OrNull(Type.String()),
  price: OrNull(Amount),
  /** Rounded, once, to the currency's smallest unit. */
  amount: Amount,
});
export type InvoiceLine = Static<typeof InvoiceLine>;

export const BillTo = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 256 }),
    address: Type.Array(Type.String({ maxLength: 256 }), { maxItems: 8 }),
    taxId: OrNull(Type.String({ maxLength: 64 })),
  },
  { additionalProperties: false },
);
export type BillTo = Static<typeof BillTo>;

export const InvoiceInfo = Type.Object({
  /** Of a month that is not over: `draft-2026-11`. */
  id: Type.String(),
  account: Type.String(),
  /** `2026-11`, of UTC. */
  month: Type.String(),
  currency: Currency,
  plan: OrNull(Type.String()),
  /** Null: a draft. */
  issuedAt: OrNull(Type.String()),
  billTo: BillTo,
  total: Amount,
});
export type InvoiceInfo = Static<typeof InvoiceInfo>;
export const Invoice = Type.Composite([InvoiceInfo, Type.Object({ lines: Type.Array(InvoiceLine) })]);
export type Invoice = Static<typeof Invoice>;

export const Settlement = Type.Object({
  /** Stretches of what goes on that were closed at the end of a day. */
  cut: Type.Integer(),
  /** Entries that were written. */
  charged: Type.Integer(),
  /** Days that were closed. */
  closed: Type.Integer(),
  /** Invoices that were issued. */
  issued: Type.Integer(),
});
export type Settlement = Static<typeof Settlement>;

export const Difference = Type.Object({
  account: Type.String(),
  sandbox: Type.String(),
  meter: Type.String(),
  /** `moves`, `ledger` or `accounting` (the kernel's): what the books are compared with. */
  against: Type.String(),
  booked: Type.String(),
  found: Type.String(),
  says: Type.String(),
});
export type Difference = Static<typeof Difference>;

export const SinkInfo = Type.Object({
  id: Name,
  kind: Type.Union((["webhook", "openmeter", "lago", "stripe"] as const).map((kind) => Type.Literal(kind))),
  account: OrNull(Type.String()),
  url: Type.String(),
  /** Events that were not taken yet. */
  waiting: Type.Integer(),
  lastError: OrNull(Type.String()),
});
export type SinkInfo = Static<typeof SinkInfo>;

export const billingRoutes = {
  pricing: {
    method: "GET",
    path: "/v1/pricing",
    scope: "billing:read",
    says: "What things cost this account, now and from announced days on",
    input: OfAccount,
    returns: Pricing,
    errors: ["not_found"],
  },
  usage: {
    method: "GET",
    path: "/v1/usage",
    scope: "billing:read",
    says: "What was used, and what that costs before plans and credit",
    input: Type.Object(
      {
        /** Default: the beginning of this month, in the account's time zone. */
        from: Type.Optional(Moment),
        /** Default: now. */
        to: Type.Optional(Moment),
        /** Some of `day`, `sandbox`, `template`, `metadata.<key>`, with commas between them. Default: one row. */
        groupBy: Type.Optional(Type.String({ minLength: 1, maxLength: 512 })),
        account: Whose,
      },
      { additionalProperties: false },
    ),
    returns: UsageReport,
    errors: ["invalid_request", "not_found"],
  },
  usageEntries: {
    method: "GET",
    path: "/v1/usage/entries",
    scope: "billing:read",
    says: "Everything that a usage report sums up, one by one, oldest first",
    input: Type.Object(
      {
        /** Default: the beginning of this month, in the account's time zone. */
        from: Type.Optional(Moment),
        /** Default: now. */
        to: Type.Optional(Moment),
        /** `jsonl`: one JSON object a line. */
        format: Type.Optional(Type.Union([Type.Literal("jsonl"), Type.Literal("csv")])),
        account: Whose,
      },
      { additionalProperties: false },
    ),
    returns: "bytes",
    errors: ["invalid_request", "not_found"],
  },
  sandboxUsage: {
    method: "GET",
    path: "/v1/sandboxes/:id/usage",
    scope: "billing:read",
    says: "What one sandbox has used, also after its end",
    input: Type.Object(
      { id: Type.String({ minLength: 1, maxLength: 64 }), account: Whose },
      { additionalProperties: false },
    ),
    returns: SandboxUsage,
    errors: ["not_found"],
  },
  invoices: {
    method: "GET",
    path: "/v1/invoices",
    scope: "billing:read",
    says: "Invoices, newest first; the month that is not over is a draft",
    input: OfAccount,
    returns: Type.Object({ items: Type.Array(InvoiceInfo) }),
    errors: ["not_found"],
  },
  invoice: {
    method: "GET",
    path: "/v1/invoices/:id",
    scope: "billing:read",
    says: "An invoice with its lines",
    input: InvoiceId,
    returns: Invoice,
    errors: ["not_found"],
  },
  invoicePdf: {
    method: "GET",
    path: "/v1/invoices/:id/pdf",
    scope: "billing:read",
    says: "An invoice as it is sent",
    input: InvoiceId,
    returns: "bytes",
    errors: ["not_found"],
  },
} as const satisfies Contract;
