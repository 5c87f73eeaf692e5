/** An outbox in memory as the database's is, for the tests of who empties it. */
import type { BillingStore, EventOutcome, Outgoing, Sink, UsageEvent } from "../../src/api/billing.ts";
import { KEY, type TestReceiver, TOKEN } from "./receivers.ts";

interface Row extends Outgoing {
  readonly nextAtMs: number;
}

export class MemoryOutbox implements Pick<BillingStore, "dueEvents" | "settleEvents"> {
  readonly rows = new Map<string, Row>();
  readonly errors: string[] = [];
  /** Throws instead of keeping outcomes, as a server that is killed right before. */
  forgets = false;
  #next = 1;

  add(sink: Sink, events: readonly UsageEvent[]): void {
    for (const event of events) {
      const id = String(this.#next);
      this.#next += 1;
      this.rows.set(id, { id, sink, event, tries: 0, sentAtMs: null, nextAtMs: 0 });
    }
  }

  async dueEvents(nowMs: number, limit: number, leaseMs: number, except: readonly string[] = []): Promise<Outgoing[]> {
    const due = [...this.rows.values()].filter((row) => row.nextAtMs <= nowMs && !except.includes(row.sink.id));
    const claimed = [...Map.groupBy(due, ({ sink }) => sink.id).values()].flatMap((rows) => rows.slice(0, limit));
    for (const row of claimed)
      this.rows.set(row.id, { ...row, nextAtMs: nowMs + leaseMs, sentAtMs: row.sentAtMs ?? nowMs });
    return claimed.map(({ nextAtMs: _, ...out }) => out);
  }

  async settleEvents(outcomes: readonly EventOutcome[]): Promise<void> {
    if (this.forgets) throw new Error("killed between send and settle");
    for (const { id, error, next } of outcomes) {
      if (error !== null) this.errors.push(error);
      const row = this.rows.get(id);
      if (row === undefined) continue;
      if (next === null) this.rows.delete(id);
      else this.rows.set(id, { ...row, tries: next.tries, sentAtMs: next.sentAtMs, nextAtMs: next.atMs });
    }
  }
}

export async function sinkTo(receiver: TestReceiver, change: Partial<Sink> = {}): Promise<Sink> {
  const { kind } = receiver;
  const url = await receiver.url();
  const customers: Record<string, string> =
    kind === "lago" ? { a: "sub_a", b: "sub_b" } : kind === "stripe" ? { a: "cus_a", b: "cus_b" } : {};
  return {
    id: `to-${kind}`,
    kind,
    account: null,
    url,
    token: kind === "webhook" ? TOKEN.webhook : KEY,
    customers,
    ...change,
  };
}

export function usageEvent(change: Partial<UsageEvent> = {}): UsageEvent {
  const { subject = "sb_1", meter = "vcpu_ms", fromMs = Date.UTC(2030, 0, 1) } = change;
  return {
    ...{ id: `${subject}:${meter}:${fromMs}`, account: "a", subject, meter, template: "base" },
    ...{ fromMs, toMs: fromMs + 1000, quantity: "1000" },
    ...change,
  };
}
