/** What a verb gets: the program that it adds itself to, and the process that it runs in. */
import type { Command } from "commander";
import type { SandboxHost } from "../contract/routes.ts";
import type { ApiHost } from "../contract/table.ts";
import { WarrenError } from "../errors.ts";
import { EXIT } from "./exits.ts";
import type { Opened, ServerFlags } from "./ground/ground.ts";
import type { Io } from "./ground/io.ts";

export interface Verb {
  readonly io: Io;
  /** The exit code of what a verb did; 0 until it says otherwise. */
  code: number;
  /** Help and usage errors on their way out: the process must not end before them. */
  readonly writing: Promise<void>[];
  /** Which server the command line names, if any. */
  server: ServerFlags;
}

/** Adds a verb; what it does is imported when it is done. */
export type Define = (program: Command, verb: Verb) => void;

/**
 * Runs `job` over the server that was named, by options, environment or login, or else over an engine on this machine's
 * home; it is closed afterwards, come what may.
 */
export async function withHost<T>(
  { io, server }: Verb,
  creates: boolean,
  job: (host: SandboxHost, opened: Opened) => Promise<T>,
): Promise<T> {
  const ground = await io.ground();
  const target = await ground.target(server);
  await using opened = target === null ? await ground.open({ creates }) : await ground.connect(target);
  return await job(opened.host, opened);
}

/** The same, of what only a server can do. @throws {WarrenError} `unsupported` – none is named */
export async function withServer<T>(verb: Verb, job: (api: ApiHost, opened: Opened) => Promise<T>): Promise<T> {
  const ground = await verb.io.ground();
  const target = await ground.target(verb.server);
  if (target === null) {
    const says = "this is asked of a server: name one with --host and --key, or once with `warren login`";
    throw new WarrenError("unsupported", says);
  }
  await using opened = await ground.connect(target);
  return await job(opened.api, opened);
}

/**
 * Runs `job` with a signal that Ctrl-C aborts; one more ends the process at once. `passOn` may take the first for itself
 * by answering true.
 */
export async function interruptible<T>(
  io: Io,
  job: (signal: AbortSignal) => Promise<T>,
  passOn: (signal: string) => boolean = () => false,
): Promise<T> {
  const stop = new AbortController();
  let passed = false;
  const giveBack = io.onInterrupt((name) => {
    if (!passed && passOn(name)) passed = true;
    else if (stop.signal.aborted) io.endNow(EXIT.interrupted);
    else stop.abort(new WarrenError("cancelled", `stopped by ${name}`));
  });
  try {
    return await job(stop.signal);
  } finally {
    giveBack();
  }
}
