/**
 * The only door to time. Two clocks: `monotonicMs` for durations and billing (never steps), `wallMs` for people.
 * Tests pass a fake clock; nothing outside this file calls `Date.now`, `performance.now` or `setTimeout`.
 */

export interface Clock {
  /** Milliseconds, fractional, from an arbitrary start; never goes backwards. */
  monotonicMs(): number;
  /** Milliseconds since the Unix epoch; may step. */
  wallMs(): number;
  /** Runs `job` once after `delayMs`; the result cancels it. Does not keep the process alive when `background`. */
  after(delayMs: number, job: () => void, options?: { readonly background?: boolean }): () => void;
  /** Resolves after `delayMs`, rejects with the signal's reason when aborted. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  monotonicMs: () => Bun.nanoseconds() / 1e6,
  wallMs: () => Date.now(),
  after(delayMs, job, options) {
    const timer = setTimeout(job, delayMs);
    if (options?.background === true) timer.unref();
    return () => clearTimeout(timer);
  },
  sleep(delayMs, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const stop = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", stop);
        resolve();
      }, delayMs);
      signal?.addEventListener("abort", stop, { once: true });
    });
  },
};
