/** The part of the memory store that is about money: it keeps no books, so that nothing was used and nothing costs anything. */
import type { BillingStore, UsageQuestion } from "../../../src/api/billing.ts";
import type { Pricing, UsageReport } from "../../../src/contract/routes/api/billing.ts";
import { WarrenError } from "../../../src/errors.ts";

const iso = (ms: number) => new Date(ms).toISOString();
const nameOf = (by: UsageQuestion["groupBy"][number]) => (by.kind === "metadata" ? `metadata.${by.key}` : by.kind);

export abstract class MemoryBilling implements Omit<BillingStore, "heartbeat"> {
  /** When set, every method fails with it: the database is away. */
  away: WarrenError | null = null;
  /** Calls so far, by method: tests count round trips. */
  readonly calls = new Map<string, number>();

  protected called(method: string): void {
    this.calls.set(method, (this.calls.get(method) ?? 0) + 1);
    if (this.away !== null) throw this.away;
  }

  readonly #told =
    <T>(method: string, answer: () => T) =>
    async (): Promise<T> => {
      this.called(method);
      return answer();
    };

  readonly #refused = (method: string) =>
    this.#told(method, (): never => {
      throw new WarrenError("not_found", "the memory of tests keeps no books");
    });

  readonly exhausted = this.#told("exhausted", () => []);
  readonly priceLists = this.#told("priceLists", () => []);
  readonly invoices = this.#told("invoices", () => []);
  readonly invoice = this.#told("invoice", () => null);
  readonly sandboxUsage = this.#told("sandboxUsage", () => null);
  readonly usageEntries = this.#told("usageEntries", () => ({ items: [], next: null }));
  readonly pricing = this.#told(
    "pricing",
    (): Pricing => ({ list: "default", currency: "USD", prices: [], plan: null, notes: [] }),
  );
  readonly settleBooks = this.#told("settleBooks", () => ({ cut: 0, charged: 0, closed: 0, issued: 0 }));
  readonly reconcileBooks = this.#told("reconcileBooks", () => ({ sandboxes: 0, differences: [] }));
  readonly sinks = this.#told("sinks", () => []);
  readonly removeSink = this.#told("removeSink", () => false);
  readonly fillOutbox = this.#told("fillOutbox", () => 0);
  readonly dueEvents = this.#told("dueEvents", () => []);
  readonly settleEvents = this.#told("settleEvents", () => undefined);
  readonly outboxWaiting = this.#told("outboxWaiting", () => new Map<string, number>());
  readonly setPrices = this.#refused("setPrices");
  readonly setPlan = this.#refused("setPlan");
  readonly subscribeTo = this.#refused("subscribeTo");
  readonly correct = this.#refused("correct");
  readonly createSink = this.#refused("createSink");

  async usage(_account: string, question: UsageQuestion, nowMs: number): Promise<UsageReport> {
    this.called("usage");
    const { fromMs, toMs, timeZone, groupBy } = question;
    return {
      ...{ from: iso(fromMs), to: iso(toMs), timeZone, currency: "USD", groupBy: groupBy.map(nameOf) },
      ...{ rows: [], meters: {}, total: "0", seenUntil: iso(nowMs) },
    };
  }
}
