/** A clock that stands still until a test moves it. Jobs run in the order of their time, with promises settled in between. */
import type { Clock } from "../../src/base/clock.ts";

interface Job {
  readonly atMs: number;
  readonly run: () => void;
}

export class FakeClock implements Clock {
  #nowMs = 1000;
  readonly #jobs = new Set<Job>();
  #epochMs: number;

  constructor(epochMs = Date.UTC(2030, 0, 1)) {
    this.#epochMs = epochMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#epochMs + this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const job = { atMs: this.#nowMs + Math.max(0, delayMs), run };
    this.#jobs.add(job);
    return () => this.#jobs.delete(job);
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason);
      const stop = () => {
        cancel();
        reject(signal?.reason);
      };
      const cancel = this.after(delayMs, () => {
        signal?.removeEventListener("abort", stop);
        resolve();
      });
      signal?.addEventListener("abort", stop, { once: true });
    });
  }

  /** Somebody sets the wall clock; nothing else changes. Of a host that was suspended, too, the monotonic clock stood still. */
  jumpWall(byMs: number): void {
    this.#epochMs += byMs;
  }

  /** Timers that are set. */
  get waiting(): number {
    return this.#jobs.size;
  }

  /** Lets time pass; what is due runs on the way, and what that sets off too. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.#nowMs + byMs;
    await settle();
    for (let job = this.#due(endMs); job !== undefined; job = this.#due(endMs)) {
      this.#jobs.delete(job);
      this.#nowMs = Math.max(this.#nowMs, job.atMs);
      job.run();
      await settle();
    }
    this.#nowMs = endMs;
    await settle();
  }

  #due(untilMs: number): Job | undefined {
    let first: Job | undefined;
    for (const job of this.#jobs) if (job.atMs <= untilMs && job.atMs < (first?.atMs ?? Infinity)) first = job;
    return first;
  }
}

/** Lets every promise that can settle now do so; nothing here waits for real time. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
