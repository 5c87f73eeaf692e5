/** `warren exec`: a command in a sandbox that exists. */
import { LIMITS } from "../../limits.ts";
import { given, pairs, seconds } from "../arguments.ts";
import type { Define, Verb } from "../verb.ts";

interface Options {
  readonly cwd?: string;
  readonly user?: string;
  readonly timeout: number;
  readonly env?: Record<string, string>;
  readonly raw?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren exec sb_abc python3 -V
  $ warren exec sb_abc 'ls -l | wc -l'
  $ tar c . | warren exec --cwd /work sb_abc tar x

A single word is a command line for sh, several are a program and its arguments.
Options stand before the sandbox: what follows it is the command's own.

stdin, both output streams, Ctrl-C and the exit code are those of the command. Its
output is escaped on a terminal and exact elsewhere; --raw makes it exact
everywhere.`;

export const defineExec: Define = (program, verb) => {
  program
    .command("exec")
    .summary("run a command in a sandbox")
    .description("Run a command in a sandbox that exists.")
    .argument("<sandbox>", "its id")
    .argument("<command...>", "a command line for sh, or a program and its arguments")
    .option("-w, --cwd <path>", "directory to run it in")
    .option("-u, --user <user>", "name or number of the guest's user; default root")
    .option("-e, --env <name=value>", "environment variable; may be repeated", pairs)
    .option("--timeout <time>", "stop it after so long, for instance 90s or 5m", seconds, LIMITS.execTimeoutSeconds)
    .option("--raw", "exact output on a terminal too")
    .passThroughOptions()
    .addHelpText("after", EXAMPLES)
    .action(async (sandbox: string, words: string[], options: Options) => {
      verb.code = await exec(verb, sandbox, words, options);
    });
};

async function exec(verb: Verb, id: string, words: string[], options: Options): Promise<number> {
  const { io } = verb;
  const { runIn } = await import("../foreground.ts");
  const { withHost } = await import("../verb.ts");
  const { Sandbox } = await import("../../sandbox.ts");
  return withHost(verb, false, async (host) => {
    const sandbox = await Sandbox.connect(id, host);
    return await runIn(io, host, sandbox, words.length === 1 ? (words[0] ?? "") : words, {
      timeoutSeconds: options.timeout,
      env: options.env ?? {},
      raw: options.raw === true,
      stdin: true,
      ...given({ cwd: options.cwd, user: options.user }),
    });
  });
}
