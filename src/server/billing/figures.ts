/** How a server's bookkeeping goes, in numbers: read when somebody asks for its metrics. */
import type { BillingFigures } from "../../api/parts.ts";
import type { Clock } from "../../base/clock.ts";

export class Figures implements BillingFigures {
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** By the monotonic clock. */
  #settledAtMs: number;
  #settleMs = 0;
  #outbox: ReadonlyMap<string, number> = new Map();
  readonly #events = new Map<string, number>();
  readonly #hibernations = { done: 0, failed: 0 };

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
    this.#settledAtMs = clock.monotonicMs();
  }

  settled(tookMs: number): void {
    this.#settledAtMs = this.#clock.monotonicMs();
    this.#settleMs = tookMs;
  }

  waits(outbox: ReadonlyMap<string, number>): void {
    this.#outbox = outbox;
  }

  sent(kind: string, outcome: string, events: number): void {
    const key = `${kind} ${outcome}`;
    this.#events.set(key, (this.#events.get(key) ?? 0) + events);
  }

  hibernated(isDone: boolean): void {
    this.#hibernations[isDone ? "done" : "failed"] += 1;
  }

  lagSeconds(): number {
    return (this.#clock.monotonicMs() - this.#settledAtMs) / 1000;
  }

  settleSeconds(): number {
    return this.#settleMs / 1000;
  }

  outboxWaiting(): ReadonlyMap<string, number> {
    return this.#outbox;
  }

  sinkEvents(): readonly { readonly kind: string; readonly outcome: string; readonly count: number }[] {
    return [...this.#events].map(([key, count]) => {
      const [kind = "", outcome = ""] = key.split(" ");
      return { kind, outcome, count };
    });
  }

  hibernations(): Readonly<Record<"done" | "failed", number>> {
    return this.#hibernations;
  }
}
