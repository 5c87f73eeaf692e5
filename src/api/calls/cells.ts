/** Code in one answer: a cell of a context that lives on, or an interpreter that ends with its code. */
import type { Input } from "../../contract/route.ts";
import type { CodeResult, callRoutes } from "../../contract/routes/api/calls.ts";
import type { CellEvent, MimeBundle } from "../../contract/routes/contexts.ts";
import { exitCodeOf, timeoutSentence } from "../../contract/wire/wire.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { collect } from "../../sandbox/collect.ts";
import type { RequestContext } from "../parts.ts";

const secondsOf = (timeoutMs: number | undefined): number =>
  timeoutMs === undefined ? LIMITS.execTimeoutSeconds : timeoutMs / 1000;

/** @throws {WarrenError} `exec_timeout` – the cell was interrupted, and the next one has its own answer; as `runCode` does */
export async function runCell(
  { host, signal }: RequestContext,
  { id, context, code, timeoutMs }: Input<typeof callRoutes.runCell>,
): Promise<CodeResult> {
  const timeoutSeconds = secondsOf(timeoutMs);
  return collected(await host.runCode({ id, context, code, timeoutSeconds }, { signal }), timeoutSeconds);
}

/** Python in a context of its own, or a shell. @throws {WarrenError} the same */
export async function runFresh(asked: RequestContext, input: Input<typeof callRoutes.runFresh>): Promise<CodeResult> {
  if (input.language === "shell") return inShell(asked, input);
  const { host, signal } = asked;
  const { id, code, timeoutMs } = input;
  const { context } = await host.createContext({ id }, { signal });
  try {
    return await runCell(asked, { id, context, code, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  } finally {
    await host.closeContext({ id, context }).catch((cause: unknown) => {
      // What ended it is told by the cell: the sandbox's end, or its own.
      if (!isWarrenError(cause)) throw cause;
    });
  }
}

async function inShell(
  { host, signal: gone }: RequestContext,
  { id, code, timeoutMs }: Input<typeof callRoutes.runFresh>,
): Promise<CodeResult> {
  const timeoutSeconds = secondsOf(timeoutMs);
  const events = await host.exec({ id, cmd: code, timeoutSeconds }, { signal: gone });
  const done = await collect(events, LIMITS.outputBytes);
  const { stdout, stderr, durationMs, truncated } = done;
  const exitCode = exitCodeOf(done.exitCode, done.signal);
  const result = { results: [], stdout, stderr, exitCode, durationMs, truncated };
  if (done.timedOut) throw new WarrenError("exec_timeout", timeoutSentence(timeoutSeconds), { details: result });
  return result;
}

/** Text up to a bound. */
class Text {
  #parts: string[] = [];
  #chars = 0;
  cut = false;

  add(text: string): void {
    const part = text.slice(0, LIMITS.outputBytes - this.#chars);
    this.cut ||= part.length < text.length;
    this.#chars += part.length;
    if (part !== "") this.#parts.push(part);
  }

  toString(): string {
    return this.#parts.join("");
  }
}

type End = Extract<CellEvent, { kind: "end" }>;

function errorOf(end: End, raised: string | null): string | undefined {
  if (end.status === "ok") return undefined;
  if (raised !== null) return raised;
  if (end.status === "interrupted") return "KeyboardInterrupt: the cell was interrupted";
  return end.status === "dead"
    ? `the interpreter ended (${end.signal ?? `exit code ${end.exitCode}`})`
    : "the cell failed";
}

/** What a cell has said until now. */
class Said {
  readonly stdout = new Text();
  readonly stderr = new Text();
  readonly results: MimeBundle[] = [];
  #raised: string | null = null;

  add(event: Exclude<CellEvent, End>): void {
    if (event.kind === "stdout") this.stdout.add(event.text);
    else if (event.kind === "stderr") this.stderr.add(event.text);
    else if (event.kind === "error") this.#raised = event.traceback.join("\n") || `${event.name}: ${event.value}`;
    else this.results.push(event.data);
  }

  whole(end: End): CodeResult {
    const { stdout, stderr, results } = this;
    const error = errorOf(end, this.#raised);
    return {
      ...{ results, stdout: String(stdout), stderr: String(stderr), durationMs: end.durationMs },
      exitCode: end.status === "ok" ? 0 : 1,
      truncated: end.truncated || stdout.cut || stderr.cut,
      ...(error === undefined ? {} : { error }),
    };
  }
}

async function collected(events: AsyncIterable<CellEvent>, timeoutSeconds: number): Promise<CodeResult> {
  const said = new Said();
  for await (const event of events) {
    if (event.kind !== "end") {
      said.add(event);
      continue;
    }
    const { error, ...rest } = said.whole(event);
    if (event.status === "timeout")
      throw new WarrenError("exec_timeout", timeoutSentence(timeoutSeconds), { details: rest });
    return error === undefined ? rest : { ...rest, error };
  }
  throw new WarrenError("guest_protocol", "the cell's events ended without its end");
}
