/**
 * Sends usage to every sink, each by itself: one that is slow or away holds up no other. All that there is to remember is in
 * the store, so another server, or this one after a crash, goes on with it: at least once each, in no order, and a receiver
 * that knows ids counts each once. What no further try can bring over is given up, and said so: in the log, in the metrics,
 * and as the sink's last error.
 */
import type { BillingStore, EventOutcome, Outgoing, Sink } from "../api/billing.ts";
import type { Log } from "../base/log.ts";
import { LIMITS } from "../limits.ts";
import { pauseMs } from "./pace.ts";
import { RECEIVERS } from "./receivers.ts";
import type { Way } from "./send.ts";
import { Turn } from "./turn.ts";

export interface SenderParts extends Way {
  readonly store: Pick<BillingStore, "dueEvents" | "settleEvents">;
  readonly log: Log;
  /** Told how many events were `taken`, `failed` (they are tried again) or `given_up`. */
  readonly told: (kind: Sink["kind"], outcome: "taken" | "failed" | "given_up", events: number) => void;
}

/** Of a sink that failed, or is being sent to. */
interface State {
  isBusy: boolean;
  failures: number;
  /** By the monotonic clock. */
  pausedUntilMs: number;
}

export class SinkSender {
  readonly #parts: SenderParts;
  readonly #over = new AbortController();
  readonly #states = new Map<string, State>();
  readonly #turns = new Set<Promise<void>>();
  #looking: Promise<void> | null = null;
  #isAsked = false;

  constructor(parts: SenderParts) {
    this.#parts = parts;
  }

  /** Something may be due. Resolves when what was due has been claimed. */
  wake(): Promise<void> {
    this.#isAsked = true;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** Resolves when nothing is being sent. */
  async idle(): Promise<void> {
    while (this.#looking !== null || this.#turns.size > 0) {
      await this.#looking;
      await Promise.all(this.#turns);
    }
  }

  /** What is under way is cut off, and is sent again when its lease is over. */
  async close(): Promise<void> {
    this.#over.abort(new Error("the server ends"));
    await this.idle();
  }

  async #look(): Promise<void> {
    const { store, clock, log } = this.#parts;
    try {
      while (this.#isAsked && !this.#over.signal.aborted) {
        this.#isAsked = false;
        const nowMs = clock.wallMs();
        const due = await store.dueEvents(nowMs, LIMITS.sinkEvents, LIMITS.sinkLeaseMs, this.#resting());
        for (const outs of Map.groupBy(due, ({ sink }) => sink.id).values()) this.#begin(outs, nowMs);
      }
    } catch (cause) {
      log.warn("usage for sinks waits for the store", { cause: String(cause) });
    }
  }

  /** Sinks that nothing is to be claimed of. */
  #resting(): string[] {
    const nowMs = this.#parts.clock.monotonicMs();
    return [...this.#states].filter(([, state]) => state.isBusy || state.pausedUntilMs > nowMs).map(([id]) => id);
  }

  #begin(outs: readonly Outgoing[], claimedAtMs: number): void {
    const sink = outs[0]?.sink;
    if (sink === undefined || this.#over.signal.aborted) return;
    const state = this.#states.get(sink.id) ?? { isBusy: false, failures: 0, pausedUntilMs: 0 };
    this.#states.set(sink.id, state);
    state.isBusy = true;
    const turn = this.#serve(sink, state, outs, claimedAtMs).finally(() => {
      state.isBusy = false;
      if (state.failures === 0) this.#states.delete(sink.id);
      this.#turns.delete(turn);
      if (outs.length >= LIMITS.sinkEvents || this.#isAsked) void this.wake();
    });
    this.#turns.add(turn);
  }

  async #serve(sink: Sink, state: State, outs: readonly Outgoing[], claimedAtMs: number): Promise<void> {
    const { store, log, told } = this.#parts;
    const turn = new Turn(RECEIVERS[sink.kind], { way: this.#parts, claimedAtMs, signal: this.#over.signal });
    const keep = async (outcomes: readonly EventOutcome[]): Promise<void> => {
      if (outcomes.length === 0) return;
      await store.settleEvents(outcomes);
      const over = outcomes.filter(({ next }) => next === null);
      const lost = over.filter(({ error }) => error !== null);
      const failed = outcomes.filter(({ next, error }) => next !== null && error !== null);
      told(sink.kind, "taken", over.length - lost.length);
      told(sink.kind, "given_up", lost.length);
      told(sink.kind, "failed", failed.length);
      for (const { id, error } of lost) log.error("usage was given up for a sink", { sink: sink.id, event: id, error });
    };
    try {
      await turn.run(outs, keep);
      this.#rest(sink, state, turn);
    } catch (cause) {
      log.warn("what became of usage for a sink could not be written down", { sink: sink.id, cause: String(cause) });
    }
  }

  /** A sink that failed is left alone for a while. */
  #rest(sink: Sink, state: State, { trouble }: Turn): void {
    if (trouble === null) {
      if (state.failures > 0) this.#parts.log.info("a sink takes usage again", { sink: sink.id });
      state.failures = 0;
      return;
    }
    state.failures += 1;
    const restMs = pauseMs(state.failures, trouble.afterMs);
    state.pausedUntilMs = this.#parts.clock.monotonicMs() + restMs;
    this.#parts.log.warn("a sink takes no usage", { sink: sink.id, says: trouble.says, restMs });
  }
}
