/**
 * Keeps the process alive while a caller waits for something. Sockets and processes of guests do not: a program with idle
 * sandboxes, or a filled pool, ends when it has nothing left to do, and they end with it.
 */
import type { Clock } from "../base/clock.ts";

/** Longer than any wait; re-armed all the same. */
const HOLD_MS = 2 ** 30;

export class Hold {
  readonly #clock: Clock;
  #count = 0;
  #cancel: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The outcome of `job`, which keeps the process alive until then. */
  async during<T>(job: () => Promise<T>): Promise<T> {
    this.#count += 1;
    if (this.#count === 1) this.#arm();
    try {
      return await job();
    } finally {
      this.#count -= 1;
      if (this.#count === 0) this.#cancel();
    }
  }

  #arm(): void {
    this.#cancel = this.#clock.after(HOLD_MS, () => this.#arm());
  }
}
