/** What a batch amounts to at its end. `ok`, `failed` and `timed_out` share out the rows; times are over all rows of the output. */
import type { Totals } from "./bill.ts";
import type { RowFacts } from "./durable/journal.ts";

export interface Spread {
  readonly p50: number;
  readonly p99: number;
}

export interface Summary {
  readonly rows: number;
  readonly ok: number;
  readonly failed: number;
  readonly timed_out: number;
  /** Rows that an earlier run of the same command had left. */
  readonly kept: number;
  /** Lines of the items file that could not be used. */
  readonly bad_lines: number;
  /** Items without a row: the run was stopped before them. */
  readonly missing: number;
  readonly interrupted: boolean;
  /** Milliseconds; null when nothing was created or run. */
  readonly create_ms: Spread | null;
  readonly exec_ms: Spread | null;
  readonly wall_s: number;
  /** Charged to all sandboxes of this run at once; null where it cannot be told. */
  readonly peak_memory_mib: number | null;
  readonly vcpu_seconds: number;
  readonly gib_seconds: number;
  readonly cost_usd: number;
}

/** Nearest-rank percentiles; null of nothing. */
export function spreadOf(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).sort();
  const at = (percent: number) => sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? 0;
  return { p50: at(50), p99: at(99) };
}

/** Counts rows as they come, those of earlier runs included. */
export class Tally {
  rows = 0;
  kept = 0;
  badLines = 0;
  items = 0;
  #ok = 0;
  #timedOut = 0;
  readonly #createMs: number[] = [];
  readonly #execMs: number[] = [];

  add(facts: RowFacts): void {
    this.rows += 1;
    if (facts.ok) this.#ok += 1;
    if (facts.timedOut) this.#timedOut += 1;
    // 0 is an item that shared another's sandbox, or never ran: it says nothing about how long that takes.
    if (facts.createMs > 0) this.#createMs.push(facts.createMs);
    if (facts.execMs > 0) this.#execMs.push(facts.execMs);
  }

  get ok(): number {
    return this.#ok;
  }

  get failed(): number {
    return this.rows - this.#ok - this.#timedOut;
  }

  get timedOut(): number {
    return this.#timedOut;
  }

  summary(end: { interrupted: boolean; wallMs: number; peakMemoryMib: number | null; totals: Totals }): Summary {
    return {
      rows: this.rows,
      ok: this.#ok,
      failed: this.failed,
      timed_out: this.#timedOut,
      kept: this.kept,
      bad_lines: this.badLines,
      missing: this.items - this.rows,
      interrupted: end.interrupted,
      create_ms: spreadOf(this.#createMs),
      exec_ms: spreadOf(this.#execMs),
      wall_s: Math.round(end.wallMs) / 1000,
      peak_memory_mib: end.peakMemoryMib,
      vcpu_seconds: end.totals.vcpuSeconds,
      gib_seconds: end.totals.gibSeconds,
      cost_usd: end.totals.usd,
    };
  }
}
