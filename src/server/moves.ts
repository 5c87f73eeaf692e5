/**
 * The moves of one server's sandboxes as its database and its clients get them. An engine counts a sandbox's moves from its
 * start, in the host's monotonic time; a server outlives several engines. So sequences go on where the database has them, times
 * are those of the sandbox's own axis, the same one as long as it lives, and what an earlier process made and no engine speaks
 * for any more is looked at: its moves are told from what is found, at the instants at which the host says that they were.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Move } from "../contract/move.ts";
import type { SandboxInfo, SandboxState } from "../contract/routes/sandboxes.ts";
import type { Stored } from "../contract/stored.ts";
import { LIMITS } from "../limits.ts";
import { type FoundTime, type HostFacts, knownEnd } from "./time/facts.ts";
import { StoredTimes } from "./time/stored-times.ts";

type Listener<T> = (row: T) => void;
export interface Source<T> {
  subscribe(listener: Listener<T>): () => void;
}

/** What the database has of a sandbox that was there before this server. */
export interface Known {
  readonly sequence: number;
  readonly state: SandboxState;
  /** Of its last move or proof of life, the later one; on its axis. */
  readonly atMs: number;
}

interface Inherited {
  readonly account: string;
  readonly info: SandboxInfo;
  readonly state: SandboxState;
}

/** Where a sandbox is in its log and in its time. */
interface Place {
  /** Added to the engine's monotonic time. */
  readonly axisMs: number;
  /** Sequence that the engine's own are counted from. */
  readonly base: number;
  readonly sequence: number;
  /** Of its last move here, or proof of life; on its axis. */
  readonly atMs: number;
  /** The end of its lifetime, on its axis. */
  readonly endsMs: number | null;
  readonly state: SandboxState;
}

export interface MovesParts {
  readonly moves: Source<Move>;
  readonly storage: Source<Stored>;
  /** A sandbox as it is; null when there is none any more. */
  infoOf(account: string, id: string): Promise<SandboxInfo | null>;
  readonly facts: HostFacts;
  readonly clock: Clock;
  readonly log: Log;
}

const ENDED: ReadonlySet<SandboxState> = new Set(["deleted", "failed"]);
/** A machine is there. */
const LIVING: ReadonlySet<SandboxState> = new Set(["running", "paused"]);

