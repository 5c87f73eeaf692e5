/** The instants of what is kept on disk, on the home's axis of time ({@link ServedAxis}). For each thing it never goes back. */
import type { Clock } from "../../base/clock.ts";
import type { Stored } from "../../contract/stored.ts";
import type { ServedAxis } from "../../host/home/served-axis.ts";

/** Things whose last instant is remembered, the latest ones; 100 bytes each. */
const KEPT = 10_000;

export class StoredTimes {
  readonly #offsetMs: number;
  readonly #last = new Map<string, number>();

  /** @param axis null: of this server alone, by the wall clock as it is now */
  constructor(clock: Clock, axis: ServedAxis | null) {
    this.#offsetMs = axis?.axisMs ?? clock.wallMs() - clock.monotonicMs();
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
