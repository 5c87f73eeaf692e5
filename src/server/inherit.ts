/**
 * What an earlier server left: sandboxes that live are taken over, with their place in the log and their axis of time; what
 * did not survive is closed at the end that the kernel wrote down, or at its last proof of life.
 */
import type { KnownEnd, Store } from "../api/store.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SandboxState } from "../contract/routes/sandboxes.ts";
import type { SandboxHost } from "../contract/routes.ts";
import type { Known, ServerMoves } from "./moves.ts";
import { type HostFacts, knownEnd, missedMove } from "./time/facts.ts";

const STATES: readonly SandboxState[] = SandboxState.anyOf.map((state) => state.const);

interface InheritParts {
  readonly store: Store;
  as(account: string): SandboxHost;
  readonly moves: ServerMoves;
  readonly facts: HostFacts;
  readonly clock: Clock;
  readonly log: Log;
}

/** After all that an earlier server could not write has been. @throws {WarrenError} `store_unavailable` */
export async function inheritAll(parts: InheritParts): Promise<void> {
  const { store, facts, clock, log } = parts;
  const accounts = new Set((await store.accounts()).map(({ id }) => id));
  const live = new Set<string>();
  const owners = await facts.owners();
  for (const account of accounts) {
    // Looking on the disk costs more than asking.
    if (owners.has(account) || (await store.inUse(account)).sandboxes > 0) await inherit(parts, account, live);
  }
  const runs = facts.ends(); // after the look at what lives, which finds out what does not
  const ended = new Map<string, KnownEnd>();
  for (const run of runs) {
    if (live.has(run.id) || !accounts.has(run.account)) continue;
    const missed = missedMove(run, await knownOf(store, run.account, run.id));
    if (missed !== null) await store.record([missed]);
    const end = knownEnd(run);
    if (end !== null) ended.set(run.id, end);
  }
  const closed = await store.reconcile(live, ended, clock.wallMs(), facts.axis?.servedMs ?? null);
  for (const { id } of runs) facts.forgetEnd(id);
  if (live.size > 0 || closed > 0) log.info("sandboxes of an earlier server", { live: live.size, closed });
}

async function inherit({ store, as, moves, facts }: InheritParts, account: string, live: Set<string>): Promise<void> {
  const host = as(account);
  for (const info of await host.list({})) {
    if (info.state === "creating") {
      await host.close({ id: info.id }); // its create was under way: nobody was told that it is there
      continue;
    }
    const known = await knownOf(store, account, info.id);
    live.add(info.id);
    moves.inherit(account, info, known, await facts.timeOf(info.id));
  }
}

/** Its last move that the database has, and to when it lived by that; null when there is none. */
async function knownOf(store: Store, account: string, id: string): Promise<Known | null> {
  const last = (await store.events(account, id, 1))?.at(-1);
  const state = STATES.find((one) => one === last?.to);
  if (last === undefined || state === undefined) return null;
  return { sequence: last.sequence, state, atMs: (await store.provenMs(account, id)) ?? 0 };
}
