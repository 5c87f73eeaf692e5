/** Failures of rows about usage, prices, invoices and the books. What only a database can find is brought about in its place. */
import type { BillingStore } from "../../../src/api/billing.ts";
import type { billingRoutes } from "../../../src/contract/routes/api/billing.ts";
import type { booksRoutes } from "../../../src/contract/routes/api/books.ts";
import type { table } from "../../../src/contract/table.ts";
import { type ErrorCode, WarrenError } from "../../../src/errors.ts";
import { type Provoke, unknownField, type Ways } from "./scene.ts";

export type BillingRow = keyof typeof billingRoutes | keyof typeof booksRoutes;
type Row<K extends BillingRow> = Ways<(typeof table)[K]["errors"][number]>;

const SINK = { url: "http://127.0.0.1:9/", kind: "openmeter" } as const;
const PRICES = { prices: { vcpu_ms: "1" } } as const;

/** The store finds it, as test/db has it do. */
const found =
  (name: BillingRow, code: ErrorCode, field: string | null = null): Provoke =>
  async (scene) => {
    const details = field === null ? {} : { field };
    const method: keyof BillingStore = name === "subscribe" ? "subscribeTo" : (name as keyof BillingStore);
    Object.assign(scene.api.store, { [method]: () => Promise.reject(new WarrenError(code, "provoked", { details })) });
    return scene.ask(name, name === "setPrices" ? PRICES : name === "createSink" ? SINK : {});
  };

const ofNobody = (name: BillingRow): Ways<"not_found"> => ({
  not_found: (scene) => scene.ask(name, { account: "nobody" }),
});

export const billing: { readonly [K in BillingRow]: Row<K> } = {
  pricing: ofNobody("pricing"),
  usage: { invalid_request: (scene) => scene.ask("usage", { group_by: "week" }), ...ofNobody("usage") },
  usageEntries: {
    invalid_request: (scene) => scene.ask("usageEntries", { from: "2026-02-30" }),
    ...ofNobody("usageEntries"),
  },
  sandboxUsage: { not_found: (scene) => scene.ask("sandboxUsage", { id: "sb_none" }) },
  invoices: ofNobody("invoices"),
  invoice: { not_found: (scene) => scene.ask("invoice", { id: "2026-01-0001" }) },
  invoicePdf: { not_found: (scene) => scene.ask("invoicePdf", { id: "2026-01-0001" }) },
  priceLists: {},
  setPrices: {
    invalid_request: (scene) => scene.ask("setPrices", { prices: { vcpu_ms: "-1" } }),
    not_found: found("setPrices", "not_found", "account"),
  },
  setPlan: {
    invalid_request: (scene) => scene.ask("setPlan", { minimum: "10", cap: "9.99" }),
    already_exists: found("setPlan", "already_exists"),
    not_found: found("setPlan", "not_found", "list"),
  },
  subscribe: {
    invalid_request: (scene) => scene.ask("subscribe", { from_day: "2026-02-30" }),
    already_exists: found("subscribe", "already_exists"),
    not_found: found("subscribe", "not_found", "account"),
  },
  correct: {
    ...unknownField("correct"),
    not_found: found("correct", "not_found", "entry"),
    already_exists: found("correct", "already_exists"),
  },
  settleBooks: {},
  reconcileBooks: { invalid_request: (scene) => scene.ask("reconcileBooks", { from: "2026-02-01", to: "2026-01-01" }) },
  sinks: {},
  createSink: {
    invalid_request: (scene) => scene.ask("createSink", { ...SINK, kind: "stripe" }),
    already_exists: found("createSink", "already_exists"),
  },
  removeSink: { not_found: (scene) => scene.ask("removeSink", { id: "none" }) },
};
