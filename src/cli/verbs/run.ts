/** `warren run`: one program in a sandbox of its own, as if it ran here. */
import type { Command } from "commander";
import { LIMITS } from "../../limits.ts";
import { given, integer, mib, pairs, seconds } from "../arguments.ts";
import { type EgressFlags, egressOf, egressOptions } from "../egress.ts";
import type { Define, Verb } from "../verb.ts";

interface Options extends EgressFlags {
  readonly code?: string;
  readonly sh?: boolean;
  readonly template: string;
  readonly cpu?: number;
  readonly memory?: number;
  readonly timeout: number;
  readonly env?: Record<string, string>;
  readonly raw?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren run script.py first second
  $ warren run -c 'import pandas; print(pandas.__version__)'
  $ warren run --sh -c 'uname -a; ls /'
  $ warren run --allow pypi.org --allow '*.pythonhosted.org' fetch.py
  $ cat data.csv | warren run -c 'import sys; print(len(sys.stdin.read().split()))'

stdin, both output streams, Ctrl-C and the exit code are those of the program. Its
output is escaped on a terminal and exact elsewhere; --raw makes it exact
everywhere.`;

export const defineRun: Define = (program, verb) => {
  const verbs = program
    .command("run")
    .summary("run one program in a sandbox of its own")
    .description("Run a Python program (or with --sh a shell script) in a fresh sandbox, which is gone afterwards.")
    .argument("[file]", "the program; - reads it from stdin")
    .argument("[args...]", "its arguments")
    .option("-c, --code <code>", "the program itself, in place of a file")
    .option("--sh", "it is a shell script, not Python")
    .option("-t, --template <name>", "what the sandbox is restored from", "code-interpreter")
    .option("--cpu <n>", "vCPUs", integer(1, LIMITS.cpuMax))
    .option("--memory <mib>", "guest memory, for instance 512 or 2g", mib)
    .option("--timeout <time>", "stop it after so long, for instance 90s or 5m", seconds, LIMITS.execTimeoutSeconds)
    .option("-e, --env <name=value>", "environment variable; may be repeated", pairs)
    .option("--raw", "exact output on a terminal too")
    .passThroughOptions();
  egressOptions(verbs, "default none")
    .addHelpText("after", EXAMPLES)
    .action(async (file: string | undefined, args: string[], options: Options, command: Command) => {
      verb.code = await run(verb, file, args, options, command);
    });
};

async function run(
  verb: Verb,
  file: string | undefined,
  args: string[],
  options: Options,
  command: Command,
): Promise<number> {
  const { io } = verb;
  const { commandFor } = await import("../program-file.ts");
  const { withTemplate } = await import("../bake-first.ts");
  const { interruptible, withHost } = await import("../verb.ts");
  const { runIn } = await import("../foreground.ts");
  const what = await commandFor(io, command, { file, args, code: options.code, isShell: options.sh === true });
  const { template, cpu, memory: memoryMb } = options;
  const size = given({ cpu, memoryMb });
  const egress = egressOf(options, "none") ?? { mode: "none" as const };
  return withHost(verb, true, async (host) => {
    await interruptible(io, (signal) => withTemplate(io, host, template, size, signal));
    const { Sandbox } = await import("../../sandbox.ts");
    const ttlSeconds = Math.min(options.timeout + LIMITS.batchTtlSlackSeconds, LIMITS.ttlSecondsMax);
    await using sandbox = await interruptible(io, (signal) =>
      Sandbox.create({ template, ...size, egress, ttlSeconds, signal }, host),
    );
    return await runIn(io, host, sandbox, what.command, {
      timeoutSeconds: options.timeout,
      env: options.env ?? {},
      cwd: "/work",
      raw: options.raw === true,
      stdin: what.stdinIsFree,
    });
  });
}
