/**
 * A server as verbs see it: its calls, and the moves of what was made through them. A server tells nobody of moves while they
 * are made, so they come when a sandbox is closed here: as the server has them, or else by this machine's clock.
 */
import type { Clock } from "../../base/clock.ts";
import type { Move } from "../../contract/move.ts";
import type { SandboxEventInfo } from "../../contract/routes/api/calls.ts";
import type { SandboxInfo } from "../../contract/routes/sandboxes.ts";
import { SandboxState } from "../../contract/routes/sandboxes.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import type { ApiHost } from "../../contract/table.ts";
import type { Connected } from "./ground.ts";

/** A server does not say how many cores it has; a batch that names no concurrency has two lanes for each of these. */
const CORES = 4;
const ENDED: ReadonlySet<string> = new Set(["deleted", "failed"]);
const STATES: ReadonlySet<string> = new Set(SandboxState.anyOf.map((state) => state.const));

interface Made {
  readonly info: SandboxInfo;
  readonly atMs: number;
}

function isState(text: string): text is SandboxState {
  return STATES.has(text);
}

/** The account is the key's, and of no matter here. */
function rowOf({ info }: Made): Pick<Move, "sandbox" | "account" | "template" | "cpu" | "memoryMib"> {
  return { sandbox: info.id, account: "remote", template: info.template, cpu: info.cpu, memoryMib: info.memoryMb };
}

/** Null when they do not tell of its end yet. */
function movesOf(made: Made, events: readonly SandboxEventInfo[]): Move[] | null {
  const moves: Move[] = [];
  for (const { sequence, at, type, from, to, reason } of events) {
    if (!isState(to) || (from !== null && !isState(from))) return null;
    const ms = Date.parse(at);
    moves.push({ ...rowOf(made), sequence, from, to, event: type, reason, monotonicMs: ms, wallMs: ms });
  }
  return moves[0]?.from === null && ENDED.has(moves.at(-1)?.to ?? "") ? moves : null;
}

/** What this machine saw of it. */
function movesByClock(made: Made, endMs: number): Move[] {
  const row = { ...rowOf(made), reason: null };
  const at = (ms: number) => ({ monotonicMs: ms, wallMs: ms });
  return [
    { ...row, sequence: 1, from: null, to: "creating", event: "created", ...at(made.atMs) },
    { ...row, sequence: 2, from: "creating", to: "running", event: "booted", ...at(made.atMs) },
    { ...row, sequence: 3, from: "running", to: "stopping", event: "close", ...at(endMs) },
    { ...row, sequence: 4, from: "stopping", to: "deleted", event: "reaped", ...at(endMs) },
  ];
}

export function connectedTo(client: SandboxHost & ApiHost, clock: Clock, close: () => Promise<void>): Connected {
  const listeners = new Set<(move: Move) => void>();
  const made = new Map<string, Made>();
  const tell = async (one: Made): Promise<void> => {
    const moves = (await told(client, one)) ?? movesByClock(one, clock.wallMs());
    for (const move of moves) for (const listener of listeners) listener(move);
  };
  const host: SandboxHost = {
    ...client,
    create: async (input, options) => {
      const info = await client.create(input, options);
      if (listeners.size > 0) made.set(info.id, { info, atMs: clock.wallMs() });
      return info;
    },
    close: async (input, options) => {
      await client.close(input, options);
      const one = made.get(input.id);
      made.delete(input.id);
      if (one !== undefined) await tell(one);
    },
  };
  return {
    host,
    api: client,
    moves: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    cores: CORES,
    memoryMib: () => null,
    [Symbol.asyncDispose]: close,
  };
}

/** As the server has them; null when it does not, for whatever reason. */
async function told(api: ApiHost, made: Made): Promise<Move[] | null> {
  try {
    const events: SandboxEventInfo[] = [];
    for await (const event of await api.events({ id: made.info.id })) events.push(event);
    return movesOf(made, events);
  } catch {
    return null; // the price is then an estimate; the sandbox has ended all the same
  }
}
