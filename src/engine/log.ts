/**
 * The log of moves in memory: appended by the engine alone, read by billing and whoever subscribes. A sandbox has at most
 * a handful of moves, since its states have no cycle; the log forgets whole sandboxes, oldest ended first.
 */
import { assert } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import type { Move } from "../contract/move.ts";
import { LIMITS } from "../limits.ts";
import { TERMINAL } from "./state.ts";

export type MoveListener = (move: Move) => void;

export class MoveLog {
  readonly #rows = new Map<string, Move[]>();
  readonly #ended = new Set<string>();
  readonly #listeners = new Set<MoveListener>();
  readonly #keep: number;
  readonly #log: Log;

  /** Keeps the moves of the last `keep` sandboxes that ended, and of every one that has not. */
  constructor(log: Log, keep: number = LIMITS.endedSandboxes) {
    this.#log = log;
    this.#keep = keep;
  }

  /** The sequence number that the next move of a sandbox has to carry. */
  nextSequence(sandbox: string): number {
    return (this.#rows.get(sandbox)?.length ?? 0) + 1;
  }

  append(move: Move): void {
    const rows = this.#rows.get(move.sandbox) ?? [];
    const last = rows.at(-1);
    assert(move.sequence === rows.length + 1, `move ${move.sequence} of ${move.sandbox} follows ${rows.length}`);
    assert(last === undefined || last.to === move.from, `${move.sandbox} moves from where it is`);
    assert(last === undefined || last.monotonicMs <= move.monotonicMs, `the moves of ${move.sandbox} are in order`);
    rows.push(move);
    this.#rows.set(move.sandbox, rows);
    if (TERMINAL.has(move.to)) this.#forgetAfter(move.sandbox);
    for (const listener of this.#listeners) this.#tell(listener, move);
  }

  /** Moves of one sandbox, oldest first; empty once forgotten. */
  of(sandbox: string): readonly Move[] {
    return this.#rows.get(sandbox) ?? [];
  }

  /** Every move kept, sandbox by sandbox. */
  all(): readonly Move[] {
    return [...this.#rows.values()].flat();
  }

  /** Calls `listener` with every later move, inside the move: it has to be quick. The result ends it. */
  subscribe(listener: MoveListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(listener: MoveListener, move: Move): void {
    try {
      listener(move);
    } catch (cause) {
      this.#log.error("a listener of the move log failed", { cause: String(cause) });
    }
  }

  #forgetAfter(sandbox: string): void {
    this.#ended.add(sandbox);
    if (this.#ended.size <= this.#keep) return;
    for (const oldest of this.#ended) {
      this.#ended.delete(oldest);
      this.#rows.delete(oldest);
      return;
    }
  }
}
