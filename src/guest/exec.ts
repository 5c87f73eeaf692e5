/**
 * Commands: a request to EXEC's fields, and the guest's answers to events. The guest enforces time and output; the host
 * checks both again, since a guest's word on its own limits is worth nothing.
 */
import {
  type Exec,
  type ExecEvent,
  type ProcessInfo,
  PYTHON_PATH,
  type TerminalSize,
} from "../contract/routes/exec.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { type Answer, type Call, settled } from "./call.ts";
import { violation } from "./codec.ts";
import type { Connection } from "./connection.ts";
import { decodeFields, encodeFields, type Field } from "./fields.ts";
import { ASK, EXEC_FLAG, EXIT_FLAG, SAY, STARTED_FLAG, TAG } from "./protocol.ts";
import type { ProcessRecord } from "./records.ts";
import { type Meaning, refused } from "./refusal.ts";
import { signalName } from "./signals.ts";
import type { Waiter } from "./waiting.ts";

/** A command as the contract has it, without the sandbox it is for. */
export type ExecRequest = Omit<Exec, "id">;

/** Limits of the host's own making, for commands that are ours and not a user's. */
export interface RunLimits {
  /** Bytes of each stream; null: as many as come. */
  readonly outputBytes: number | null;
  /** Null: none. */
  readonly timeoutMs: number | null;
}

/** The limits that a user's request asks for; a background command runs until it ends unless a timeout is given. */
export function limitsOf(request: ExecRequest): RunLimits {
  const background = request.background === true;
  const seconds = request.timeoutSeconds ?? (background ? null : LIMITS.execTimeoutSeconds);
  return {
    outputBytes: background ? null : (request.outputLimitBytes ?? LIMITS.outputBytes),
    timeoutMs: seconds === null ? null : Math.max(1, Math.ceil(seconds * 1000)),
  };
}

function argumentsOf(request: ExecRequest): readonly string[] {
  if (request.python !== undefined) return [request.python.path ?? PYTHON_PATH, ...(request.python.args ?? [])];
  return request.argv ?? ["/bin/sh", "-c", request.cmd ?? ""];
}

/** True when stdin stays open after what is given with the request: a terminal's does. */
export function keepsStdin(request: ExecRequest): boolean {
  return request.stdinOpen === true || request.terminal !== undefined;
}

/** True when stdin gets bytes from the host. */
export function feedsStdin(request: ExecRequest): boolean {
  return request.stdin !== undefined || keepsStdin(request);
}

export function sizeFields({ rows, cols }: TerminalSize): Field[] {
  return [
    [TAG.ROWS, rows],
    [TAG.COLS, cols],
  ];
}

/** EXEC's payload. `code` only when it travels in the same frame. */
export function encodeExec(request: ExecRequest, limits: RunLimits, code?: string): Uint8Array {
  const flags =
    (request.python === undefined ? 0 : EXEC_FLAG.PYTHON) |
    (feedsStdin(request) ? EXEC_FLAG.STDIN_OPEN : 0) |
    (request.background === true ? EXEC_FLAG.BACKGROUND : 0);
  const fields: Field[] = argumentsOf(request).map((argument) => [TAG.ARG, argument]);
  for (const [name, value] of Object.entries(request.env ?? {})) fields.push([TAG.ENV, `${name}=${value}`]);
  if (request.cwd !== undefined) fields.push([TAG.CWD, request.cwd]);
  if (request.user !== undefined) fields.push([TAG.USER, request.user]);
  if (limits.timeoutMs !== null) fields.push([TAG.TIMEOUT_MS, limits.timeoutMs]);
  if (limits.outputBytes !== null) fields.push([TAG.OUTPUT_LIMIT, limits.outputBytes]);
  if (code !== undefined) fields.push([TAG.CODE, code]);
  if (request.terminal !== undefined) fields.push(...sizeFields(request.terminal));
  fields.push([TAG.FLAGS, flags]);
  return encodeFields(fields);
}

/** Turns a call's answers into events, and holds the guest to its limits. */
class Events {
  readonly #limits: RunLimits;
  readonly #startMs: number;
  readonly #nowMs: () => number;
  readonly #bytes = { stdout: 0, stderr: 0 };
  readonly #terminal: boolean;

  constructor(limits: RunLimits, terminal: boolean, nowMs: () => number) {
    this.#limits = limits;
    this.#terminal = terminal;
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
  }

  /** `null` for DONE: a background command has been started, and its answer ends. */
  event(answer: Answer): ExecEvent | null {
    switch (answer.kind) {
      case "started":
        if (this.#terminal && (answer.fields.numberOr(TAG.FLAGS, 0) & STARTED_FLAG.TERMINAL) === 0) {
          const says = "this sandbox was made by an earlier version, which has no terminals";
          throw new WarrenError("unsupported", says);
        }
        return {
          kind: "started",
          process: answer.fields.number(TAG.PROCESS),
          pid: answer.fields.number(TAG.PID),
        };
      case "gap":
        return { kind: "gap", bytes: answer.bytes };
      case "data":
        return this.#output(answer.type, answer.bytes);
      case "shut":
        throw violation("a connection's end in a command's answer");
      case "last":
        if (answer.type !== SAY.EXIT) {
          settled(answer, SAY.DONE);
          return null;
        }
        return this.#exit(answer.payload);
    }
  }

