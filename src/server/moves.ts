/**
 * The moves of one server's sandboxes as its database and its clients get them. An engine counts a sandbox's moves and its own
 * time from its start; a server outlives several engines. So sequences go on where the database has them, times are those of
 * the wall clock at the engine's start and its monotonic clock from there on, and what an earlier process made and no engine
 * speaks for any more is looked at, and its moves told from what is found.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Move } from "../contract/move.ts";
import type { SandboxInfo, SandboxState } from "../contract/routes/sandboxes.ts";
import type { Stored } from "../contract/stored.ts";
import { LIMITS } from "../limits.ts";

type Listener<T> = (row: T) => void;
export interface Source<T> {
  subscribe(listener: Listener<T>): () => void;
}

/** What the database has of a sandbox that was there before this server. */
export interface Known {
  readonly sequence: number;
  readonly state: SandboxState;
  /** Milliseconds since the Unix epoch. */
  readonly atMs: number;
}

interface Inherited extends Known {
  readonly account: string;
  readonly info: SandboxInfo;
}

export interface MovesParts {
  readonly moves: Source<Move>;
  readonly storage: Source<Stored>;
  /** A sandbox as it is; null when there is none any more. */
  infoOf(account: string, id: string): Promise<SandboxInfo | null>;
  readonly clock: Clock;
  readonly log: Log;
}

const ENDED: ReadonlySet<SandboxState> = new Set(["deleted", "failed"]);

function tell<T>(listeners: ReadonlySet<Listener<T>>, row: T, log: Log): void {
  for (const listener of listeners) {
    try {
      listener(row);
    } catch (cause) {
      log.error("a listener of the server's moves failed", { cause: String(cause) });
    }
  }
}

export class ServerMoves implements Disposable {
  readonly #parts: MovesParts;
  /** Added to the engine's monotonic time. */
  readonly #offsetMs: number;
  readonly #listeners = new Set<Listener<Move>>();
  readonly #storedListeners = new Set<Listener<Stored>>();
  /** Those that the engine does not speak for. */
  readonly #inherited = new Map<string, Inherited>();
  /** Sequence and time that an inherited sandbox's further moves follow. */
  readonly #after = new Map<string, { readonly sequence: number; readonly atMs: number }>();
  readonly #ends: (() => void)[];
  #cancelLook: () => void = () => undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(parts: MovesParts) {
    this.#parts = parts;
    const { clock, moves, storage } = parts;
    this.#offsetMs = clock.wallMs() - clock.monotonicMs();
    this.#ends = [
      moves.subscribe((move) => this.#moved(move)),
      storage.subscribe((row) =>
        tell(this.#storedListeners, { ...row, monotonicMs: row.monotonicMs + this.#offsetMs }, parts.log),
      ),
    ];
  }

  subscribe(listener: Listener<Move>): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  subscribeStored(listener: Listener<Stored>): () => void {
    this.#storedListeners.add(listener);
    return () => this.#storedListeners.delete(listener);
  }

  /** One that was there before; `known` is null when the database never heard of it. Before the first move of this server. */
  inherit(account: string, info: SandboxInfo, known: Known | null): void {
    const last = known ?? { sequence: 0, state: info.state, atMs: 0 };
    this.#after.set(info.id, { sequence: last.sequence, atMs: last.atMs });
    this.#inherited.set(info.id, { account, info, ...last });
    if (known === null) this.#found(info.id, null, info.state, "found", null);
    else if (known.state !== info.state) this.#found(info.id, known.state, info.state, "found", null);
    if (this.#inherited.size === 1) this.#again();
  }

  /** Looks at once at one that may have been changed or ended just now. */
  async look(id: string): Promise<void> {
    if (!this.#inherited.has(id)) return;
    this.#looking = this.#looking.then(() => this.#lookAt(id));
    await this.#looking;
  }

  [Symbol.dispose](): void {
    this.#cancelLook();
    for (const end of this.#ends) end();
  }

  #moved(move: Move): void {
    const after = this.#after.get(move.sandbox);
    const monotonicMs = move.monotonicMs + this.#offsetMs;
    if (after === undefined) {
      tell(this.#listeners, { ...move, monotonicMs }, this.#parts.log);
      return;
    }
    const before = this.#inherited.get(move.sandbox)?.state ?? null;
    this.#inherited.delete(move.sandbox); // the engine speaks for it from here on
    const sequence = move.sequence + after.sequence;
    const atMs = Math.max(monotonicMs, after.atMs);
    if (ENDED.has(move.to)) this.#after.delete(move.sandbox);
    tell(this.#listeners, { ...move, sequence, from: move.from ?? before, monotonicMs: atMs }, this.#parts.log);
  }

  #again(): void {
    this.#cancelLook = this.#parts.clock.after(LIMITS.inheritedLookMs, () => void this.#lookAtAll(), {
      background: true,
    });
  }

  async #lookAtAll(): Promise<void> {
    for (const id of [...this.#inherited.keys()]) await this.look(id);
    if (this.#inherited.size > 0) this.#again();
  }

  async #lookAt(id: string): Promise<void> {
    const one = this.#inherited.get(id);
    if (one === undefined) return;
    try {
      const info = await this.#parts.infoOf(one.account, id);
      const now = this.#inherited.get(id);
      if (now === undefined) return; // the engine has it by now
      const state = info?.state ?? "deleted";
      if (state === now.state) return;
      if (!ENDED.has(state)) {
        this.#found(id, now.state, state, "found", null);
        return;
      }
      const reason = info?.reason ?? "it ended by itself, or was ended by another process";
      this.#found(id, now.state, "stopping", "found", reason);
      this.#found(id, "stopping", "deleted", "reaped", reason);
      this.#inherited.delete(id);
      this.#after.delete(id);
    } catch (cause) {
      this.#parts.log.warn("a sandbox could not be looked at", { id, cause: String(cause) });
    }
  }

  /** A move that nobody saw being made. */
  #found(id: string, from: SandboxState | null, to: SandboxState, event: string, reason: string | null): void {
    const one = this.#inherited.get(id);
    const after = this.#after.get(id);
    if (one === undefined || after === undefined) return;
    const { account, info } = one;
    const size = { template: info.template, cpu: info.cpu, memoryMib: info.memoryMb };
    const wallMs = this.#parts.clock.wallMs();
    const atMs = Math.max(this.#parts.clock.monotonicMs() + this.#offsetMs, after.atMs);
    const sequence = after.sequence + 1;
    this.#after.set(id, { sequence, atMs });
    this.#inherited.set(id, { ...one, sequence, state: to, atMs });
    tell(
      this.#listeners,
      { sandbox: id, account, ...size, sequence, from, to, event, reason, monotonicMs: atMs, wallMs },
      this.#parts.log,
    );
  }
}
