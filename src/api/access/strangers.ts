/**
 * Who comes with keys that nobody has: so many from each address, and then none is looked up for a while, for longer each
 * time. A key cannot be guessed; this keeps whoever tries from the database and the log. Keys that are known here pass all the
 * same. An address is the connection's, so all behind one proxy share it; of IPv6 it is the network, 64 bits. In memory, of so
 * many addresses: each server counts by itself.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { WarrenError } from "../../errors.ts";

/** Wrong keys at once: a fleet that was started with a revoked key is told so each time. One more each second. */
const AT_ONCE = 50;
const SECOND_MS = 1000;
/** The longest time for which an address is refused. */
const REFUSED_MS_MAX = 60_000;
const ADDRESSES = 10_000;

interface Stranger {
  /** Wrong keys that it may still come with, at that time. */
  readonly left: number;
  readonly atMs: number;
  /** How often it has been refused since it last was quiet for long enough to be forgotten. */
  readonly times: number;
  readonly untilMs: number;
}

export class Strangers {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #known = new Map<string, Stranger>();

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Before a key is looked up. @throws {WarrenError} `rate_limited` – too many were wrong */
  admit(address: string): void {
    const untilMs = this.#known.get(placeOf(address))?.untilMs ?? 0;
    const leftMs = untilMs - this.#clock.monotonicMs();
    if (leftMs <= 0) return;
    throw new WarrenError("rate_limited", "too many API keys from this address were not known: check the key", {
      details: { retryAfterSeconds: Math.ceil(leftMs / SECOND_MS) },
    });
  }

  /** One that was looked up is nobody's. */
  wrong(address: string): void {
    const place = placeOf(address);
    const nowMs = this.#clock.monotonicMs();
    const before = this.#known.get(place) ?? { left: AT_ONCE, atMs: nowMs, times: 0, untilMs: 0 };
    const left = Math.min(AT_ONCE, before.left + Math.max(0, nowMs - before.atMs) / SECOND_MS) - 1;
    const isQuiet = left >= AT_ONCE - 1; // it was full again
    const atMs = Math.max(nowMs, before.atMs);
    const after = { left: Math.max(0, left), atMs, times: isQuiet ? 0 : before.times, untilMs: before.untilMs };
    this.#known.delete(place); // so that it stands last, as the youngest
    this.#known.set(place, left >= 0 || before.untilMs > nowMs ? after : this.#refused(place, after));
    const [oldest] = this.#known.keys();
    if (this.#known.size > ADDRESSES && oldest !== undefined) this.#known.delete(oldest);
  }

  #refused(address: string, { times, ...rest }: Stranger): Stranger {
    const ms = Math.min(REFUSED_MS_MAX, SECOND_MS * 2 ** times);
    this.#log.warn("an address came with too many keys that are not known, and is refused for a while", {
      address,
      ms,
    });
    const untilMs = rest.atMs + ms;
    return { ...rest, times: Math.min(times + 1, 16), atMs: untilMs, untilMs }; // nothing is forgiven meanwhile
  }
}

/** Whose address it is: of IPv6 a network is anybody's who has one address of it. */
function placeOf(address: string): string {
  const v4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (v4 !== undefined) return v4;
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("%")[0]?.split("::") ?? [];
  const groups = head === "" ? [] : head.split(":");
  const rest = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - rest.length);
  const all = [...groups, ...Array.from({ length: zeros }, () => "0"), ...rest];
  return `${all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
