/** What `/metrics` says of the books: how far behind they are, what waits for sinks, and whom want of credit has stopped. */
import type { Registry } from "prom-client";
import type { BillingFigures } from "../../parts.ts";

export function billingMetrics(prom: typeof import("prom-client"), registers: Registry[], of: BillingFigures): void {
  const gauge = (name: string, help: string, value: () => number): void => {
    new prom.Gauge({
      ...{ name, help, registers },
      collect() {
        this.set(value());
      },
    });
  };
  gauge("warren_ledger_lag_seconds", "Since this server last settled the books", () => of.lagSeconds());
  gauge("warren_settle_seconds", "How long the last settlement took", () => of.settleSeconds());
  new prom.Gauge({
    name: "warren_outbox_waiting",
    help: "Events of usage that a sink has not taken yet",
    ...{ labelNames: ["sink"] as const, registers },
    collect() {
      this.reset();
      for (const [sink, count] of of.outboxWaiting()) this.set({ sink }, count);
    },
  });
  new prom.Counter({
    name: "warren_sink_events_total",
    help: "Events of usage that sinks took, that are tried again, and that were given up",
    ...{ labelNames: ["kind", "outcome"] as const, registers },
    collect() {
      this.reset();
      for (const { kind, outcome, count } of of.sinkEvents()) this.inc({ kind, outcome }, count);
    },
  });
  new prom.Counter({
    name: "warren_credit_hibernations_total",
    help: "Sandboxes hibernated because their account's credit is used up, and tries that failed",
    ...{ labelNames: ["outcome"] as const, registers },
    collect() {
      this.reset();
      for (const [outcome, count] of Object.entries(of.hibernations())) this.inc({ outcome }, count);
    },
  });
}
