/** What an account may know of its usage, its prices and its invoices. */
import type { Input } from "../../../contract/route.ts";
import type { AccountInfo } from "../../../contract/routes/api/accounts.ts";
import type { billingRoutes } from "../../../contract/routes/api/billing.ts";
import { WarrenError } from "../../../errors.ts";
import { mayDo } from "../../access/gate.ts";
import type { AppParts, RequestContext, RowCalls } from "../../parts.ts";
import { asCsv, asLines, entriesOf } from "./entries.ts";
import { groupsOf } from "./groups.ts";
import { monthMs, rangeOf } from "./moments.ts";

type Rows = typeof billingRoutes;

function found<T>(value: T | null, what: "sandbox" | "invoice", id: string): T {
  if (value !== null) return value;
  throw new WarrenError("not_found", `there is no ${what} ${id}`, { details: { field: "id", id } });
}

export type BillingParts = Pick<AppParts, "clock" | "settings" | "store">;

export function billingCalls({ store, clock, settings }: BillingParts): RowCalls<keyof Rows> {
  /** Whose it is: the key's account, or for an administrator the one that is named. */
  const whose = async ({ key }: RequestContext, account: string | undefined): Promise<AccountInfo> => {
    if (account === undefined || account === key.account.id) return key.account;
    if (!mayDo(key, "admin"))
      throw new WarrenError("forbidden", `account: only an administrator's key may ask for another one than its own`, {
        details: { field: "account", scope: "admin" },
      });
    const named = await store.account(account);
    if (named !== null) return named;
    throw new WarrenError("not_found", `there is no account ${account}`, { details: { field: "account", account } });
  };
  /** What nobody names is from the beginning of the account's month until now. */
  const asked = async (context: RequestContext, of: Pick<Input<Rows["usage"]>, "from" | "to" | "account">) => {
    const { id, timeZone } = await whose(context, of.account);
    const nowMs = clock.wallMs();
    const range = rangeOf(of, timeZone, { fromMs: monthMs(nowMs, timeZone), toMs: nowMs });
    return { id, timeZone, nowMs, range };
  };
  const invoice = async (context: RequestContext, { id, account }: Input<Rows["invoice"]>) => {
    const owner = await whose(context, account);
    return found(await store.invoice(owner.id, id, clock.wallMs()), "invoice", id);
  };
  return {
    pricing: async (context, { account }) => store.pricing((await whose(context, account)).id, clock.wallMs()),
    usage: async (context, of) => {
      const groupBy = groupsOf(of.groupBy);
      const { id, timeZone, nowMs, range } = await asked(context, of);
      return store.usage(id, { ...range, timeZone, groupBy }, nowMs);
    },
    usageEntries: async (context, of) => {
      const { id, nowMs, range } = await asked(context, of);
      const entries = entriesOf(store, id, range, nowMs);
      return of.format === "csv" ? asCsv(entries) : asLines(entries);
    },
    sandboxUsage: async (context, { id, account }) =>
      found(await store.sandboxUsage((await whose(context, account)).id, id), "sandbox", id),
    invoices: async (context, { account }) => ({
      items: await store.invoices((await whose(context, account)).id, clock.wallMs()),
    }),
    invoice,
    invoicePdf: async (context, of) => {
      const sent = await invoice(context, of);
      const { invoicePdf } = await import("../../../report/invoice/pdf.ts"); // with fonts and their shaping, which few ask for
      return once(invoicePdf(sent, { seller: settings.seller }).bytes);
    },
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
