/**
 * The moves of this server's sandboxes as they are made: whose a sandbox is, what state it is in, and its last steps before the
 * store has them. Of one that has ended they are kept until the store certainly has them.
 */
import type { Clock } from "../../base/clock.ts";
import type { Move } from "../../contract/move.ts";
import type { SandboxState } from "../../contract/routes/sandboxes.ts";

const ENDED: ReadonlySet<string> = new Set(["deleted", "failed"] satisfies SandboxState[]);
/** Of one sandbox: one that hibernates every minute is not followed further back from here. */
const KEPT = 100;
const KEPT_AFTER_END_MS = 120_000;

interface Life {
  readonly account: string;
  readonly moves: Move[];
}

export function isEnd(state: string): boolean {
  return ENDED.has(state);
}

export class RecentMoves {
  readonly #lives = new Map<string, Life>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  take(move: Move): void {
    const life = this.#lives.get(move.sandbox) ?? { account: move.account, moves: [] };
    this.#lives.set(move.sandbox, life);
    life.moves.push(move);
    if (life.moves.length > KEPT) life.moves.shift();
    if (isEnd(move.to)) {
      this.#clock.after(KEPT_AFTER_END_MS, () => this.#lives.delete(move.sandbox), { background: true });
    }
    for (const wake of this.#waiting.get(move.sandbox) ?? []) wake();
  }

  /** Oldest first; empty for one that is not this account's. */
  of(account: string, sandbox: string): readonly Move[] {
    const life = this.#lives.get(sandbox);
    return life?.account === account ? life.moves : [];
  }

  /** The account of one that has not ended. */
  ownerOf(sandbox: string): string | null {
    const life = this.#lives.get(sandbox);
    return life === undefined || isEnd(life.moves.at(-1)?.to ?? "") ? null : life.account;
  }

  /** How many that have not ended are in each state, of those that have moved since the server began. */
  states(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { moves } of this.#lives.values()) {
      const state = moves.at(-1)?.to;
      if (state !== undefined && !isEnd(state)) counts.set(state, (counts.get(state) ?? 0) + 1);
    }
    return counts;
  }

  /** Runs `wake` with each later move of the sandbox, until the result is called. */
  watch(sandbox: string, wake: () => void): () => void {
    const all = this.#waiting.get(sandbox) ?? new Set();
    this.#waiting.set(sandbox, all);
    all.add(wake);
    return () => {
      all.delete(wake);
      if (all.size === 0 && this.#waiting.get(sandbox) === all) this.#waiting.delete(sandbox);
    };
  }
}
