/** Price lists, plans and the books, for operators. */
import { Type } from "@sinclair/typebox";
import type { Contract } from "../../route.ts";
import {
  Currency,
  Day,
  Difference,
  Moment,
  Name,
  Nothing,
  OrNull,
  PlanInfo,
  PriceList,
  Settlement,
  SinkInfo,
} from "./billing.ts";

export const booksRoutes = {
  priceLists: {
    method: "GET",
    path: "/v1/admin/pricing/lists",
    scope: "admin",
    says: "All price lists",
    input: Nothing,
    returns: Type.Object({ items: Type.Array(PriceList) }),
    errors: [],
  },
  setPrices: {
    method: "PUT",
    path: "/v1/admin/pricing/lists/:id",
    scope: "admin",
    says: "Make a price list, or set its prices from a day on that has not begun, in place of any from the same day on",
    input: Type.Object(
      {
        id: Name,
        /** Default: as it is; of a new list USD. */
        currency: Type.Optional(Currency),
        /** Of a new list: for this account alone. */
        account: Type.Optional(Type.String()),
        /** UTC. Default: tomorrow; of a new list any day is allowed. */
        fromDay: Type.Optional(Day),
        /** Meter → price of one of its units. */
        prices: Type.Record(Type.String(), Type.String(), { minProperties: 1 }),
      },
      { additionalProperties: false },
    ),
    returns: PriceList,
    errors: ["invalid_request", "not_found"],
  },
  setPlan: {
    method: "PUT",
    path: "/v1/admin/pricing/plans/:id",
    scope: "admin",
    says: "Make a plan, or change one that no account has yet: a list, included amounts, at least and at most so much a month",
    input: Type.Object(
      {
        id: Name,
        list: Name,
        minimum: Type.Optional(OrNull(Type.String())),
        cap: Type.Optional(OrNull(Type.String())),
        included: Type.Optional(Type.Record(Type.String(), Type.String())),
      },
      { additionalProperties: false },
    ),
    returns: PlanInfo,
    errors: ["invalid_request", "already_exists", "not_found"],
  },
  subscribe: {
    method: "PUT",
    path: "/v1/admin/accounts/:account/plan",
    scope: "admin",
    says: "Give an account a plan, from a day on that has not begun, in place of any from the same day on; or from the first day that it has used anything",
    input: Type.Object({ account: Name, plan: Name, fromDay: Type.Optional(Day) }, { additionalProperties: false }),
    returns: "nothing",
    errors: ["invalid_request", "already_exists", "not_found"],
  },
  correct: {
    method: "POST",
    path: "/v1/admin/billing/corrections",
    scope: "admin",
    status: 201,
    says: "Take a ledger entry back, and book another in its place if a quantity is given",
    input: Type.Object(
      {
        entry: Type.String({ pattern: "^\\d{1,19}$" }),
        quantity: Type.Optional(Type.String({ pattern: "^\\d{1,18}$" })),
        reason: Type.String({ minLength: 1, maxLength: 512 }),
      },
      { additionalProperties: false },
    ),
    returns: Type.Object({ entries: Type.Array(Type.String()) }),
    errors: ["invalid_request", "not_found", "already_exists"],
  },
  settleBooks: {
    method: "POST",
    path: "/v1/admin/billing/settle",
    scope: "admin",
    says: "Settle now what a server settles by itself every minute",
    input: Nothing,
    returns: Settlement,
    errors: [],
  },
  reconcileBooks: {
    method: "GET",
    path: "/v1/admin/billing/reconcile",
    scope: "admin",
    says: "Compute usage again from moves and from the kernel's process accounting, and list every difference",
    input: Type.Object({ from: Type.Optional(Moment), to: Type.Optional(Moment) }, { additionalProperties: false }),
    returns: Type.Object({ sandboxes: Type.Integer(), differences: Type.Array(Difference) }),
    errors: ["invalid_request"],
  },
  sinks: {
    method: "GET",
    path: "/v1/admin/billing/sinks",
    scope: "admin",
    says: "Where usage is sent",
    input: Nothing,
    returns: Type.Object({ items: Type.Array(SinkInfo) }),
    errors: [],
  },
  createSink: {
    method: "POST",
    path: "/v1/admin/billing/sinks",
    scope: "admin",
    status: 201,
    says: "Send usage as events to a webhook, OpenMeter, Lago or Stripe",
    input: Type.Object(
      {
        id: Name,
        kind: SinkInfo.properties.kind,
        account: Type.Optional(Type.String()),
        url: Type.String({ pattern: "^https?://", maxLength: 2048 }),
        /** Bearer token or secret of the receiver. */
        token: Type.Optional(Type.String({ minLength: 1, maxLength: 1024 })),
        /** Account → how the receiver knows it: a subscription (Lago), a customer (Stripe). */
        customers: Type.Optional(Type.Record(Type.String(), Type.String())),
      },
      { additionalProperties: false },
    ),
    returns: SinkInfo,
    errors: ["invalid_request", "already_exists"],
  },
  removeSink: {
    method: "DELETE",
    path: "/v1/admin/billing/sinks/:id",
    scope: "admin",
    says: "Stop sending; what waits is not sent",
    input: Type.Object({ id: Name }, { additionalProperties: false }),
    returns: "nothing",
    errors: ["not_found"],
  },
} as const satisfies Contract;
