/** A command in a sandbox as if it ran here: both streams, stdin, Ctrl-C and the exit code. */
import type { SandboxHost } from "../contract/routes.ts";
import { LIMITS } from "../limits.ts";
import type { Command, Sandbox } from "../sandbox.ts";
import type { Io } from "./ground/io.ts";
import { streamOut } from "./text/stream-out.ts";
import { interruptible } from "./verb.ts";

export interface ForegroundOptions {
  readonly timeoutSeconds: number;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: string;
  readonly raw: boolean;
  /** This process's stdin is the command's. */
  readonly stdin: boolean;
}

/** The first Ctrl-C is the command's, the second ends it, the third ends this process. */
export function runIn(
  io: Io,
  host: SandboxHost,
  sandbox: Sandbox,
  command: Command,
  options: ForegroundOptions,
): Promise<number> {
  const { raw, stdin, ...rest } = options;
  let process: number | null = null;
  const pass = (signal: string): boolean => {
    if (process === null) return false;
    host.signal({ id: sandbox.id, process, signal }).catch(() => undefined); // it has just ended: nothing to tell
    return true;
  };
  return interruptible(
    io,
    async (signal) => {
      const input = stdin ? { stdin: io.input.bytes() } : {};
      const limits = { outputLimitBytes: LIMITS.outputBytesMax };
      const events = await sandbox.stream(command, { ...rest, ...limits, ...input, signal });
      const onStarted = (number: number) => {
        process = number;
      };
      return streamOut(io, events, { raw, onStarted });
    },
    pass,
  );
}
