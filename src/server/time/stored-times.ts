/**
 * The instants of what is kept on disk. It outlives boots, so its time is the wall clock's at the server's start, and the
 * monotonic clock's from there on: a wall clock that jumps meanwhile is not billed. For each thing it never goes back.
 */
import type { Clock } from "../../base/clock.ts";
import type { Stored } from "../../contract/stored.ts";

/** Things whose last instant is remembered, the latest ones; 100 bytes each. */
const KEPT = 10_000;

export class StoredTimes {
  readonly #offsetMs: number;
  readonly #last = new Map<string, number>();

  constructor(clock: Clock) {
    this.#offsetMs = clock.wallMs() - clock.monotonicMs();
  }

  /** An engine's row, as a database gets it. */
  placed(row: Stored): Stored {
    const thing = `${row.account} ${row.kind} ${row.id}`;
    const monotonicMs = Math.max(row.monotonicMs + this.#offsetMs, this.#last.get(thing) ?? 0);
    this.#last.delete(thing);
    this.#last.set(thing, monotonicMs);
    const [oldest] = this.#last.keys();
    if (oldest !== undefined && this.#last.size > KEPT) this.#last.delete(oldest);
    return { ...row, monotonicMs };
  }
}
