/** What `/metrics` says, counted by prom-client in a registry of this server's own. It is loaded when a server begins, for the CLI never. */
import type { Log } from "../../../base/log.ts";
import type { BillingFigures } from "../../parts.ts";
import { billingMetrics } from "./billing.ts";

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** Counted before the library is there: more requests than come in that time. */
const EARLY = 10_000;

/** Read when somebody asks. */
export interface Gauges {
  /** State → sandboxes. */
  states(): ReadonlyMap<string, number>;
  /** Bytes kept of what commands printed. */
  tapeBytes(): number;
  /** Undefined: no books are kept. */
  readonly billing?: BillingFigures | undefined;
}

type Prom = typeof import("prom-client");

function metricsOf(prom: Prom, gauges: Gauges) {
  const registers = [new prom.Registry()];
  const gauge = (name: string, help: string, value: () => number): void => {
    new prom.Gauge({
      ...{ name, help, registers },
      collect() {
        this.set(value());
      },
    });
  };
  new prom.Gauge({
    name: "warren_sandboxes",
    help: "Sandboxes that have not ended, of those that have moved since the server began",
    ...{ labelNames: ["state"] as const, registers },
    collect() {
      this.reset();
      for (const [state, count] of gauges.states()) this.set({ state }, count);
    },
  });
  gauge("warren_log_bytes", "Memory kept of what commands printed", gauges.tapeBytes);
  if (gauges.billing !== undefined) billingMetrics(prom, registers, gauges.billing);
  return {
    registry: registers[0] as InstanceType<Prom["Registry"]>,
    requests: new prom.Counter({
      name: "warren_requests_total",
      help: "Requests answered",
      ...{ labelNames: ["row", "status"] as const, registers },
    }),
    durations: new prom.Histogram({
      name: "warren_request_seconds",
      help: "From a request to the beginning of its answer",
      ...{ labelNames: ["row"] as const, buckets: SECONDS, registers },
    }),
    creates: new prom.Histogram({
      name: "warren_create_seconds",
      help: "Creates, from their admission to the guest's confirmation, by what was ready for them",
      ...{ labelNames: ["path"] as const, buckets: SECONDS, registers },
    }),
    streams: new prom.Gauge({
      name: "warren_streams_open",
      help: "Streams and sockets that are open",
      ...{ labelNames: ["kind"] as const, registers },
    }),
    store: new prom.Histogram({
      name: "warren_store_seconds",
      help: "Round trips to the store",
      ...{ labelNames: ["method", "outcome"] as const, buckets: SECONDS, registers },
    }),
    webhooks: new prom.Counter({
      name: "warren_webhook_tries_total",
      help: "Tries to deliver a webhook",
      ...{ labelNames: ["outcome"] as const, registers },
    }),
  };
}
type Metrics = ReturnType<typeof metricsOf>;

export class Meters {
  readonly #loaded: Promise<Metrics | null>;
  #metrics: Metrics | null = null;
  #early: ((metrics: Metrics) => void)[] = [];

  constructor(gauges: Gauges, log: Log) {
    this.#loaded = import("prom-client").then(
      (prom) => {
        const metrics = metricsOf(prom, gauges);
        prom.collectDefaultMetrics({ register: metrics.registry });
        for (const job of this.#early.splice(0)) job(metrics);
        this.#metrics = metrics;
        return metrics;
      },
      (cause: unknown) => {
        log.error("there are no metrics: prom-client could not be loaded", { cause: String(cause) });
        this.#early = [];
        return null;
      },
    );
  }

  #count(job: (metrics: Metrics) => void): void {
    if (this.#metrics !== null) job(this.#metrics);
    else if (this.#early.length < EARLY) this.#early.push(job);
  }

  answered(row: string, status: number, durationMs: number): void {
    this.#count(({ requests, durations }) => {
      requests.inc({ row, status: String(status) });
      durations.observe({ row }, durationMs / 1000);
    });
  }

  created(path: string, ms: number): void {
    this.#count(({ creates }) => creates.observe({ path }, ms / 1000));
  }

  /** Until the result is called; twice is fine. */
  opened(kind: string): () => void {
    this.#count(({ streams }) => streams.inc({ kind }));
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#count(({ streams }) => streams.dec({ kind }));
    };
  }

  roundTrip(method: string, isOk: boolean, ms: number): void {
    this.#count(({ store }) => store.observe({ method, outcome: isOk ? "ok" : "failed" }, ms / 1000));
  }

  tried(outcome: string): void {
    this.#count(({ webhooks }) => webhooks.inc({ outcome }));
  }

  /** In Prometheus' text format; null when there are none. */
  async text(): Promise<{ readonly body: string; readonly contentType: string } | null> {
    const metrics = await this.#loaded;
    return metrics === null
      ? null
      : { body: await metrics.registry.metrics(), contentType: metrics.registry.contentType };
  }
}
