/** What an operator does with price lists, plans and the books. That it is one, the gate has seen to. */
import type { booksRoutes } from "../../../contract/routes/api/books.ts";
import { checkSink } from "../../../contract/sinks.ts";
import { WarrenError } from "../../../errors.ts";
import type { BillingStore } from "../../billing.ts";
import { systemResolve } from "../../edge/webhooks/address.ts";
import { reachableUrl } from "../../edge/webhooks/reach.ts";
import type { AppParts, RowCalls } from "../../parts.ts";
import { bounds, day, included, prices } from "./checked.ts";
import { monthMs, rangeOf } from "./moments.ts";

/** The books are kept in days of UTC. */
const BOOKS_ZONE = "UTC";

export type BooksParts = Pick<AppParts, "clock" | "settings" | "vmmRuns"> & { readonly store: BillingStore };

export function booksCalls(parts: BooksParts): RowCalls<keyof typeof booksRoutes> {
  const { store, clock, settings } = parts;
  return {
    priceLists: async () => ({ items: await store.priceLists() }),
    setPrices: async (_by, { id, currency, account, fromDay, prices: given }) => {
      const change = { list: id, currency, account, fromDay: day("fromDay", fromDay), prices: prices(given) };
      return store.setPrices(change, clock.wallMs());
    },
    setPlan: async (_by, { id, list, minimum = null, cap = null, included: given = {} }) => {
      bounds(minimum, cap);
      return store.setPlan({ id, list, minimum, cap, included: included(given) });
    },
    subscribe: async (_by, { account, plan, fromDay }) =>
      store.subscribeTo(account, plan, day("fromDay", fromDay), clock.wallMs()),
    correct: async (_by, { entry, quantity = null, reason }) => ({
      entries: [...(await store.correct(entry, { quantity, reason }, clock.wallMs()))],
    }),
    settleBooks: () => store.settleBooks(clock.wallMs()),
    reconcileBooks: async (_by, asked) => {
      const nowMs = clock.wallMs();
      // Of this month and the one before: what is not on an invoice yet, or only just is.
      const { fromMs, toMs } = rangeOf(asked, BOOKS_ZONE, { fromMs: monthMs(nowMs, BOOKS_ZONE, 1), toMs: nowMs });
      const ran = (await parts.vmmRuns?.()) ?? [];
      const { sandboxes, differences } = await store.reconcileBooks(fromMs, toMs, ran);
      return { sandboxes, differences: [...differences] };
    },
    sinks: async () => ({ items: await store.sinks() }),
    createSink: async ({ signal }, { id, kind, account = null, url, token = null, customers = {} }) => {
      const sink = { id, kind, account, token, customers };
      checkSink(sink);
      const { href } = await reachableUrl(url, { clock, settings, resolve: systemResolve }, signal);
      return store.createSink({ ...sink, url: href }, clock.wallMs());
    },
    removeSink: async (_by, { id }) => {
      if (await store.removeSink(id)) return;
      throw new WarrenError("not_found", `there is no sink ${id}`, { details: { field: "id", id } });
    },
  };
}
