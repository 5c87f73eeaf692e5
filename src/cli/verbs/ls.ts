/** `warren ls`: the sandboxes of this machine's home. */
import { Option } from "commander";
import type { SandboxInfo, SandboxState } from "../../contract/routes/sandboxes.ts";
import type { Define, Verb } from "../verb.ts";

interface Options {
  readonly template?: string;
  readonly state?: SandboxState;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Those that a sandbox stays in. */
const STATES: readonly SandboxState[] = ["running", "paused", "hibernated"];

const EXAMPLES = `
Examples:
  $ warren ls
  $ warren ls --template base
  $ warren ls --state hibernated
  $ warren rm $(warren ls -q)`;

export const defineLs: Define = (program, verb) => {
  program
    .command("ls")
    .summary("list sandboxes")
    .description("List the sandboxes that live, newest first.")
    .option("-t, --template <name>", "only those of this template")
    .addOption(new Option("--state <state>", "only those in this state").choices(STATES))
    .option("-q, --quiet", "only their ids")
    .option("--json", "all that is known of them")
    .addHelpText("after", EXAMPLES)
    .action(async (options: Options) => {
      await ls(verb, options);
    });
};

async function ls(verb: Verb, options: Options): Promise<void> {
  const { io } = verb;
  const { given } = await import("../arguments.ts");
  const { table } = await import("../text/format.ts");
  const { print, printJson } = await import("../ground/io.ts");
  const { withHost } = await import("../verb.ts");
  const list = await withHost(verb, false, (host) =>
    host.list(given({ template: options.template, state: options.state })),
  );
  if (options.json === true) return printJson(io, list);
  if (options.quiet === true) {
    for (const info of list) await print(io, info.id);
    return;
  }
  const nowMs = io.clock.wallMs();
  const head = ["ID", "TEMPLATE", "CPU", "MEMORY", "STATE", "AGE", "ENDS IN", "PID", "METADATA"];
  const { rowOf } = await import("../text/sandbox-row.ts");
  await io.out.write(table([head, ...list.map((info: SandboxInfo) => rowOf(info, nowMs))]));
}
