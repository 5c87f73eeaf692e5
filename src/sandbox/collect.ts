/** A command's events as one result. What is kept is bounded here too, whatever the guest sends. */
import type { Body } from "../contract/route.ts";
import type { ExecEvent } from "../contract/routes/exec.ts";
import { isWarrenError, WarrenError } from "../errors.ts";

export interface ExecResult {
  /** As UTF-8; bytes that are not become U+FFFD. The exact ones are in `stdoutBytes`. */
  readonly stdout: string;
  readonly stderr: string;
  readonly stdoutBytes: Uint8Array;
  readonly stderrBytes: Uint8Array;
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  /** For instance `SIGKILL`. */
  readonly signal: string | null;
  readonly timedOut: boolean;
  /** Some of stdout or stderr was dropped, here or in the guest. */
  readonly truncated: boolean;
  readonly durationMs: number;
}

/** Bytes up to a limit; the rest is counted. */
class Kept {
  readonly #parts: Uint8Array[] = [];
  readonly #limitBytes: number;
  #bytes = 0;
  cut = false;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(bytes: Uint8Array): void {
    const part = bytes.subarray(0, this.#limitBytes - this.#bytes);
    if (part.length < bytes.length) this.cut = true;
    if (part.length === 0) return;
    this.#parts.push(part);
    this.#bytes += part.length;
  }

  whole(): Uint8Array {
    return joined(this.#parts);
  }
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Reads to the exit. @throws {WarrenError} `sandbox_lost`, …, as the stream does. */
export async function collect(events: AsyncIterable<ExecEvent>, limitBytes: number): Promise<ExecResult> {
  const stdout = new Kept(limitBytes);
  const stderr = new Kept(limitBytes);
  for await (const event of events) {
    if (event.kind === "stdout") stdout.add(event.bytes);
    if (event.kind === "stderr") stderr.add(event.bytes);
    if (event.kind === "gap") stdout.cut = true;
    if (event.kind !== "exit") continue;
    const { exitCode, signal, timedOut, durationMs } = event;
    const [stdoutBytes, stderrBytes] = [stdout.whole(), stderr.whole()];
    const truncated = event.stdoutTruncated || event.stderrTruncated || stdout.cut || stderr.cut;
    const text = { stdout: decode(stdoutBytes), stderr: decode(stderrBytes), stdoutBytes, stderrBytes };
    return { ...text, exitCode, signal, timedOut, truncated, durationMs };
  }
  throw new WarrenError("guest_protocol", "the command's events ended without its exit");
}

/** A byte order mark is a byte like any other. */
function decode(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

type Write = (process: number, body: Uint8Array) => Promise<void>;

/**
 * The events of a command whose stdin is written as it comes and then closed. `start` begins it; its signal ends it, which
 * leaving its events could not while one of them is awaited.
 */
export async function* feed(
  start: (signal: AbortSignal) => Promise<AsyncIterable<ExecEvent>>,
  stdin: Exclude<Body, string | Uint8Array>,
  write: Write,
): AsyncGenerator<ExecEvent> {
  const over = new AbortController();
  try {
    for await (const event of await start(over.signal)) {
      if (event.kind === "started") pump(stdin, event.process, write, over.signal).catch((cause) => over.abort(cause));
      yield event;
      if (event.kind === "exit") return;
    }
  } catch (cause) {
    throw over.signal.aborted ? over.signal.reason : cause; // what broke the stdin, if that is what ended it
  } finally {
    over.abort();
  }
}

async function pump(
  stdin: Exclude<Body, string | Uint8Array>,
  process: number,
  write: Write,
  over: AbortSignal,
): Promise<void> {
  try {
    for await (const chunk of stdin) {
      if (over.aborted) return;
      if (chunk.length > 0) await write(process, chunk);
    }
    if (!over.aborted) await write(process, new Uint8Array(0));
  } catch (cause) {
    // A command need not read all it is given: it may end first, or close its stdin.
    if (over.aborted || isWarrenError(cause, "process_not_found") || isWarrenError(cause, "wrong_state")) return;
    throw cause;
  }
}
