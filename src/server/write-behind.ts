/**
 * What a server writes down after the answer: moves, what sandboxes are, what is kept on disk. Rows of a sandbox are written
 * in their order, in batches, one statement at a time; while the database is away they wait and are tried again. A row that
 * the database refuses for another reason is given up alone, loudly. Nothing else is lost: what waits is in the home's journal
 * too, for the next server when this one is killed. Moves may be written twice, and count once.
 */
import type { Beat } from "../api/billing.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Move } from "../contract/move.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { Stored } from "../contract/stored.ts";
import { isWarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { type Journal, NO_JOURNAL } from "./time/journal.ts";

/** What of a store is written to. */
export interface Books {
  record(moves: readonly Move[]): Promise<void>;
  describe(account: string, infos: readonly SandboxInfo[]): Promise<void>;
  recordStored(rows: readonly Stored[]): Promise<void>;
  heartbeat(beats: readonly Beat[]): Promise<void>;
}

export interface WriteBehindParts {
  readonly books: Books;
  /** A sandbox as it is now, also after its end; null when nobody knows it any more. */
  infoOf(account: string, id: string): Promise<SandboxInfo | null>;
  readonly clock: Clock;
  readonly log: Log;
  /** Moves that may wait; default {@link LIMITS.writeBehindRows}. */
  readonly limit?: number;
  /** Where rows wait as well; default nowhere. */
  readonly journal?: Journal;
  /** Told of moves that the database has taken. */
  readonly written?: (moves: readonly Move[]) => void;
}

/** What an account has less of from then on. */
const FREES: ReadonlySet<Move["to"]> = new Set(["stopping", "deleted", "failed", "hibernated"]);

/** Rows that wait, written from the front. */
class Lane<T> {
  readonly #rows: T[] = [];
  #batch: number = LIMITS.writeBehindBatch;

  get length(): number {
    return this.#rows.length;
  }

  push(row: T): void {
    this.#rows.push(row);
  }

  /**
   * Writes all there is. A batch that is refused is halved until the one row is found.
   * @throws {WarrenError} `store_unavailable` – what was not written waits on
   */
  async empty(write: (rows: readonly T[]) => Promise<void>, refused: (row: T, cause: unknown) => void): Promise<void> {
    while (this.#rows.length > 0) {
      const rows = this.#rows.slice(0, this.#batch);
      try {
        await write(rows);
        this.#batch = Math.min(LIMITS.writeBehindBatch, this.#batch * 2);
      } catch (cause) {
        if (isWarrenError(cause, "store_unavailable")) throw cause;
        this.#batch = Math.ceil(rows.length / 2);
        const [only] = rows;
        if (rows.length > 1 || only === undefined) continue;
        refused(only, cause);
      }
      this.#rows.splice(0, rows.length);
    }
  }
}

export class WriteBehind {
  readonly #parts: WriteBehindParts;
  readonly #moves = new Lane<Move>();
  readonly #stored = new Lane<Stored>();
  /** The latest proofs of life; those before it are in it. */
  #beats: readonly Beat[] = [];
  readonly #journal: Journal;
  /** Sandbox → account: what it is has changed since it was written. */
  readonly #changed = new Map<string, string>();
  readonly #hurry = new AbortController();
  #isHasty = false;
  #endCalm: () => void = () => undefined;
  #running: Promise<void> | null = null;
  #lost = 0;
  #awaySinceMs: number | null = null;
  /** There is no more time: what waits stays unwritten. */
  #isOver = false;

  constructor(parts: WriteBehindParts) {
    this.#parts = parts;
    this.#journal = parts.journal ?? NO_JOURNAL;
  }

  /**
   * Writes what an earlier server could not. Before anything else is told.
   * @throws {WarrenError} `store_unavailable`
   */
  async replay(): Promise<void> {
    const { moves, stored } = this.#journal.read();
    for (const move of moves) this.#moves.push(move);
    for (const row of stored) this.#stored.push(row);
    await this.#writeRows();
    this.#journal.empty();
  }

  /** Rows that are not written yet. */
  get waiting(): number {
    return this.#moves.length + this.#stored.length + this.#changed.size + Math.min(1, this.#beats.length);
  }

  /** Rows that were given up. */
  get lost(): number {
    return this.#lost;
  }

  /** For how long, in milliseconds, the database has not taken anything; 0 while it does. */
  get awayMs(): number {
    return this.#awaySinceMs === null ? 0 : this.#parts.clock.monotonicMs() - this.#awaySinceMs;
  }

  moved(move: Move): void {
    if (this.#moves.length >= (this.#parts.limit ?? LIMITS.writeBehindRows)) {
      this.#give("a move was given up: too many wait for the database", { ...move });
      return;
    }
    this.#moves.push(move);
    this.#journal.moved(move);
    this.#changed.set(move.sandbox, move.account);
    if (FREES.has(move.to)) this.#hasten();
    this.#run();
  }

  stored(row: Stored): void {
    if (this.#stored.length >= (this.#parts.limit ?? LIMITS.writeBehindRows)) {
      this.#give("a row of what is stored was given up: too many wait for the database", { ...row });
      return;
    }
    this.#stored.push(row);
    this.#journal.stored(row);
    this.#run();
  }

  /** Proofs of life; written after every move that was told before. */
  beaten(beats: readonly Beat[]): void {
    this.#beats = beats;
    this.#run();
  }

  /** Something of it is different without a move, its lifetime for instance. */
  touched(account: string, sandbox: string): void {
    this.#changed.set(sandbox, account);
    this.#run();
  }

  /** Waits until all is written, `deadlineMs` at most; what comes later is not written. @returns how many rows were not */
  async drain(deadlineMs: number): Promise<number> {
    const { clock, log } = this.#parts;
    const over = new AbortController();
    this.#hurry.abort();
    const late = clock.sleep(deadlineMs, over.signal).catch(() => undefined); // it was in time
    while (this.#running !== null) {
      const how = await Promise.race([this.#running.then(() => "written"), late.then(() => "late")]);
      if (how === "late") break;
    }
    over.abort();
    this.#isOver = true;
    if (this.waiting > 0) log.error("rows were not written before the end", { rows: this.waiting });
    return this.waiting;
  }

  #give(says: string, facts: Readonly<Record<string, unknown>>): void {
    this.#lost += 1;
    this.#parts.log.error(says, { ...facts, lost: this.#lost });
  }

  #run(): void {
    if (this.#isOver) return;
    this.#running ??= this.#writeAll().finally(() => {
      this.#running = null;
      if (this.waiting > 0) this.#run(); // came while the last statement was under way
    });
  }

  async #writeAll(): Promise<void> {
    const { clock, log } = this.#parts;
    let pauseMs: number = LIMITS.writeBehindRetryMs;
    await this.#gather();
    while (this.waiting > 0 && !this.#isOver) {
      try {
        await this.#once();
        if (this.#awaySinceMs !== null) log.info("the database takes rows again", { afterMs: Math.round(this.awayMs) });
        this.#awaySinceMs = null;
      } catch (cause) {
        if (this.#awaySinceMs === null) {
          log.error("the database is away: rows wait", { rows: this.waiting, cause: String(cause) });
        }
        this.#awaySinceMs ??= clock.monotonicMs();
        await this.#pause(pauseMs);
        pauseMs = Math.min(LIMITS.writeBehindRetryMsMax, pauseMs * 2);
      }
    }
  }

  /** @throws {WarrenError} `store_unavailable` */
  async #once(): Promise<void> {
    const { books } = this.#parts;
    const beats = this.#beats; // not those that come meanwhile: moves may have come before them that are not written
    await this.#writeRows();
    if (this.#moves.length + this.#stored.length === 0) this.#journal.empty();
    if (beats.length > 0) await this.#beat(beats, (rows) => books.heartbeat(rows));
    await this.#describe();
  }

  /** A proof of life that is refused is made up for by the next. @throws {WarrenError} `store_unavailable` */
  async #beat(beats: readonly Beat[], write: (beats: readonly Beat[]) => Promise<void>): Promise<void> {
    try {
      await write(beats);
    } catch (cause) {
      if (isWarrenError(cause, "store_unavailable")) throw cause;
      this.#parts.log.error("proofs of life could not be written", { cause: String(cause) });
    }
    if (this.#beats === beats) this.#beats = [];
  }

  /** @throws {WarrenError} `store_unavailable` */
  async #writeRows(): Promise<void> {
    const { books, written } = this.#parts;
    const refused = (row: Move | Stored, cause: unknown): void =>
      this.#give("the database refused a row", { ...row, cause: String(cause) });
    const record = async (rows: readonly Move[]): Promise<void> => {
      await books.record(rows);
      written?.(rows);
    };
    await this.#moves.empty(record, refused);
    await this.#stored.empty((rows) => books.recordStored(rows), refused);
  }

  /** Those of one account. @throws {WarrenError} `store_unavailable` */
  async #describe(): Promise<void> {
    const { books, infoOf, log } = this.#parts;
    const account = this.#changed.values().next().value;
    if (account === undefined) return;
    const ids = [...this.#changed].filter(([, of]) => of === account).map(([id]) => id);
    const taken = ids.slice(0, LIMITS.writeBehindBatch);
    for (const id of taken) this.#changed.delete(id);
    try {
      const known = (await Promise.all(taken.map((id) => infoOf(account, id)))).filter((info) => info !== null);
      if (known.length > 0) await books.describe(account, known);
    } catch (cause) {
      if (isWarrenError(cause, "store_unavailable")) {
        for (const id of taken) this.#changed.set(id, account);
        throw cause;
      }
      // What it was is for people; bills do not need it.
      log.error("what sandboxes are could not be written", { account, cause: String(cause) });
    }
  }

  /** Lets more rows come for the same statement: few when one of them frees a place, which its account may wait for. */
  async #gather(): Promise<void> {
    if (!this.#isHasty) {
      const calm = new AbortController();
      this.#endCalm = () => calm.abort();
      const { signal } = this.#hurry;
      await this.#parts.clock
        .sleep(LIMITS.writeBehindCalmMs, AbortSignal.any([signal, calm.signal]))
        .catch(() => undefined); // cut short: that is no failure
    }
    if (this.#isHasty) await this.#pause(LIMITS.writeBehindMs);
    this.#isHasty = false;
  }

  #hasten(): void {
    this.#isHasty = true;
    this.#endCalm();
  }

  /** Cut short once there is no more time: then rows are tried again without much of a wait. */
  async #pause(ms: number): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#hurry;
    if (signal.aborted) return clock.sleep(Math.min(ms, LIMITS.writeBehindMs));
    await clock.sleep(ms, signal).catch(() => undefined); // in a hurry: that is no failure
  }
}
