/**
 * Commands and files of one sandbox, as the contract has them, over its agent: input parsed, the sandbox's defaults merged,
 * failures told in terms of the sandbox. It does not matter here whose sandbox it is; `reach` knows.
 */
import { parse } from "../contract/parse.ts";
import type { Body, CallOptions } from "../contract/route.ts";
import type { Exec, execRoutes } from "../contract/routes/exec.ts";
import type { fileRoutes } from "../contract/routes/files.ts";
import { routes, type SandboxHost } from "../contract/routes.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import type { GuestAgent } from "../guest/agent.ts";
import { LIMITS } from "../limits.ts";
import type { Hold } from "./hold.ts";

/** A sandbox that takes calls. */
export interface Reached {
  readonly agent: GuestAgent;
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string | null;
  /** A failure of the agent's, as the caller should see it: with the sandbox's own end, when that is the reason. */
  readonly explain: (cause: unknown) => Promise<unknown>;
}
/** The same, in use until `done` is called. */
export interface Used extends Reached {
  readonly done: () => void;
  /** In use beyond that, until the result is called. */
  readonly use: () => () => void;
}
export type Reach = (id: string) => Promise<Used>;

type GuestCalls = Pick<SandboxHost, keyof typeof execRoutes | keyof typeof fileRoutes>;
type Name = keyof GuestCalls;
type InputOf<K extends Name> = Parameters<GuestCalls[K]>[0];

/** The contract's calls on what runs inside a sandbox. */
export function guestCalls(reach: Reach, hold: Hold): GuestCalls {
  const call = <K extends Name>(name: K, job: (reached: Used, input: InputOf<K>, signal?: AbortSignal) => unknown) =>
    ((input: InputOf<K>, options: CallOptions = {}) =>
      hold.during(async () => {
        const checked = check(name, input);
        refuseAborted(options.signal);
        const reached = await reach(checked.id);
        try {
          return await job(reached, checked, options.signal);
        } catch (cause) {
          throw await reached.explain(cause);
        } finally {
          reached.done();
        }
      })) as unknown as GuestCalls[K];
  const begun = <T>(stream: AsyncIterable<T>, reached: Used) => begin(stream, reached, hold);
  return {
    exec: call("exec", (reached, input, signal) => {
      const { id: _, ...request } = withDefaults(input, reached.env, reached.workdir);
      return begun(reached.agent.exec(request, signal), reached);
    }),
    stdin: call("stdin", ({ agent }, { process, body }, signal) => agent.stdin(process, body, signal)),
    processes: call("processes", ({ agent }, _, signal) => agent.processes(signal)),
    attach: call("attach", (reached, { process }, signal) => begun(reached.agent.attach(process, signal), reached)),
    resizeTerminal: call("resizeTerminal", ({ agent }, { process, rows, cols }, signal) =>
      agent.resizeTerminal(process, { rows, cols }, signal),
    ),
    watch: call("watch", (reached, input, signal) => begun(reached.agent.watch(input, signal), reached)),
    signal: call("signal", ({ agent }, input, signal) => agent.signal(input.process, input.signal, signal)),
    readFile: call("readFile", (reached, input, signal) => begun(reached.agent.readFile(input, signal), reached)),
    writeFile: call("writeFile", ({ agent }, input, signal) => agent.writeFile(input, signal)),
    stat: call("stat", ({ agent }, input, signal) => agent.stat(input, signal)),
    listDirectory: call("listDirectory", ({ agent }, input, signal) => agent.listDirectory(input, signal)),
    mkdir: call("mkdir", ({ agent }, input, signal) => agent.mkdir(input, signal)),
    rename: call("rename", ({ agent }, input, signal) => agent.rename(input, signal)),
    chmod: call("chmod", ({ agent }, input, signal) => agent.chmod(input, signal)),
    removeFile: call("removeFile", ({ agent }, input, signal) => agent.removeFile(input, signal)),
    archiveOut: call("archiveOut", (reached, input, signal) => begun(reached.agent.archiveOut(input, signal), reached)),
    archiveIn: call("archiveIn", ({ agent }, input, signal) => agent.archiveIn(input, signal)),
  };
}

/** @throws {WarrenError} `cancelled` – or the abort's own reason, when it is one of ours. */
function refuseAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  if (isWarrenError(signal.reason)) throw signal.reason;
  throw new WarrenError("cancelled", "the call was cancelled before it began", { cause: signal.reason });
}

/** The input by its schema; a body is bytes of any shape and no part of that. */
function check<K extends Name>(name: K, input: InputOf<K>): InputOf<K> {
  const { body, ...rest } = input as InputOf<K> & { body?: Body };
  const checked = parse(routes[name].input, rest) as InputOf<K>;
  return body === undefined ? checked : { ...checked, body };
}

/** @throws {WarrenError} `invalid_request` – not exactly one command, or arguments too large for one frame. */
function withDefaults(input: Exec, env: Reached["env"], workdir: string | null): Exec {
  const commands = [input.cmd, input.argv, input.python].filter((c) => c !== undefined).length;
  if (commands !== 1) {
    throw new WarrenError("invalid_request", `exec needs exactly one of cmd, argv and python, and got ${commands}`);
  }
  const whole: Exec = { ...input, env: { ...env, ...input.env } };
  const cwd = input.cwd ?? workdir;
  if (cwd !== null) whole.cwd = cwd;
  const bytes = argumentBytes(whole);
  if (bytes > LIMITS.execArgumentBytes) {
    const says = `the command and its environment take ${bytes} bytes, allowed are ${LIMITS.execArgumentBytes}`;
    throw new WarrenError("invalid_request", `${says}: send it as a file or on stdin`);
  }
  return whole;
}

function argumentBytes(exec: Exec): number {
  const texts = [exec.cmd ?? "", ...(exec.argv ?? []), ...(exec.python?.args ?? [])];
  for (const [name, value] of Object.entries(exec.env ?? {})) texts.push(name, value);
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 2, 0);
}

/**
 * Waits for the first item, so that a call which cannot begin fails as a call and not inside its stream. Written out rather
 * than as a generator, since leaving a generator that was never read would not end what it stands for.
 */
export async function begin<T>(stream: AsyncIterable<T>, reached: Used, hold: Hold): Promise<AsyncIterable<T>> {
  const source = stream[Symbol.asyncIterator]();
  let first: IteratorResult<T> | null = await source.next();
  const over = reached.use();
  const next = async (): Promise<IteratorResult<T>> => {
    if (first !== null) {
      const result = first;
      first = null;
      return result;
    }
    try {
      const result = await hold.during(() => source.next());
      if (result.done === true) over();
      return result;
    } catch (cause) {
      over();
      throw await reached.explain(cause);
    }
  };
  const leave = async (): Promise<IteratorResult<T>> => {
    over();
    await hold.during(async () => source.return?.());
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next, return: leave }) };
}

/** Runs a job on a sandbox's agent; a lost connection is told as what became of the sandbox. */
export function onReached(reach: Reach, hold: Hold): <T>(id: string, job: (reached: Used) => Promise<T>) => Promise<T> {
  return (id, job) =>
    hold.during(async () => {
      const reached = await reach(id);
      try {
        return await job(reached);
      } catch (cause) {
        throw await reached.explain(cause);
      } finally {
        reached.done();
      }
    });
}
