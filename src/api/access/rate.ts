/** So many requests a second of each account, a second's worth of them at once. Buckets in memory: each server counts by itself. */
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";

interface Bucket {
  left: number;
  atMs: number;
}

export class Rate {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts one request; null as limit: there is none. @throws {WarrenError} `rate_limited` */
  take(account: string, perSecond: number | null): void {
    if (perSecond === null) return;
    const nowMs = this.#clock.monotonicMs();
    const bucket = this.#buckets.get(account) ?? { left: perSecond, atMs: nowMs };
    const left = Math.min(perSecond, bucket.left + ((nowMs - bucket.atMs) / 1000) * perSecond);
    this.#buckets.delete(account);
    this.#buckets.set(account, { left: left >= 1 ? left - 1 : left, atMs: nowMs });
    this.#shed();
    if (left >= 1) return;
    const retryAfterSeconds = Math.max(1, Math.ceil((1 - left) / perSecond));
    throw new WarrenError("rate_limited", `more than ${perSecond} requests a second: slow down`, {
      details: { limit: perSecond, retryAfterSeconds },
    });
  }

  /** The bucket that was used longest ago is the likeliest to be full. */
  #shed(): void {
    const [oldest] = this.#buckets.keys();
    if (this.#buckets.size > BOUNDS.buckets && oldest !== undefined) this.#buckets.delete(oldest);
  }
}
