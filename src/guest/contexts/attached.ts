/**
 * One look at a context's answers: its command's output followed from what the ring still holds, read for one cell, with a
 * deadline that moves and the orders that go the other way.
 */
import type { Clock } from "../../base/clock.ts";
import type { ExecEvent } from "../../contract/routes/exec.ts";
import { LIMITS } from "../../limits.ts";
import type { ContextAgent } from "./contexts.ts";
import type { CellReader, Said } from "./reader.ts";

export type Exit = Extract<ExecEvent, { readonly kind: "exit" }>;

export class Attached {
  readonly #agent: ContextAgent;
  readonly #context: number;
  readonly #reader: CellReader;
  readonly #clock: Clock;
  readonly #signal: AbortSignal | undefined;
  readonly #events: AsyncIterator<ExecEvent>;
  readonly #over = new AbortController();
  #pending: Promise<IteratorResult<ExecEvent>> | null = null;
  readonly #said: Said[] = [];
  #told = 0;
  #deadlineMs: number | null = null;

  constructor(agent: ContextAgent, context: number, reader: CellReader, clock: Clock, signal?: AbortSignal) {
    this.#agent = agent;
    this.#context = context;
    this.#reader = reader;
    this.#clock = clock;
    this.#signal = signal;
    const either = signal === undefined ? this.#over.signal : AbortSignal.any([signal, this.#over.signal]);
    this.#events = agent.attach(context, either)[Symbol.asyncIterator]();
  }

  /** From now on {@link next} says `late` after so long; null: never. */
  within(ms: number | null): void {
    this.#deadlineMs = ms === null ? null : this.#clock.monotonicMs() + ms;
  }

  /** One line to the context, whole among those of others. */
  order(order: Readonly<Record<string, unknown>>): Promise<void> {
    return this.#agent.stdin(this.#context, `${JSON.stringify(order)}\n`, this.#signal);
  }

  /** @throws {WarrenError} what the agent's stream throws; `guest_protocol` – the context says nonsense about this cell */
  async next(): Promise<Said | Exit | { readonly kind: "late" }> {
    for (;;) {
      const said = this.#said.shift();
      if (said !== undefined) return said;
      this.#pending ??= this.#events.next();
      const result = await this.#orLate(this.#pending);
      if (result === null) return { kind: "late" };
      this.#pending = null;
      if (result.done === true) return EXIT_UNKNOWN;
      const event = result.value;
      if (event.kind === "exit") return event;
      if (event.kind === "gap") this.#reader.gap();
      if (event.kind === "stdout") this.#said.push(...this.#reader.push(event.bytes));
      await this.#tell();
    }
  }

  /** How much has been read: the context waits with more. */
  async #tell(): Promise<void> {
    const bytes = this.#reader.readBytes - this.#told;
    if (bytes < LIMITS.cellTookBytes) return;
    this.#told += bytes;
    await this.order({ op: "took", cell: this.#reader.cell, bytes });
  }

  /** Stops following; the context goes on. */
  async leave(): Promise<void> {
    this.#over.abort();
    if (this.#pending !== null) {
      // Given up, and an iterator that is waited for cannot be left otherwise.
      void this.#pending.catch(() => undefined);
      return;
    }
    await this.#events.return?.();
  }

  async #orLate<T>(promise: Promise<T>): Promise<T | null> {
    if (this.#deadlineMs === null) return promise;
    const leftMs = Math.min(Math.max(0, this.#deadlineMs - this.#clock.monotonicMs()), LIMITS.timeoutSecondsMax * 1000);
    const { promise: late, resolve } = Promise.withResolvers<null>();
    const cancel = this.#clock.after(leftMs, () => resolve(null));
    try {
      return await Promise.race([promise, late]);
    } finally {
      cancel();
    }
  }
}

const EXIT_UNKNOWN: Exit = {
  kind: "exit",
  exitCode: null,
  signal: null,
  timedOut: false,
  stdoutTruncated: false,
  stderrTruncated: false,
  durationMs: 0,
};
