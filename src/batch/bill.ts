/**
 * What a batch cost so far, from the log of lifecycle moves. Moves of a sandbox are held until it has ended and then
 * folded into the totals, so memory is that of the sandboxes alive. Exact until it is shown.
 */
import type { Move } from "../contract/move.ts";
import { add, fold, NOTHING, running, type Usage } from "../meter/fold.ts";
import { formatUsd, roundUsd } from "../meter/money.ts";
import { price, type Rates, ratesOf } from "../meter/rates.ts";

/** A ten-thousandth of the price of a vCPU-second; sums of rounded rows stay within a cent over a million rows. */
const SHOWN_DECIMALS = 9;

export interface Totals {
  readonly vcpuSeconds: number;
  readonly gibSeconds: number;
  readonly usd: number;
}

export class Bill {
  readonly #rates: Rates;
  readonly #open = new Map<string, Move[]>();
  /** Costs of ended sandboxes that nobody has asked for yet. */
  readonly #costs = new Map<string, number>();
  #used: Usage = NOTHING;
  /** The latest moment that any row tells of. */
  #lastMs = 0;

  constructor(rates: Rates = ratesOf()) {
    this.#rates = rates;
  }

  add(move: Move): void {
    const moves = this.#open.get(move.sandbox) ?? [];
    moves.push(move);
    this.tick(move.monotonicMs);
    if (move.to !== "deleted" && move.to !== "failed") {
      this.#open.set(move.sandbox, moves);
      return;
    }
    this.#open.delete(move.sandbox);
    const usage = fold(moves);
    this.#used = add(this.#used, usage);
    this.#costs.set(move.sandbox, this.#usd(usage));
  }

  /** Time went on to here: what is still open at the end of a crashed run is charged up to it. */
  tick(monotonicMs: number): void {
    this.#lastMs = Math.max(this.#lastMs, monotonicMs);
  }

  /** Another process takes over, whose clock starts elsewhere: whatever the one before left open ended with it. */
  endRun(): void {
    for (const moves of this.#open.values()) this.#used = add(this.#used, fold(moves, { toMs: this.#lastMs }));
    this.#open.clear();
    this.#costs.clear();
    this.#lastMs = 0;
  }

  /** USD of a sandbox that has ended; null when the log did not tell. Each is told once. */
  costOf(sandbox: string): number | null {
    const cost = this.#costs.get(sandbox) ?? null;
    this.#costs.delete(sandbox);
    return cost;
  }

  /** USD of so much time in a sandbox of this size. */
  estimate(cpu: number, memoryMib: number, ms: number): number {
    return this.#usd(running({ cpu, memoryMib }, BigInt(Math.max(0, Math.floor(ms)))));
  }

  totals(): Totals {
    return {
      vcpuSeconds: Number(this.#used.vcpu_ms) / 1000,
      gibSeconds: Number(this.#used.memory_mib_ms + this.#used.paused_memory_mib_ms) / (1000 * 1024),
      usd: this.#usd(this.#used),
    };
  }

  #usd(usage: Usage): number {
    return Number(formatUsd(roundUsd(price(usage, this.#rates), SHOWN_DECIMALS)));
  }
}
