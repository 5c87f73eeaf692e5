/** A terminal of a sandbox: a command that one types to and sees, left and come back to from any process that reaches it. */
import type { Body, CallOptions } from "../contract/route.ts";
import type { ExecEvent, TerminalSize } from "../contract/routes/exec.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { WarrenError } from "../errors.ts";
import type { Command, SpawnOptions } from "../sandbox.ts";
import { SandboxProcess } from "./process.ts";

export interface TerminalOptions extends Omit<SpawnOptions, "stdinOpen"> {
  /** Default 24 by 80. */
  readonly rows?: number;
  readonly cols?: number;
  /** Default: a shell. */
  readonly cmd?: Command;
}

/** How it ended. */
export type TerminalEnd = Omit<ExecEvent & { readonly kind: "exit" }, "kind" | "stdoutTruncated" | "stderrTruncated">;

/** The user's shell: bash where there is one. */
export const SHELL = "command -v bash >/dev/null && exec bash; exec sh -i";

export class SandboxTerminal {
  /** Number within the sandbox, by which {@link Sandbox.terminal} comes back to it. */
  readonly process: number;
  /** Pid in the guest. */
  readonly pid: number;
  readonly #host: SandboxHost;
  readonly #id: string;
  readonly #command: SandboxProcess;
  #exited: Promise<TerminalEnd> | null = null;

  constructor(host: SandboxHost, id: string, process: number, pid: number) {
    this.#host = host;
    this.#id = id;
    this.process = process;
    this.pid = pid;
    this.#command = new SandboxProcess(host, id, process, pid);
  }

  /** What it shows: first what its ring still holds, then what comes, to its end. Each loop is one reader; leaving is fine. */
  get output(): AsyncIterable<Uint8Array> {
    return { [Symbol.asyncIterator]: () => this.#output() };
  }

  /** Its end. Asking for it follows the terminal until then. @throws {WarrenError} `sandbox_lost`, `process_not_found` */
  get exited(): Promise<TerminalEnd> {
    this.#exited ??= this.#end();
    return this.#exited;
  }

  /** Types; resolves when the terminal has taken it. Ctrl-C is `"\x03"`, the end of input `"\x04"`. */
  write(body: Body): Promise<void> {
    return this.#command.write(body);
  }

  /** Tells it its size, and its program that it has changed. @throws {WarrenError} `process_not_found` – it has ended */
  resize(size: TerminalSize, options: CallOptions = {}): Promise<void> {
    return this.#host.resizeTerminal(
      { id: this.#id, process: this.process, rows: size.rows, cols: size.cols },
      options,
    );
  }

  /** Ends its program and all that it started. */
  kill(signal: number | string = "SIGKILL"): Promise<void> {
    return this.#command.signal(signal);
  }

  async *#output(): AsyncGenerator<Uint8Array> {
    for await (const event of await this.#command.attach()) if (event.kind === "stdout") yield event.bytes;
  }

  async #end(): Promise<TerminalEnd> {
    for await (const event of await this.#command.attach()) {
      if (event.kind !== "exit") continue;
      const { exitCode, signal, timedOut, durationMs } = event;
      return { exitCode, signal, timedOut, durationMs };
    }
    throw new WarrenError("guest_protocol", `sandbox ${this.#id} did not say how its terminal ended`);
  }
}
