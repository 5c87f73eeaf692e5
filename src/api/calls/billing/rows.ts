/** What an account may know of its usage, its prices and its invoices. */
import type { Input } from "../../../contract/route.ts";
import type { billingRoutes } from "../../../contract/routes/api/billing.ts";
import { WarrenError } from "../../../errors.ts";
import type { BillingStore, UsageRange } from "../../billing.ts";
import type { AppParts, RequestContext, RowCalls } from "../../parts.ts";
import { asCsv, asLines, entriesOf } from "./entries.ts";
import { groupsOf } from "./groups.ts";
import { monthMs, rangeOf } from "./moments.ts";

type Rows = typeof billingRoutes;

/** What nobody names is from the beginning of the account's month until now. */
function askedRange(
  { key }: RequestContext,
  asked: Pick<Input<Rows["usage"]>, "from" | "to">,
  nowMs: number,
): UsageRange & { readonly timeZone: string } {
  const { timeZone } = key.account;
  return { ...rangeOf(asked, timeZone, { fromMs: monthMs(nowMs, timeZone), toMs: nowMs }), timeZone };
}

function found<T>(value: T | null, what: "sandbox" | "invoice", id: string): T {
  if (value !== null) return value;
  throw new WarrenError("not_found", `there is no ${what} ${id}`, { details: { field: "id", id } });
}

export type BillingParts = Pick<AppParts, "clock" | "settings"> & { readonly store: BillingStore };

export function billingCalls({ store, clock, settings }: BillingParts): RowCalls<keyof Rows> {
  const invoice = async ({ account }: RequestContext, { id }: { readonly id: string }) =>
    found(await store.invoice(account, id, clock.wallMs()), "invoice", id);
  return {
    pricing: ({ account }) => store.pricing(account, clock.wallMs()),
    usage: async (context, asked) => {
      const nowMs = clock.wallMs();
      const question = { ...askedRange(context, asked, nowMs), groupBy: groupsOf(asked.groupBy) };
      return store.usage(context.account, question, nowMs);
    },
    usageEntries: async (context, asked) => {
      const nowMs = clock.wallMs();
      const entries = entriesOf(store, context.account, askedRange(context, asked, nowMs), nowMs);
      return asked.format === "csv" ? asCsv(entries) : asLines(entries);
    },
    sandboxUsage: async ({ account }, { id }) => found(await store.sandboxUsage(account, id), "sandbox", id),
    invoices: async ({ account }) => ({ items: await store.invoices(account, clock.wallMs()) }),
    invoice,
    invoicePdf: async (context, asked) => {
      const sent = await invoice(context, asked);
      const { invoicePdf } = await import("../../../report/invoice/pdf.ts"); // with fonts and their shaping, which few ask for
      return once(invoicePdf(sent, { seller: settings.seller }).bytes);
    },
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