  #output(type: number, bytes: Uint8Array): ExecEvent {
    if (type === SAY.CHUNK) throw violation("a chunk as output");
    const kind = type === SAY.OUT ? "stdout" : "stderr";
    this.#bytes[kind] += bytes.length;
    const { outputBytes } = this.#limits;
    if (outputBytes !== null && this.#bytes[kind] > outputBytes) throw violation(`more ${kind} than its limit`);
    return { kind, bytes };
  }

  #exit(payload: Uint8Array): ExecEvent {
    const fields = decodeFields(payload);
    const code = fields.signed(TAG.CODE);
    const number = fields.number(TAG.SIGNAL);
    const flags = fields.number(TAG.FLAGS);
    if (code < -1 || code > 255 || number > 64 || (code === -1) !== number > 0) throw violation("an impossible exit");
    const guestMs = fields.number(TAG.DURATION_US) / 1000;
    return {
      kind: "exit",
      exitCode: code === -1 ? null : code,
      signal: code === -1 ? signalName(number) : null,
      timedOut: (flags & EXIT_FLAG.TIMED_OUT) !== 0,
      stdoutTruncated: (flags & EXIT_FLAG.STDOUT_CUT) !== 0,
      stderrTruncated: (flags & EXIT_FLAG.STDERR_CUT) !== 0,
      durationMs: Math.min(guestMs, this.#nowMs() - this.#startMs),
    };
  }
}

/**
 * The guest has its own timeout and the grace after it; from then on it has to have something to say whenever it is waited
 * for. A reader that takes its time is no fault of the guest's, so the wait counts from when it began. A command without a
 * timeout may be silent for ever, but not before it was started.
 */
function backstop(connection: Connection, limits: RunLimits, signal: AbortSignal | undefined) {
  const { clock } = connection;
  const { timeoutMs } = limits;
  const late = (says: string) => () => new WarrenError("guest_unresponsive", says);
  const until = (deadlineMs: number, says: string): Waiter => ({
    signal,
    deadlineMs: () => deadlineMs,
    late: late(says),
  });
  const startMs = clock.monotonicMs();
  return (isStarted: boolean): Waiter => {
    if (timeoutMs === null && !isStarted) {
      const says = `the guest did not start a command within ${LIMITS.guestRequestMs} ms`;
      return until(startMs + LIMITS.guestRequestMs, says);
    }
    const endMs = timeoutMs === null ? Number.POSITIVE_INFINITY : startMs + timeoutMs + LIMITS.guestGraceMs;
    const says = `the guest did not end a command ${LIMITS.guestGraceMs} ms after its timeout`;
    return until(Math.max(endMs, clock.monotonicMs() + LIMITS.guestGraceMs), says);
  };
}

export interface Following {
  /** Sends stdin beside; its signal ends with the command. */
  readonly feed?: ((call: Call, signal: AbortSignal) => Promise<void>) | undefined;
  /** What the guest's error numbers mean for this request. */
  readonly meaning?: Meaning;
  /** It has to run in one. */
  readonly terminal?: boolean;
}

/** The events of one EXEC or ATTACH; leaving early cancels it, and so does whatever goes wrong. */
export async function* follow(
  connection: Connection,
  type: number,
  payload: Uint8Array,
  limits: RunLimits,
  signal: AbortSignal | undefined,
  { feed, meaning = {}, terminal = false }: Following = {},
): AsyncGenerator<ExecEvent> {
  const call = connection.open();
  const over = new AbortController();
  const events = new Events(limits, terminal, () => connection.clock.monotonicMs());
  const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  const waiter = backstop(connection, limits, either);
  let failure: unknown = null;
  try {
    await call.send(type, payload);
    if (feed !== undefined) {
      void feed(call, over.signal).catch((cause: unknown) => {
        failure = cause;
        call.cancel();
        over.abort(cause);
      });
    }
    for (let isStarted = type === ASK.ATTACH; ; isStarted = true) {
      const event = events.event(await call.next(waiter(isStarted)));
      if (event === null) return;
      yield event;
      if (event.kind === "exit") return;
    }
  } catch (cause) {
    if (failure !== null) throw failure;
    throw cause instanceof WarrenError && cause.code === "guest_protocol"
      ? connection.fail(cause)
      : refused(cause, meaning);
  } finally {
    call.cancel();
    over.abort(); // a feeder that waits for its own source is not waited for
  }
}

/** A process record as the contract shows it. */
export function processInfo(record: ProcessRecord): ProcessInfo {
  const signalled = !record.running && record.signal > 0;
  return {
    process: record.process,
    pid: record.pid,
    command: new TextDecoder().decode(record.command),
    background: record.background,
    running: record.running,
    exitCode: record.running || signalled ? null : record.exitCode,
    signal: signalled ? signalName(record.signal) : null,
  };
}

/** ATTACH's payload. */
export function encodeAttach(process: number): Uint8Array {
  return encodeFields([[TAG.PROCESS, process]]);
}
