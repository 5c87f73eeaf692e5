/** A sandbox's steps, those that are kept and then those that follow: each once, in order, none left out. */
import type { Move } from "../../contract/move.ts";
import type { SandboxEventInfo } from "../../contract/routes/api/calls.ts";
import { WarrenError } from "../../errors.ts";
import type { RowCalls } from "../parts.ts";
import type { Store } from "../store.ts";
import { BOUNDS } from "./bounds.ts";
import { isEnd, type RecentMoves } from "./moves.ts";

function infoOf({ sequence, wallMs, event, from, to, reason }: Move): SandboxEventInfo {
  return { sequence, at: new Date(wallMs).toISOString(), type: event, from, to, reason };
}

export class SandboxEvents {
  readonly #store: Store;
  readonly #recent: RecentMoves;

  constructor(store: Store, recent: RecentMoves) {
    this.#store = store;
    this.#recent = recent;
  }

  /** The last steps, oldest first; those that the store does not have yet too. Null: the account never had it. */
  async last(account: string, sandbox: string, tail: number): Promise<SandboxEventInfo[] | null> {
    const stored = await this.#store.events(account, sandbox, tail);
    const recent = this.#recent.of(account, sandbox);
    if (stored === null && recent.length === 0) return null;
    const all = new Map((stored ?? []).map((info) => [info.sequence, info]));
    for (const move of recent) all.set(move.sequence, infoOf(move));
    return [...all.values()].sort((a, b) => a.sequence - b.sequence).slice(-tail);
  }

  /** Those behind `sequence`, with none left out between them. */
  async #since(account: string, sandbox: string, sequence: number): Promise<SandboxEventInfo[]> {
    const recent = this.#recent.of(account, sandbox).filter((move) => move.sequence > sequence);
    if (recent.length > 0 && recent[0]?.sequence === sequence + 1) return recent.map(infoOf);
    if (recent.length === 0 && this.#recent.of(account, sandbox).length > 0) return [];
    // The reader was away for so long that only the store has the rest.
    const all = (await this.last(account, sandbox, BOUNDS.eventsWaiting)) ?? [];
    return all.filter((info) => info.sequence > sequence);
  }

  /** Ends behind the sandbox's last step, or with the signal. */
  async *follow(
    account: string,
    sandbox: string,
    first: readonly SandboxEventInfo[],
    signal: AbortSignal,
  ): AsyncGenerator<SandboxEventInfo> {
    let wake: () => void = () => undefined;
    // What was read before anyone watched may lack what came since.
    let isNew = true;
    const call = (): void => {
      isNew = true;
      wake();
    };
    const stop = this.#recent.watch(sandbox, call);
    signal.addEventListener("abort", call, { once: true });
    try {
      let sequence = 0;
      for (let some = first; !signal.aborted; some = await this.#since(account, sandbox, sequence)) {
        for (const info of some) {
          sequence = info.sequence;
          yield info;
          if (isEnd(info.to)) return;
        }
        if (!isNew) await new Promise<void>((resolve) => (wake = resolve));
        isNew = false;
      }
    } finally {
      stop();
      signal.removeEventListener("abort", call);
    }
  }
}

export function eventRow(events: SandboxEvents): RowCalls<"events"> {
  return {
    events: async ({ account, signal }, { id, tail, follow }) => {
      const first = await events.last(account, id, tail ?? BOUNDS.eventsTail);
      if (first === null) throw new WarrenError("not_found", `there is no sandbox ${id}`, { details: { id } });
      return follow === true ? events.follow(account, id, first, signal) : each(first);
    },
  };
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
