/** A background command of a sandbox: attached to, written to, signalled, from any process that reaches the sandbox. */
import type { Body, CallOptions } from "../contract/route.ts";
import type { Exec, ExecEvent } from "../contract/routes/exec.ts";
import type { SandboxHost } from "../contract/routes.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { collect, type ExecResult } from "./collect.ts";

export class SandboxProcess {
  /** Number within the sandbox. */
  readonly process: number;
  /** Pid in the guest. */
  readonly pid: number;
  readonly #host: SandboxHost;
  readonly #id: string;

  constructor(host: SandboxHost, id: string, process: number, pid: number) {
    this.#host = host;
    this.#id = id;
    this.process = process;
    this.pid = pid;
  }

  /** Replays what the ring still holds, then follows to the end; leaving the loop leaves the command running. */
  attach(options: CallOptions = {}): Promise<AsyncIterable<ExecEvent>> {
    return this.#host.attach({ id: this.#id, process: this.process }, options);
  }

  /** Waits for the end, with as much output as the ring still holds and what comes. */
  async wait(options: CallOptions = {}): Promise<ExecResult> {
    return collect(await this.attach(options), LIMITS.outputBytes);
  }

  /** Sends a signal to it and everything it started: a number, or a name such as `SIGTERM`. */
  signal(signal: number | string): Promise<void> {
    return this.#host.signal({ id: this.#id, process: this.process, signal });
  }

  /** Writes to stdin; resolves when the guest has taken it. Writing nothing does nothing. */
  async write(body: Body): Promise<void> {
    if (typeof body === "string" || body instanceof Uint8Array) {
      if (body.length > 0) await this.#stdin(body);
      return;
    }
    for await (const chunk of body) if (chunk.length > 0) await this.#stdin(chunk);
  }

  closeStdin(): Promise<void> {
    return this.#stdin(new Uint8Array(0));
  }

  #stdin(body: Body): Promise<void> {
    return this.#host.stdin({ id: this.#id, process: this.process, body });
  }
}

/** Starts it in the background. */
export async function startProcess(host: SandboxHost, command: Exec, signal?: AbortSignal): Promise<SandboxProcess> {
  const { id } = command;
  for await (const event of await host.exec({ ...command, background: true }, signal === undefined ? {} : { signal })) {
    if (event.kind === "started") return new SandboxProcess(host, id, event.process, event.pid);
  }
  throw new WarrenError("guest_protocol", `sandbox ${id} did not say that the command was started`);
}
