/** Commands and templates in the shape that clients of the API ask for: whole results over a host that streams. */
import type { Input } from "../../contract/route.ts";
import type { CommandResult, callRoutes } from "../../contract/routes/api/calls.ts";
import type { ExecEvent } from "../../contract/routes/exec.ts";
import { toBase64 } from "../../contract/wire/base64.ts";
import { exitCodeOf, timeoutSentence } from "../../contract/wire/wire.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { collect, type ExecResult } from "../../sandbox/collect.ts";
import { BOUNDS } from "../bounds.ts";
import type { RequestContext, RowCalls } from "../parts.ts";
import { runCell, runFresh } from "./cells.ts";

type Run = Input<typeof callRoutes.run>;

export function runCalls(): RowCalls<"run" | "kill" | "runFresh" | "runCell" | "template"> {
  return { run, kill, runFresh, runCell, template };
}

/** @throws {WarrenError} `exec_timeout` – with all it printed until then; as `exec` does */
export async function run({ host, signal }: RequestContext, input: Run): Promise<CommandResult> {
  const { encoding, ...exec } = input;
  const events = await host.exec(exec, { signal });
  if (exec.background === true) return await inBackground(events);
  let pid: number | undefined;
  const watched = noting(events, (event) => {
    if (event.kind === "started") pid = event.pid;
  });
  const limit = Math.min(exec.outputLimitBytes ?? LIMITS.outputBytes, BOUNDS.collectedBytes);
  const result = resultOf(await collect(watched, limit), encoding === "base64");
  const { timedOut, ...told } = pid === undefined ? result : { ...result, pid };
  if (!timedOut) return told;
  const seconds = exec.timeoutSeconds ?? LIMITS.execTimeoutSeconds;
  throw new WarrenError("exec_timeout", timeoutSentence(seconds), { details: told });
}

async function* noting(events: AsyncIterable<ExecEvent>, note: (event: ExecEvent) => void): AsyncGenerator<ExecEvent> {
  for await (const event of events) {
    note(event);
    yield event;
  }
}

function resultOf(result: ExecResult, inBase64: boolean): CommandResult & { timedOut: boolean } {
  const { stdout, stderr, exitCode, signal, durationMs, truncated, timedOut, stdoutBytes, stderrBytes } = result;
  const exact = inBase64 ? { stdoutBase64: toBase64(stdoutBytes), stderrBase64: toBase64(stderrBytes) } : {};
  return { stdout, stderr, ...exact, exitCode: exitCodeOf(exitCode, signal), signal, durationMs, truncated, timedOut };
}

async function inBackground(events: AsyncIterable<ExecEvent>): Promise<CommandResult> {
  for await (const event of events) {
    if (event.kind !== "started") continue;
    const { process, pid } = event;
    return { stdout: "", stderr: "", exitCode: 0, signal: null, durationMs: 0, truncated: false, pid, process };
  }
  throw new WarrenError("guest_protocol", "the command in the background did not say that it started");
}

async function kill(
  { host, signal: gone }: RequestContext,
  { id, process, signal = "SIGKILL" }: Input<typeof callRoutes.kill>,
): Promise<void> {
  const named = /^\d+$/.test(signal) ? Number(signal) : signal;
  await host.signal({ id, process, signal: named }, { signal: gone });
}

async function template({ host, signal }: RequestContext, { name }: Input<typeof callRoutes.template>) {
  const found = (await host.templates({}, { signal })).find((one) => one.name === name);
  if (found !== undefined) return found;
  throw new WarrenError("template_not_found", `there is no template ${name}`, { details: { field: "name", name } });
}
