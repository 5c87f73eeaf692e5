/**
 * One cell: its source to the context in pieces, its answers back as events, its timeout. The context interrupts a cell that
 * takes too long by itself; a context that does not manage is killed from here.
 */
import type { Clock } from "../../base/clock.ts";
import { nonce } from "../../base/id.ts";
import type { CellEvent, CellRun } from "../../contract/routes/contexts.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { Attached, type Exit } from "./attached.ts";
import { type ContextAgent, deadContext, findContext } from "./contexts.ts";
import { CellReader } from "./reader.ts";

/** Of source in one order: six times as many bytes at worst, which one request carries. */
const PIECE_CHARS = 6 * 1024;

/** Source in pieces, none of which ends within a character. */
export function* piecesOf(code: string): Generator<string> {
  let at = 0;
  do {
    let end = Math.min(code.length, at + PIECE_CHARS);
    if (end < code.length && /[\uD800-\uDBFF]/.test(code.charAt(end - 1))) end--;
    yield code.slice(at, end);
    at = end;
  } while (at < code.length);
}

type Run = Omit<CellRun, "id">;

/**
 * Runs a cell. Leaving the events early interrupts it.
 * @throws {WarrenError} `context_not_found`; `wrong_state` – the context is dead; `queue_full` – too many cells wait in it;
 * `guest_protocol` – its interpreter's channel to the host is broken; what reaching the guest throws
 */
export async function* runCell(
  agent: ContextAgent,
  run: Run,
  clock: Clock,
  signal?: AbortSignal,
): AsyncGenerator<CellEvent> {
  const { context } = run;
  await findContext(agent, context, true, signal);
  const cell = nonce();
  const attached = new Attached(agent, context, new CellReader(cell), clock, signal);
  let ended = false;
  try {
    const startMs = clock.monotonicMs();
    await send(attached, cell, run);
    attached.within(LIMITS.timeoutSecondsMax * 1000); // for those before it: each has a timeout of its own
    for await (const event of answers(agent, run, attached, clock, startMs)) {
      ended = event.kind === "end";
      yield event;
      if (ended) return;
    }
  } catch (cause) {
    ended ||= cause instanceof WarrenError && (cause.code === "wrong_state" || cause.code === "queue_full");
    throw cause;
  } finally {
    const interrupt = `${JSON.stringify({ op: "interrupt", cell })}\n`;
    if (!ended) void agent.stdin(context, interrupt).catch(() => undefined); // the sandbox or the context is gone: so is the cell
    await attached.leave();
  }
}

async function send(attached: Attached, cell: string, { code, timeoutSeconds }: Run): Promise<void> {
  const timeoutMs = timeoutMsOf(timeoutSeconds);
  let last: string | null = null;
  for (const text of piecesOf(code)) {
    if (last !== null) await attached.order({ op: "part", cell, text: last });
    last = text;
  }
  await attached.order({ op: "run", cell, text: last ?? "", timeoutMs });
}

function timeoutMsOf(timeoutSeconds: number | undefined): number {
  return Math.max(1, Math.ceil((timeoutSeconds ?? LIMITS.execTimeoutSeconds) * 1000));
}

async function* answers(
  agent: ContextAgent,
  { context, timeoutSeconds }: Run,
  attached: Attached,
  clock: Clock,
  startMs: number,
): AsyncGenerator<CellEvent> {
  let began = false;
  let killed = false;
  for (;;) {
    const said = await attached.next();
    switch (said.kind) {
      case "begin":
        began = true;
        attached.within(timeoutMsOf(timeoutSeconds) + LIMITS.cellGraceMs);
        break;
      case "late":
        if (killed) throw new WarrenError("guest_unresponsive", `context ${context} does not end`);
        killed = true;
        attached.within(LIMITS.guestGraceMs);
        await agent.signal(context, 9);
        break;
      case "exit":
        if (!began) throw deadContext(context, said);
        yield* death(said, killed, clock.monotonicMs() - startMs);
        return;
      case "ended":
        yield {
          kind: "end",
          ...said.end,
          durationMs: Math.min(said.end.durationMs, clock.monotonicMs() - startMs),
          exitCode: null,
          signal: null,
        };
        return;
      case "refused":
        throw new WarrenError("queue_full", `context ${context} has as many cells waiting as it takes`);
      case "state":
        break;
      default:
        yield said;
    }
  }
}

/** The interpreter has ended under its cell. */
function* death({ exitCode, signal }: Exit, late: boolean, durationMs: number): Generator<CellEvent> {
  const how = signal === null ? `with exit code ${exitCode}` : `by ${signal}`;
  const why =
    late || signal === "SIGKILL" ? ": a cell that does not end when it is interrupted takes its context along" : "";
  yield { kind: "error", name: "ContextDied", value: `the interpreter ended ${how}${why}`, traceback: [] };
  yield { kind: "end", status: "dead", executionCount: 0, durationMs, truncated: true, exitCode, signal };
}
