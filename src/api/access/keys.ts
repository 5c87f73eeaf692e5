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
import { hashOf, isToken } from "./tokens.ts";

interface Remembered {
  readonly key: Promise<KnownKey | null>;
  untilMs: number;
}

export class Keys implements AsyncDisposable {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #known = new Map<string, Remembered>();
  #used = new Map<string, number>();
  readonly #unsubscribe: () => void;
  #cancelFlush: (() => void) | null = null;

  constructor(store: Store, clock: Clock, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#unsubscribe = store.onKeysChanged(() => this.#known.clear());
  }

  /** @throws {WarrenError} `unauthorized` – not known, revoked or expired; `store_unavailable` */
  async find(token: string): Promise<KnownKey> {
    const key = isToken(token) ? await this.#remembered(hashOf(token)) : null;
    if (key === null) throw new WarrenError("unauthorized", "this API key is not known, or was revoked");
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
        if (found === null) entry.untilMs = Math.min(entry.untilMs, nowMs + BOUNDS.unknownKeyTtlMs);
      },
      () => {
        if (this.#known.get(hash) === entry) this.#known.delete(hash);
      },
    );
    return key;
  }
}
