/** Waiting for something that frames bring: ended by the connection's loss, an abort or a deadline. */
import type { Clock } from "../base/clock.ts";
import { WarrenError } from "../errors.ts";

export interface Waiter {
  readonly signal?: AbortSignal | undefined;
  /** Monotonic milliseconds; asked anew whenever it has passed, so that it may move. Infinity: none. */
  readonly deadlineMs: () => number;
  /** What passing the deadline means. */
  readonly late: () => WarrenError;
}

/** Why a connection is over; null while it is not. */
export interface Loss {
  error: WarrenError | null;
}

/** Timers overflow beyond 2^31 ms; a wait that long is simply taken up again. */
const TIMER_MS_MAX = 2 ** 30;

export class Condition {
  readonly #clock: Clock;
  readonly #loss: Loss;
  readonly #wakes = new Set<() => void>();

  constructor(clock: Clock, loss: Loss) {
    this.#clock = clock;
    this.#loss = loss;
  }

  /** Lets everyone who waits look again. */
  wake(): void {
    for (const wake of [...this.#wakes]) wake();
  }

  /**
   * Resolves once `ready`. What is ready is taken before any reason to stop is looked at.
   * @throws {WarrenError} the loss, the signal's reason or `cancelled`, or `late()`.
   */
  async until(ready: () => boolean, waiter: Waiter): Promise<void> {
    while (!ready()) {
      if (this.#loss.error !== null) throw this.#loss.error;
      if (waiter.signal?.aborted === true) throw aborted(waiter.signal);
      const leftMs = waiter.deadlineMs() - this.#clock.monotonicMs();
      if (leftMs <= 0) throw waiter.late();
      await this.#woken(leftMs, waiter.signal);
    }
  }

  #woken(leftMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wakes.delete(wake);
        cancel?.();
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      const cancel = Number.isFinite(leftMs) ? this.#clock.after(Math.min(leftMs, TIMER_MS_MAX), wake) : null;
      this.#wakes.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }
}

/** The caller's own reason for an abort when it is one of ours, else `cancelled`. */
export function aborted(signal: AbortSignal): WarrenError {
  if (signal.reason instanceof WarrenError) return signal.reason;
  return new WarrenError("cancelled", "the call was cancelled", { cause: signal.reason });
}
