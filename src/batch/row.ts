/**
 * The row: what a batch says about one item, whatever became of it. Exactly these keys in this order; the base64 of an
 * output stream is added only when its bytes are not UTF-8. `ok` and `error` agree: one is true exactly when the other is null.
 */

/** A file that an item left. Names come from the guest; `file` is where its bytes are on this host. */
export interface Artifact {
  /** Guest path; U+FFFD stands for bytes that are not UTF-8, and `path_base64` then has the exact ones. */
  readonly path: string;
  readonly path_base64?: string;
  readonly size: number;
  readonly sha256: string;
  /** Relative to the directory of the results; null when the bytes are here. */
  readonly file: string | null;
  /** Embedded use only. */
  readonly bytes?: Uint8Array;
}

export interface Row {
  readonly id: string | number;
  /** It ended by itself with exit code 0 and left every artifact it was to leave. */
  readonly ok: boolean;
  /** Null when a signal ended it, or when it never ended. */
  readonly exit_code: number | null;
  readonly signal: string | null;
  readonly timed_out: boolean;
  /** Some of its output is not here. */
  readonly truncated: boolean;
  readonly stdout: string;
  readonly stderr: string;
  readonly artifacts: readonly Artifact[];
  /** What went wrong, in one line; holds text of the guest, unescaped. */
  readonly error: string | null;
  /** Milliseconds: waiting for room on the host, creating the sandbox, running. 0 for what an item did not need. */
  readonly queued_ms: number;
  readonly create_ms: number;
  readonly exec_ms: number;
  readonly cost_usd: number;
  readonly stdout_base64?: string;
  readonly stderr_base64?: string;
}

/** What is known of an item's run; `null` for an exit that was never seen. */
export interface Ran {
  readonly exit: {
    readonly exitCode: number | null;
    readonly signal: string | null;
    readonly timedOut: boolean;
    readonly truncated: boolean;
  } | null;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly artifacts: readonly Artifact[];
  /** What went wrong beside the exit: a lost machine, a missing artifact. */
  readonly problem: string | null;
  readonly timeoutSeconds: number;
}

export interface Times {
  readonly queuedMs: number;
  readonly createMs: number;
  readonly execMs: number;
  readonly costUsd: number;
}

interface Text {
  readonly text: string;
  readonly base64: string | null;
}

/** Where a UTF-8 sequence was cut by a cap: the bytes before it. Looks at 3 bytes at most. */
function withoutCutSequence(bytes: Uint8Array): Uint8Array {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return bytes;
    if (byte >= 0xc0) {
      const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return needs > back ? bytes.subarray(0, bytes.length - back) : bytes;
    }
  }
  return bytes;
}

function textOf(bytes: Uint8Array, cut: boolean): Text {
  const whole = cut ? withoutCutSequence(bytes) : bytes;
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(whole), base64: null };
  } catch {
    // Not UTF-8: a readable text with replacements, and the exact bytes beside it.
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    return { text, base64: Buffer.from(bytes).toString("base64") };
  }
}

const LAST_LINE_CHARS = 200;

function lastLine(text: string): string {
  const line = text.trimEnd().split("\n").at(-1)?.trim() ?? "";
  return line.length > LAST_LINE_CHARS ? `${line.slice(0, LAST_LINE_CHARS)}…` : line;
}

function exitProblem(ran: Ran, stderr: string): string | null {
  const { exit } = ran;
  if (exit === null) return ran.problem === null ? "it never ended" : null;
  if (exit.timedOut) return `timed out after ${ran.timeoutSeconds} s`;
  if (exit.signal === "SIGKILL") return "ended by SIGKILL: most often the sandbox had no memory left";
  if (exit.signal !== null) return `ended by ${exit.signal}`;
  if (exit.exitCode === 0) return null;
  const last = lastLine(stderr);
  return last === "" ? `exit code ${exit.exitCode}` : `exit code ${exit.exitCode}: ${last}`;
}

function roundMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** The row of an item that ran, or that could not. */
export function rowOf(id: string | number, ran: Ran, times: Times): Row {
  const { exit } = ran;
  const stdout = textOf(ran.stdout, exit?.truncated ?? true);
  const stderr = textOf(ran.stderr, exit?.truncated ?? true);
  const problems = [exitProblem(ran, stderr.text), ran.problem].filter((p) => p !== null);
  return {
    id,
    ok: problems.length === 0,
    exit_code: exit?.exitCode ?? null,
    signal: exit?.signal ?? null,
    timed_out: exit?.timedOut ?? false,
    truncated: exit?.truncated ?? false,
    stdout: stdout.text,
    stderr: stderr.text,
    artifacts: ran.artifacts,
    error: problems.length === 0 ? null : problems.join("; "),
    queued_ms: roundMs(times.queuedMs),
    create_ms: roundMs(times.createMs),
    exec_ms: roundMs(times.execMs),
    cost_usd: times.costUsd,
    ...(stdout.base64 === null ? {} : { stdout_base64: stdout.base64 }),
    ...(stderr.base64 === null ? {} : { stderr_base64: stderr.base64 }),
  };
}
