/** The command line as a whole: its verbs, its help, and what becomes of an error. */
import { Command, CommanderError } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { escapeText } from "../base/escape.ts";
import { isWarrenError } from "../errors.ts";
import { given } from "./arguments.ts";
import { EXIT, EXIT_HELP, exitCodeOf } from "./exits.ts";
import type { ServerFlags } from "./ground/ground.ts";
import type { Io } from "./ground/io.ts";
import { reportOf } from "./text/report.ts";
import type { Define, Verb } from "./verb.ts";
import { defineAccounts } from "./verbs/api/accounts.ts";
import { defineEnvironment } from "./verbs/api/environment.ts";
import { defineKeys } from "./verbs/api/keys.ts";
import { defineLogin } from "./verbs/api/login.ts";
import { definePreview } from "./verbs/api/preview.ts";
import { defineServe } from "./verbs/api/serve.ts";
import { defineTerminal } from "./verbs/api/terminal.ts";
import { defineWatch } from "./verbs/api/watch.ts";
import { defineBatch } from "./verbs/batch.ts";
import { defineBench } from "./verbs/bench.ts";
import { defineBilling } from "./verbs/billing/billing.ts";
import { defineClean } from "./verbs/clean.ts";
import { defineCompletion } from "./verbs/completion.ts";
import { defineCp } from "./verbs/cp.ts";
import { defineCreate } from "./verbs/create.ts";
import { defineDoctor } from "./verbs/doctor.ts";
import { defineExec } from "./verbs/exec.ts";
import { defineFork } from "./verbs/fork.ts";
import { defineKeep } from "./verbs/keep.ts";
import { defineSnapshot, defineSnapshots } from "./verbs/kept/snapshots.ts";
import { defineTemplates } from "./verbs/kept/templates.ts";
import { defineVolumes } from "./verbs/kept/volumes.ts";
import { defineLs } from "./verbs/ls.ts";
import { defineNetwork } from "./verbs/network.ts";
import { definePortForward } from "./verbs/ports/port-forward.ts";
import { definePorts } from "./verbs/ports/ports.ts";
import { defineRm } from "./verbs/rm.ts";
import { defineRun } from "./verbs/run.ts";
import { defineStanding } from "./verbs/standing.ts";

const VERBS: readonly Define[] = [
  defineBatch,
  defineRun,
  defineCreate,
  defineLs,
  defineExec,
  defineTerminal,
  defineCp,
  defineRm,
  defineFork,
  defineStanding,
  definePorts,
  definePortForward,
  defineTemplates,
  defineSnapshot,
  defineSnapshots,
  defineVolumes,
  defineNetwork,
  defineServe,
  definePreview,
  defineWatch,
  defineLogin,
  defineKeys,
  defineAccounts,
  defineBilling,
  defineDoctor,
  defineClean,
  defineBench,
  defineEnvironment,
  defineCompletion,
  defineKeep,
];

/** They look at this machine, or serve it: none of them is done by a server. */
const LOCAL: ReadonlySet<string> = new Set([
  "serve",
  "doctor",
  "clean",
  "bench",
  "completion",
  "keep-network",
  "logout",
]);

const EXAMPLES = `
Examples:
  $ warren batch --example --limit 24     what it is for, on items that come with a checkout
  $ warren batch items.jsonl              one microVM per item, results beside it
  $ warren run script.py                  one program, as if it ran here
  $ warren doctor                         what this host can do
  $ warren serve                          the same for others, over HTTP
  $ warren ls --host https://warren.example --key wrn_...
  $ warren test                           every test, in a checkout

${EXIT_HELP}`;

export function buildProgram(verb: Verb): Command {
  const program = new Command("warren")
    .description("Run code that nobody reviewed, each piece in a microVM of its own.")
    .version(packageJson.version, "-V, --version")
    .option("-v, --verbose", "say why, when something fails")
    .enablePositionalOptions()
    .showHelpAfterError("(--help tells more)")
    .addHelpText("after", EXAMPLES);
  for (const define of VERBS) define(program, verb);
  for (const command of program.commands) if (!LOCAL.has(command.name())) serverOptions(command);
  serverOptions(program);
  program.hook("preAction", (_, action) => {
    const { host, key } = action.optsWithGlobals<ServerFlags>();
    const top = topOf(action, program);
    if (!LOCAL.has(top)) verb.server = given({ host, key });
    else if (program.opts<ServerFlags>().host !== undefined) {
      action.error(`error: ${top} is about this machine: it takes no --host before it`);
    }
  });
  settle(program, verb);
  return program;
}

/** Adds `--host` and `--key` to a command and all below it. */
function serverOptions(command: Command): void {
  command
    .option("--host <url>", "do it on this server; `local` is this machine's home")
    .option("--key <key>", "the key for it; others see command lines, so WARREN_API_KEY or a login is better");
  if (command.parent !== null) for (const sub of command.commands) serverOptions(sub);
}

/** Name of the verb that a command is, or is part of. */
function topOf(command: Command, program: Command): string {
  let top = command;
  while (top.parent !== null && top.parent !== program) top = top.parent;
  return top.name();
}

/** Errors are thrown, and what is written goes where the rest goes; for every command of the tree. */
function settle(command: Command, verb: Verb): void {
  const { io } = verb;
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => verb.writing.push(io.out.write(text)),
    writeErr: (text) => verb.writing.push(io.err.write(escapeText(text))),
    getOutHelpWidth: () => Math.min(io.out.columns, 110),
    getErrHelpWidth: () => Math.min(io.err.columns, 110),
    getOutHasColors: () => false,
    getErrHasColors: () => false,
  });
  for (const sub of command.commands) settle(sub, verb);
}

/** Runs one command line; the result is the exit code. Never throws. */
export async function runCli(args: readonly string[], io: Io): Promise<number> {
  const verb: Verb = { io, code: EXIT.ok, writing: [], server: {} };
  const program = buildProgram(verb);
  try {
    await program.parseAsync([...args], { from: "user" });
    return verb.code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const code = exitCodeOf(error);
    const isPlainStop = isWarrenError(error, "cancelled");
    const report = isPlainStop ? "warren: stopped\n" : reportOf(error, program.opts()["verbose"] === true);
    await io.err.write(report);
    return code;
  } finally {
    await Promise.all(verb.writing);
  }
}
