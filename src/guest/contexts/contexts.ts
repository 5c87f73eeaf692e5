/**
 * Code contexts, from the host's side: each is a background command of the agent, found again by its command line alone, so
 * that it is there after a fork, from another process, and when this one has forgotten all about it.
 */
import type { Clock } from "../../base/clock.ts";
import { nonce } from "../../base/id.ts";
import type { ContextCreate, ContextInfo } from "../../contract/routes/contexts.ts";
import type { ProcessInfo } from "../../contract/routes/exec.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import type { GuestAgent } from "../agent.ts";
import { Attached } from "./attached.ts";
import { CellReader } from "./reader.ts";

/** What is needed of an agent. */
export type ContextAgent = Pick<GuestAgent, "exec" | "attach" | "stdin" | "signal" | "processes"> & {
  /** Where the interpreter's program is installed, if elsewhere than in a template. */
  readonly contextScript?: string;
};

const SCRIPT = "/usr/lib/warren/context/run.py";
/** The signal that closes a context: one that nothing else sends, so that its end says that it was meant. */
const CLOSED = 40;
const CLOSED_NAME = "SIG40";

/** Starts one. @throws {WarrenError} `invalid_request` – no such directory or user */
export async function createContext(
  agent: ContextAgent,
  { cwd = "/work", env, user }: Omit<ContextCreate, "id" | "language">,
  clock: Clock,
  signal?: AbortSignal,
): Promise<ContextInfo> {
  const createdMs = Math.floor(clock.wallMs());
  const python = { path: agent.contextScript ?? SCRIPT, args: [String(createdMs), cwd] };
  const request = { python, cwd, background: true, stdinOpen: true };
  const given = { ...(env === undefined ? {} : { env }), ...(user === undefined ? {} : { user }) };
  for await (const event of agent.exec({ ...request, ...given }, signal)) {
    if (event.kind === "started") return infoOf(event.process, `${createdMs} ${cwd}`, "idle", null, null);
  }
  throw new WarrenError("guest_protocol", "the guest did not say that the context was started");
}

function infoOf(
  context: number,
  args: string,
  state: ContextInfo["state"],
  exitCode: number | null,
  signal: string | null,
): ContextInfo {
  const at = args.indexOf(" ");
  const ms = Number(args.slice(0, at));
  const created = new Date(Number.isSafeInteger(ms) && Math.abs(ms) < 8.64e15 ? ms : 0);
  return {
    context,
    language: "python",
    state,
    cwd: args.slice(at + 1),
    createdAt: created.toISOString(),
    exitCode,
    signal,
  };
}

/** What its command was given after the program's path; null when it is no context, or a closed one. */
function argumentsOf(agent: ContextAgent, { background, command, signal }: ProcessInfo): string | null {
  const own = `python3 ${agent.contextScript ?? SCRIPT} `;
  return background && command.startsWith(own) && signal !== CLOSED_NAME ? command.slice(own.length) : null;
}

/** All that have not been closed. */
export async function listContexts(agent: ContextAgent, clock: Clock, signal?: AbortSignal): Promise<ContextInfo[]> {
  const all = await agent.processes(signal);
  const found = all.map(async (process) => {
    const args = argumentsOf(agent, process);
    if (args === null) return [];
    if (!process.running) return [infoOf(process.process, args, "dead", process.exitCode, process.signal)];
    const state = (await ask(agent, process.process, clock, signal)) === "idle" ? "idle" : "busy";
    return [infoOf(process.process, args, state, null, null)];
  });
  return (await Promise.all(found)).flat();
}

/** @throws {WarrenError} `context_not_found`; with `alive`, `wrong_state` – it is dead */
export async function findContext(
  agent: ContextAgent,
  context: number,
  alive: boolean,
  signal?: AbortSignal,
): Promise<ProcessInfo> {
  const found = (await agent.processes(signal)).find((process) => process.process === context);
  if (found === undefined || argumentsOf(agent, found) === null)
    throw new WarrenError("context_not_found", `there is no context ${context} in this sandbox`);
  if (alive && !found.running) throw deadContext(context, found);
  return found;
}

export function deadContext(
  context: number,
  { exitCode, signal }: { readonly exitCode: number | null; readonly signal: string | null },
): WarrenError {
  const how = signal === null ? `code ${exitCode}` : signal;
  return new WarrenError("wrong_state", `context ${context} is dead (${how}): its variables are lost, create another`, {
    details: { state: "dead", exitCode, signal },
  });
}

/** What it says of itself within its time; one that keeps still is at work. */
async function ask(
  agent: ContextAgent,
  context: number,
  clock: Clock,
  signal?: AbortSignal,
): Promise<"idle" | "busy" | "silent" | "ended"> {
  const cell = nonce();
  const attached = new Attached(agent, context, new CellReader(cell), clock, signal);
  try {
    attached.within(LIMITS.contextAskMs);
    await attached.order({ op: "ask", cell });
    for (;;) {
      const said = await attached.next();
      if (said.kind === "late") return "silent";
      if (said.kind === "exit") return "ended";
      if (said.kind === "state") return said.busy ? "busy" : "idle";
    }
  } finally {
    await attached.leave();
  }
}

/** Interrupts the cell under way; nothing happens when there is none. A context that does not even listen is ended. */
export async function interruptContext(
  agent: ContextAgent,
  context: number,
  clock: Clock,
  signal?: AbortSignal,
): Promise<void> {
  await findContext(agent, context, true, signal);
  await agent.stdin(context, `${JSON.stringify({ op: "interrupt", cell: null })}\n`, signal);
  if ((await ask(agent, context, clock, signal)) === "silent") await end(agent, context, 9, signal);
}

/** Ends it and what it started. One that is dead stays in the list, as how it ended. */
export async function closeContext(agent: ContextAgent, context: number, signal?: AbortSignal): Promise<void> {
  const { running } = await findContext(agent, context, false, signal);
  if (!running) return;
  await end(agent, context, CLOSED, signal);
}

/** Signals it and waits for its end, by force when it does not care. */
async function end(agent: ContextAgent, context: number, number: number, signal?: AbortSignal): Promise<void> {
  try {
    await agent.signal(context, number, signal);
  } catch (cause) {
    if (cause instanceof WarrenError && cause.code === "process_not_found") return; // it has ended just now
    throw cause;
  }
  for await (const event of agent.attach(context, signal)) if (event.kind === "exit") return;
}
