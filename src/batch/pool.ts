/**
 * A bounded pool of lanes over a stream of work. Each unit of work yields results for consecutive indices; they come out
 * as they are ready or in the order of their indices. Memory is bounded: no unit starts whose first index is `window` or
 * more beyond the oldest result not yet taken. When the reader leaves or a unit throws, every lane is stopped and waited for.
 */

export interface Unit<T> {
  /** Index of its first piece of work; units follow each other without a gap. */
  readonly first: number;
  readonly work: T;
}

export interface PoolOptions {
  readonly concurrency: number;
  readonly window: number;
  readonly ordered: boolean;
  readonly signal?: AbortSignal | undefined;
}

export type Worker<T, R> = (
  unit: Unit<T>,
  emit: (index: number, result: R) => void,
  signal: AbortSignal,
) => Promise<void>;

/** Wakes whoever waits; nobody waiting is fine. */
class Bell {
  #next = Promise.withResolvers<void>();

  ring(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  heard(): Promise<void> {
    return this.#next.promise;
  }
}

class Pool<T, R> {
  readonly #units: AsyncIterator<Unit<T>>;
  readonly #worker: Worker<T, R>;
  readonly #options: PoolOptions;
  readonly #stop = new AbortController();
  readonly #changed = new Bell();
  readonly #ready = new Map<number, R>();
  #taken = 0;
  #lanes = 0;
  /** Reading the next unit, one lane at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  #reading = false;
  #failure: { readonly cause: unknown } | null = null;

  constructor(units: AsyncIterable<Unit<T>>, worker: Worker<T, R>, options: PoolOptions) {
    this.#units = units[Symbol.asyncIterator]();
    this.#worker = worker;
    this.#options = options;
  }

  async *results(): AsyncGenerator<R> {
    const { signal } = this.#options;
    const abort = () => this.#fail(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted === true) abort();
    const lanes = Array.from({ length: this.#options.concurrency }, () => this.#lane());
    try {
      for (;;) {
        const result = this.#take();
        if (result !== null) yield result.value;
        else if (this.#failure !== null || this.#lanes === 0) break;
        else await this.#changed.heard();
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#stop.abort(this.#failure?.cause ?? new Error("nobody reads these results"));
      this.#changed.ring();
      await Promise.all(lanes);
      // A source that is being read may wait for something that never comes, a pipe for instance: it is left to itself.
      if (!this.#reading) await this.#units.return?.();
    }
    if (this.#failure !== null) throw this.#failure.cause;
  }

  /** The next result to hand out, if it is there. */
  #take(): { readonly value: R } | null {
    const index = this.#options.ordered ? this.#taken : this.#ready.keys().next().value;
    if (index === undefined || !this.#ready.has(index)) return null;
    const value = this.#ready.get(index) as R;
    this.#ready.delete(index);
    this.#taken += 1;
    this.#changed.ring();
    return { value };
  }

  #fail(cause: unknown): void {
    this.#failure ??= { cause };
    this.#stop.abort(cause);
    this.#changed.ring();
  }

  async #lane(): Promise<void> {
    this.#lanes += 1;
    const { signal } = this.#stop;
    try {
      for (;;) {
        const unit = await this.#next();
        if (unit === null || signal.aborted) break;
        const emit = (index: number, result: R) => {
          this.#ready.set(index, result);
          this.#changed.ring();
        };
        await this.#worker(unit, emit, signal);
      }
    } catch (cause) {
      this.#fail(cause);
    } finally {
      this.#lanes -= 1;
      this.#changed.ring();
    }
  }

  /** What the source has next; null at its end, or as soon as the pool is stopped. */
  async #read(): Promise<Unit<T> | null> {
    const { signal } = this.#stop;
    if (signal.aborted) return null;
    const { promise: stopped, resolve } = Promise.withResolvers<null>();
    const stop = () => resolve(null);
    signal.addEventListener("abort", stop, { once: true });
    this.#reading = true;
    const next = this.#units.next().finally(() => {
      this.#reading = false;
    });
    next.catch(() => undefined); // after a stop nobody asks any more
    try {
      const first = await Promise.race([next, stopped]);
      return first === null || first.done === true ? null : first.value;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** The next unit, once the reader is near enough; null at the end or when stopped. */
  #next(): Promise<Unit<T> | null> {
    const mine = this.#turn.then(async () => {
      const next = await this.#read();
      if (next === null) return null;
      while (next.first >= this.#taken + this.#options.window && !this.#stop.signal.aborted)
        await this.#changed.heard();
      return next;
    });
    this.#turn = mine.catch(() => undefined); // the lane that asked gets the error
    return mine;
  }
}

/** Results of `worker` over `units`. @throws what a unit threw first, or the signal's reason, after all lanes have ended. */
export function pooled<T, R>(
  units: AsyncIterable<Unit<T>>,
  worker: Worker<T, R>,
  options: PoolOptions,
): AsyncGenerator<R> {
  return new Pool(units, worker, options).results();
}
