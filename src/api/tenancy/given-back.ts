/**
 * Bookings of sandboxes that will not be: given back to the store until it has taken them, also when it is away for a while.
 * Until then their ids are known here as dead, so that nobody is answered with one of them. In memory only: a server that
 * ends before has them closed by `Store.reconcile` at its next start.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Store } from "../store.ts";

/** Bookings that may wait for a database that is away. */
const MOST = 10_000;
/** Between two tries, growing. */
const PAUSE_MS = 100;
const PAUSE_MS_MAX = 10_000;

interface Parts {
  readonly store: Pick<Store, "cancel">;
  readonly clock: Clock;
  readonly log: Log;
}

export class GivenBack {
  readonly #parts: Parts;
  /** Id → account. */
  readonly #waiting = new Map<string, string>();
  #pauseMs = PAUSE_MS;
  #isArmed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Of an account, as of now. */
  waiting(account: string): ReadonlySet<string> {
    return new Set([...this.#waiting].filter(([, of]) => of === account).map(([id]) => id));
  }

  /** Tried at once, which is waited for, and later again and again. Never fails. */
  async give(account: string, ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      if (this.#waiting.size < MOST) this.#waiting.set(id, account);
      else this.#parts.log.error("a booking is not given back: too many wait for the database", { account, id });
    }
    await this.#try(account, ids);
  }

  /** False: the store has not taken them. */
  async #try(account: string, ids: readonly string[]): Promise<boolean> {
    const { store, log } = this.#parts;
    try {
      await store.cancel(account, ids);
    } catch (cause) {
      log.warn("bookings could not be given back yet", { account, ids: ids.length, cause: String(cause) });
      this.#arm();
      return false;
    }
    for (const id of ids) this.#waiting.delete(id);
    return true;
  }

  #arm(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    this.#parts.clock.after(this.#pauseMs, () => void this.#again(), { background: true });
    this.#pauseMs = Math.min(PAUSE_MS_MAX, this.#pauseMs * 2);
  }

  async #again(): Promise<void> {
    this.#isArmed = false;
    for (const account of new Set(this.#waiting.values())) {
      if (!(await this.#try(account, [...this.waiting(account)]))) return; // the others wait for the same
    }
    this.#pauseMs = PAUSE_MS;
    this.#parts.log.info("bookings were given back");
  }
}
