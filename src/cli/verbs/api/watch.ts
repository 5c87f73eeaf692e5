/** `warren events` and `warren logs`: what became of a sandbox on a server, and what was printed in it. */
import { Option } from "commander";
import type { SandboxEventInfo } from "../../../contract/routes/api/calls.ts";
import { given, integer } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";

interface Options {
  readonly follow?: boolean;
  readonly tail?: number;
  readonly stream?: "exec" | "stdout" | "stderr" | "kernel";
  readonly json?: boolean;
}

export const defineWatch: Define = (program, verb) => {
  program
    .command("events")
    .summary("the steps of a sandbox's life, on a server")
    .description("Show the steps of a sandbox's life, oldest first, also after its end.")
    .argument("<sandbox>", "its id")
    .option("-f, --follow", "go on until it has ended, or Ctrl-C")
    .option("--tail <n>", "only the last n", integer(1, 1000))
    .option("--json", "one JSON object a line")
    .addHelpText("after", "\nExamples:\n  $ warren events sb_abc\n  $ warren events sb_abc --follow --json")
    .action((id: string, options: Options) => events(verb, id, options));
  program
    .command("logs")
    .summary("what was printed in a sandbox, on a server")
    .description("Show the last lines that commands of a sandbox printed, or its kernel.")
    .argument("<sandbox>", "its id")
    .option("-f, --follow", "go on until it has ended, or Ctrl-C")
    .addOption(
      new Option("--stream <which>", "whose lines").choices(["exec", "stdout", "stderr", "kernel"]).default("exec"),
    )
    .option("--json", "one JSON object a line")
    .addHelpText("after", "\nExamples:\n  $ warren logs sb_abc\n  $ warren logs sb_abc --stream kernel --follow")
    .action((id: string, options: Options) => logs(verb, id, options));
};

function textOf({ at, from, to, type, reason }: SandboxEventInfo): string {
  const way = from === null ? to : `${from} -> ${to}`;
  return `${at}  ${type}  ${way}${reason === null ? "" : `  ${reason}`}`;
}

async function events(verb: Verb, id: string, { follow, tail, json }: Options): Promise<void> {
  const { io } = verb;
  const { print } = await import("../../ground/io.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { interruptible, withServer } = await import("../../verb.ts");
  const input = { id, ...given({ follow, tail }) };
  await withServer(verb, (api) =>
    interruptible(io, async (signal) => {
      for await (const event of await api.events(input, { signal }))
        await print(io, json === true ? JSON.stringify(event) : escapeLine(textOf(event)));
    }),
  );
}

async function logs(verb: Verb, id: string, { follow, stream, json }: Options): Promise<void> {
  const { io } = verb;
  const { print } = await import("../../ground/io.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { interruptible, withServer } = await import("../../verb.ts");
  const input = { id, ...given({ follow, stream }) };
  await withServer(verb, (api) =>
    interruptible(io, async (signal) => {
      // Exact bytes where a program reads, as with the output of a command.
      const shown = io.out.isTty ? escapeLine : (text: string) => text;
      for await (const { line } of await api.logs(input, { signal }))
        await print(io, json === true ? JSON.stringify({ line }) : shown(line));
    }),
  );
}
