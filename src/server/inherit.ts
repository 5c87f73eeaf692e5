/** What an earlier server left: sandboxes that live are taken over, with their place in the log; what did not survive is closed. */
import type { Store } from "../api/store.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SandboxState } from "../contract/routes/sandboxes.ts";
import type { SandboxHost } from "../contract/routes.ts";
import type { Known, ServerMoves } from "./moves.ts";

const STATES: readonly SandboxState[] = SandboxState.anyOf.map((state) => state.const);

/** @throws {WarrenError} `store_unavailable` */
export async function inheritAll(parts: {
  readonly store: Store;
  as(account: string): SandboxHost;
  readonly moves: ServerMoves;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<void> {
  const { store, moves, clock, log } = parts;
  const live = new Set<string>();
  for (const { id: account } of await store.accounts()) {
    if ((await store.inUse(account)).sandboxes === 0) continue; // looking on the disk costs more than asking
    for (const info of await parts.as(account).list({})) {
      live.add(info.id);
      moves.inherit(account, info, await knownOf(store, account, info.id));
    }
  }
  const closed = await store.reconcile(live, new Map(), clock.wallMs());
  if (live.size > 0 || closed > 0) log.info("sandboxes of an earlier server", { live: live.size, closed });
}

/** Its last move that the database has; null when there is none. */
async function knownOf(store: Store, account: string, id: string): Promise<Known | null> {
  const last = (await store.events(account, id, 1))?.at(-1);
  const state = STATES.find((one) => one === last?.to);
  if (last === undefined || state === undefined) return null;
  return { sequence: last.sequence, state, atMs: Date.parse(last.at) };
}
