/** A running command's output on this process's: exact bytes where a program reads, escaped where a person does. */

import { EscapedStream } from "../../base/escape.ts";
import type { ExecEvent } from "../../contract/routes/exec.ts";
import { WarrenError } from "../../errors.ts";
import { exitCodeOfProgram } from "../exits.ts";
import type { Io, Sink } from "../ground/io.ts";

export interface StreamOptions {
  /** Exact bytes on a terminal too. */
  readonly raw: boolean;
  /** The command is known by this number from now on. */
  readonly onStarted?: (process: number) => void;
}

class Way {
  readonly #sink: Sink;
  readonly #escaped: EscapedStream | null;

  constructor(sink: Sink, raw: boolean) {
    this.#sink = sink;
    this.#escaped = raw || !sink.isTty ? null : new EscapedStream();
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#sink.write(this.#escaped === null ? bytes : this.#escaped.next(bytes));
  }

  async end(): Promise<void> {
    if (this.#escaped !== null) await this.#sink.write(this.#escaped.end());
  }
}

/** Follows a command to its end; the result is the exit code that tells of it. */
export async function streamOut(io: Io, events: AsyncIterable<ExecEvent>, options: StreamOptions): Promise<number> {
  const out = new Way(io.out, options.raw);
  const err = new Way(io.err, options.raw);
  for await (const event of events) {
    if (event.kind === "started") options.onStarted?.(event.process);
    else if (event.kind === "stdout") await out.write(event.bytes);
    else if (event.kind === "stderr") await err.write(event.bytes);
    else if (event.kind === "exit") {
      await out.end();
      await err.end();
      if (event.timedOut) await io.err.write("warren: the program was stopped at its timeout\n");
      if (event.stdoutTruncated || event.stderrTruncated) await io.err.write("warren: its output was cut\n");
      return exitCodeOfProgram(event);
    }
  }
  throw new WarrenError("guest_protocol", "the program's output ended without its exit");
}
