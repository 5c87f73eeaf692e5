/** `warren terminal`: a shell in a sandbox, as if one sat before it. */
import type { SandboxHost } from "../../../contract/routes.ts";
import { LIMITS } from "../../../limits.ts";
import { given, pairs } from "../../arguments.ts";
import type { Io } from "../../ground/io.ts";
import type { Define, Verb } from "../../verb.ts";

interface Options {
  readonly cwd?: string;
  readonly user?: string;
  readonly env?: Record<string, string>;
}

/** Ctrl-], as in telnet: for a guest that answers no more. */
const LEAVE = 0x1d;
const SHELL = "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi";

const EXAMPLES = `
Examples:
  $ warren terminal sb_abc
  $ warren terminal sb_abc top
  $ warren terminal --cwd /work sb_abc python3 -i

Every key goes to the sandbox, Ctrl-C too; Ctrl-] leaves, which ends what runs.
What the sandbox prints is not escaped: a terminal does what its programs say.`;

export const defineTerminal: Define = (program, verb) => {
  program
    .command("terminal")
    .summary("a shell in a sandbox, with this terminal")
    .description("Open a terminal in a sandbox: its shell, or a command.")
    .argument("<sandbox>", "its id")
    .argument("[command...]", "in place of a shell: a command line for sh, or a program and its arguments")
    .option("-w, --cwd <path>", "directory to start it in")
    .option("-u, --user <user>", "name or number of the guest's user; default root")
    .option("-e, --env <name=value>", "environment variable; may be repeated", pairs)
    .passThroughOptions()
    .addHelpText("after", EXAMPLES)
    .action(async (id: string, words: string[], options: Options) => {
      verb.code = await terminal(verb, id, words, options);
    });
};

async function terminal(verb: Verb, id: string, words: readonly string[], options: Options): Promise<number> {
  const { io } = verb;
  const { WarrenError } = await import("../../../errors.ts");
  const { withHost } = await import("../../verb.ts");
  if (!io.input.isTty || !io.out.isTty) {
    throw new WarrenError("invalid_request", "stdin and stdout are no terminal here: `warren exec` needs none");
  }
  const [first] = words;
  const command = words.length > 1 ? { argv: [...words] } : { cmd: first ?? SHELL };
  return withHost(verb, false, async (host) => {
    const input = {
      ...{ id, ...command, timeoutSeconds: LIMITS.timeoutSecondsMax, outputLimitBytes: LIMITS.outputBytesMax },
      ...{ terminal: io.size(), stdinOpen: true, env: { TERM: "xterm-256color", ...options.env } },
      ...given({ cwd: options.cwd, user: options.user }),
    };
    const restore = io.input.raw();
    try {
      return await connected(io, host, input);
    } finally {
      restore();
    }
  });
}

/** Until the command ends, or the user leaves. */
async function connected(io: Io, host: SandboxHost, input: Parameters<SandboxHost["exec"]>[0]): Promise<number> {
  const { EXIT } = await import("../../exits.ts");
  const { streamOut } = await import("../../text/stream-out.ts");
  const left = new AbortController();
  const undo: (() => void)[] = [];
  try {
    const events = await host.exec(input, { signal: left.signal });
    const onStarted = (process: number): void => {
      const ref = { id: input.id, process };
      undo.push(io.onResize(() => void host.resizeTerminal({ ...ref, ...io.size() }).catch(() => undefined))); // it has just ended
      void typed(io, (body) => host.stdin({ ...ref, body }), left.signal).then((how) => {
        if (how === "left") left.abort();
      });
    };
    return await streamOut(io, events, { raw: true, onStarted });
  } catch (cause) {
    if (!left.signal.aborted) throw cause;
    await io.err.write("\r\nwarren: left\r\n");
    return EXIT.ok;
  } finally {
    for (const end of undo) end();
    left.abort();
  }
}

/** Passes keys on until there are no more, nobody takes them, or one says to leave. */
async function typed(
  io: Io,
  pass: (keys: Uint8Array) => Promise<void>,
  signal: AbortSignal,
): Promise<"left" | "ended"> {
  try {
    for await (const keys of io.input.bytes()) {
      if (signal.aborted) return "ended";
      const at = keys.indexOf(LEAVE);
      if (at >= 0) return "left";
      await pass(keys.slice());
    }
  } catch {
    // The command has ended: how is told by its own stream.
  }
  return "ended";
}
