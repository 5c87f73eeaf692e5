/**
 * Keys as requests come with them: looked up once, then remembered for half a minute, so that a request costs no round trip to
 * the database. All is forgotten when the store says that a key or an account has changed. A secret is only ever compared by
 * its SHA-256, so the time that takes says nothing of it.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";
import type { KnownKey, Store } from "../store.ts";
import { Strangers } from "./strangers.ts";
import { hashOf, isToken } from "./tokens.ts";

interface Remembered {
  readonly key: Promise<KnownKey | null>;
  untilMs: number;
}

export class Keys implements AsyncDisposable {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #strangers: Strangers;
  readonly #known = new Map<string, Remembered>();
  /** That were somebody's when they were last looked up: they are looked up again whoever else comes from their address. */
  readonly #good = new Set<string>();
  #used = new Map<string, number>();
  readonly #unsubscribe: () => void;
  #cancelFlush: (() => void) | null = null;

  constructor(store: Store, clock: Clock, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#strangers = new Strangers(clock, log);
    this.#unsubscribe = store.onKeysChanged(() => this.#known.clear());
  }

  /**
   * @param address where it comes from; null: that is not known, and it is not counted
   * @throws {WarrenError} `unauthorized` – not known, revoked or expired; `rate_limited` – too many from there were not known;
   * `store_unavailable`
   */
  async find(token: string, address: string | null): Promise<KnownKey> {
    const hash = hashOf(token);
    if (address !== null && !this.#good.has(hash)) this.#strangers.admit(address);
    const key = isToken(token) ? await this.#remembered(hash) : null;
    if (key === null) {
      if (address !== null) this.#strangers.wrong(address);
      throw new WarrenError("unauthorized", "this API key is not known, or was revoked");
    }
    const nowMs = this.#clock.wallMs();
    if (key.expiresAtMs !== null && key.expiresAtMs <= nowMs)
      throw new WarrenError(
        "unauthorized",
        `the API key ${key.prefix}… expired at ${new Date(key.expiresAtMs).toISOString()}`,
      );
    this.#used.set(key.prefix, nowMs);
    this.#cancelFlush ??= this.#clock.after(BOUNDS.behindMs, () => void this.flush(), { background: true });
    return key;
  }

  /** Writes down when keys were last used. Never fails: it is of no consequence. */
  async flush(): Promise<void> {
    this.#cancelFlush?.();
    this.#cancelFlush = null;
    const used = this.#used;
    if (used.size === 0) return;
    this.#used = new Map();
    try {
      await this.#store.touchKeys(used);
    } catch (cause) {
      this.#log.warn("when keys were last used could not be written", { why: String(cause) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    await this.flush();
  }

  #remembered(hash: string): Promise<KnownKey | null> {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#known.get(hash);
    if (known !== undefined && known.untilMs > nowMs) return known.key;
    const key = this.#store.keyByHash(hash);
    const entry: Remembered = { key, untilMs: nowMs + BOUNDS.keyTtlMs };
    this.#known.delete(hash); // so that it stands last, as the youngest
    this.#known.set(hash, entry);
    const [oldest] = this.#known.keys();
    if (this.#known.size > BOUNDS.keys && oldest !== undefined) this.#known.delete(oldest);
    key.then(
      (found) => {
        this.#good.delete(hash);
        if (found === null) entry.untilMs = Math.min(entry.untilMs, nowMs + BOUNDS.unknownKeyTtlMs);
        else this.#keep(hash);
      },
      () => {
        if (this.#known.get(hash) === entry) this.#known.delete(hash);
      },
    );
    return key;
  }

  #keep(hash: string): void {
    this.#good.add(hash);
    const [oldest] = this.#good;
    if (this.#good.size > BOUNDS.keys && oldest !== undefined) this.#good.delete(oldest);
  }
}
