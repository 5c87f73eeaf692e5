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

/** The runtime's timers hold a signed 32-bit delay and fire at once beyond it; a longer wait is made of several. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, job, options) {
    let timer: ReturnType<typeof setTimeout>;
    const arm = (leftMs: number) => {
      const partMs = Math.min(leftMs, TIMER_MAX_MS);
      timer = setTimeout(partMs === leftMs ? job : () => arm(leftMs - partMs), partMs);
      // A browser's timers are numbers, and keep nothing alive.
      if (options?.background === true && typeof timer === "object") timer.unref();
    };
    arm(delayMs);
    return () => clearTimeout(timer);
  },
  sleep(delayMs, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const stop = () => {
        cancel();
        reject(signal?.reason);
      };
      const cancel = systemClock.after(delayMs, () => {
        signal?.removeEventListener("abort", stop);
        resolve();
      });
      signal?.addEventListener("abort", stop, { once: true });
    });
  },
};