/** Charges are of whole milliseconds, and instants rounded down to them: what begins to run does so at the next, not before it did. */
export function chargedFrom(to: SandboxState, atMs: number): number {
  return to === "running" ? Math.ceil(atMs) : atMs;
}

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
  readonly #listeners = new Set<Listener<Move>>();
  readonly #storedListeners = new Set<Listener<Stored>>();
  /** Those that the engine does not speak for. */
  readonly #inherited = new Map<string, Inherited>();
  /** Of every sandbox that has not ended. */
  readonly #places = new Map<string, Place>();
  /** When somebody asked for the end or a rest of one, that is under way: monotonic clock. */
  readonly #asked = new Map<string, number>();
  readonly #ends: (() => void)[];
  #cancelLook: () => void = () => undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(parts: MovesParts) {
    this.#parts = parts;
    const { clock, moves, storage, facts, log } = parts;
    const times = new StoredTimes(clock, facts.axis);
    this.#ends = [
      moves.subscribe((move) => this.#moved(move)),
      storage.subscribe((row) => tell(this.#storedListeners, times.placed(row), log)),
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

  /**
   * Sandboxes that have a machine now, with what is added to the monotonic clock for their axis. Not one whose end is asked for:
   * its time ends at that, and no proof of life may be of later.
   */
  living(): { readonly id: string; readonly axisMs: number }[] {
    const living = [...this.#places].filter(([id, { state }]) => LIVING.has(state) && !this.#asked.has(id));
    return living.map(([id, { axisMs }]) => ({ id, axisMs }));
  }

  /** It lived at this instant of its axis: what is found out of it later was not before that. */
  proven(id: string, atMs: number): void {
    const place = this.#places.get(id);
    if (place !== undefined && atMs > place.atMs) this.#places.set(id, { ...place, atMs });
  }

  /**
   * One that was there before; `known` is null when the database never heard of it, `time` when the home does not know when it
   * did what. Before the first move of this server.
   */
  inherit(account: string, info: SandboxInfo, known: Known | null, time: FoundTime | null): void {
    const { clock } = this.#parts;
    const axisMs = time?.axisMs ?? Math.max(clock.wallMs(), known?.atMs ?? 0) - clock.monotonicMs();
    const sequence = known?.sequence ?? 0;
    const state = known?.state ?? info.state;
    // Where nobody noted it, it ran from now on: what is not known is not billed.
    const sinceMs = time?.sinceMs ?? axisMs + clock.monotonicMs();
    this.#places.set(info.id, {
      axisMs,
      base: sequence,
      sequence,
      atMs: known?.atMs ?? 0,
      endsMs: time?.endsMs ?? null,
      state,
    });
    this.#inherited.set(info.id, { account, info, state });
    if (known === null) this.#found(info.id, null, info.state, { event: "found", reason: null, atMs: sinceMs });
    else if (known.state !== info.state) {
      this.#found(info.id, known.state, info.state, { event: "found", reason: null, atMs: sinceMs });
    }
    if (this.#inherited.size === 1) this.#again();
  }

  /** Somebody asks for what may end its time; that is looked at afterwards. */
  asked(id: string): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    const askedMs = this.#parts.clock.monotonicMs();
    this.#asked.set(id, askedMs);
    if (this.#inherited.has(id) && LIVING.has(place.state)) void this.#askedInVain(id, askedMs, place);
  }

  /** What had ended before it was asked for lived to its last proof of life, as far as is known. */
  async #askedInVain(id: string, askedMs: number, { atMs, axisMs }: Place): Promise<void> {
    try {
      if ((await this.#parts.facts.pulse(id)) !== null || this.#asked.get(id) !== askedMs) return;
      this.#asked.set(id, Math.min(askedMs, atMs - axisMs));
    } catch (cause) {
      this.#parts.log.warn("a sandbox could not be looked at", { id, cause: String(cause) });
    }
  }

  /** Looks at once at one that may have been changed or ended just now. */
  async look(id: string): Promise<void> {
    if (this.#inherited.has(id)) {
      this.#looking = this.#looking.then(() => this.#lookAt(id));
      await this.#looking;
    }
    this.#asked.delete(id);
  }

  [Symbol.dispose](): void {
    this.#cancelLook();
    for (const end of this.#ends) end();
  }

  #moved(move: Move): void {
    const { sandbox: id, to, event } = move;
    const before = this.#places.get(id);
    // Its first move here tells its axis: both clocks are of the same instant.
    const isFirst = before === undefined || event === "adopted";
    const axisMs = isFirst ? move.wallMs - move.monotonicMs : before.axisMs;
    const from = move.from ?? this.#inherited.get(id)?.state ?? null;
    this.#inherited.delete(id); // the engine speaks for it from here on
    const base = before?.base ?? 0;
    const sequence = base + move.sequence;
    const monotonicMs = chargedFrom(to, Math.max(move.monotonicMs + axisMs, before?.atMs ?? 0));
    if (ENDED.has(to)) this.#places.delete(id);
    else this.#places.set(id, { axisMs, base, sequence, atMs: monotonicMs, endsMs: null, state: to });
    if (event === "woken") this.#parts.facts.forgetEnd(id); // that was of its last machine
    if (!LIVING.has(to)) this.#parts.facts.changed(id);
    tell(this.#listeners, { ...move, sequence, from, monotonicMs }, this.#parts.log);
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
      const { atMs, why } = this.#instantOf(id, state);
      if (!ENDED.has(state)) {
        this.#found(id, now.state, state, { event: "found", reason: null, atMs });
        return;
      }
      const reason = info?.reason ?? why ?? "it ended by itself, or was ended by another process";
      this.#found(id, now.state, "stopping", { event: "found", reason, atMs });
      this.#found(id, "stopping", "deleted", { event: "reaped", reason, atMs });
      this.#inherited.delete(id);
      this.#places.delete(id);
    } catch (cause) {
      this.#parts.log.warn("a sandbox could not be looked at", { id, cause: String(cause) });
    }
  }

  /**
   * When one came to the state that it is found in. Where its time goes on that is now; where it ends, the earliest of what was
   * asked for, what the kernel wrote down, and its lifetime; and its last proof of life where nothing of that is known.
   */
  #instantOf(id: string, to: SandboxState): { readonly atMs: number; readonly why: string | null } {
    const { clock, facts } = this.#parts;
    const place = this.#places.get(id);
    const nowMs = clock.monotonicMs() + (place?.axisMs ?? 0);
    if (place === undefined || to === "running") return { atMs: nowMs, why: null };
    const asked = this.#asked.get(id);
    const run = LIVING.has(to) ? null : facts.endOf(id);
    const end = run === null ? null : knownEnd(run);
    const known = [end?.endMs, asked === undefined ? undefined : asked + place.axisMs];
    const first = Math.min(...known.filter((ms) => ms !== undefined));
    const atMs = Math.min(Number.isFinite(first) ? first : place.atMs, place.endsMs ?? Infinity);
    return { atMs, why: asked === undefined ? (end?.why ?? null) : null };
  }

  /** A move that nobody saw being made. */
  #found(
    id: string,
    from: SandboxState | null,
    to: SandboxState,
    by: { readonly event: string; readonly reason: string | null; readonly atMs: number },
  ): void {
    const one = this.#inherited.get(id);
    const place = this.#places.get(id);
    if (one === undefined || place === undefined) return;
    const { account, info } = one;
    const size = { template: info.template, cpu: info.cpu, memoryMib: info.memoryMb };
    const monotonicMs = chargedFrom(to, Math.max(by.atMs, place.atMs));
    const { clock, facts, log } = this.#parts;
    const wallMs = clock.wallMs() - (clock.monotonicMs() + place.axisMs - monotonicMs);
    const sequence = place.sequence + 1;
    this.#places.set(id, { ...place, base: sequence, sequence, state: to, atMs: monotonicMs });
    this.#inherited.set(id, { ...one, state: to });
    if (!LIVING.has(to)) facts.changed(id);
    const { event, reason } = by;
    tell(
      this.#listeners,
      { sandbox: id, account, ...size, sequence, from, to, event, reason, monotonicMs, wallMs },
      log,
    );
  }
}
