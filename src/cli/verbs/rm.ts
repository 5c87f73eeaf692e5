/** `warren rm`: the end of sandboxes. */
import type { Define, Verb } from "../verb.ts";

interface Options {
  readonly all?: boolean;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren rm sb_abc sb_def
  $ warren rm --all`;

export const defineRm: Define = (program, verb) => {
  program
    .command("rm")
    .summary("end sandboxes")
    .description("End sandboxes and free all they hold. Ending one that has ended is no error.")
    .argument("[sandboxes...]", "their ids")
    .option("-a, --all", "every detached sandbox")
    .option("--json", "print what was ended")
    .addHelpText("after", EXAMPLES)
    .action(async (ids: string[], options: Options, command) => {
      if ((ids.length === 0) === (options.all !== true)) command.error("error: give ids, or --all");
      verb.code = await remove(verb, ids, options);
    });
};

async function remove(verb: Verb, ids: string[], options: Options): Promise<number> {
  const { io } = verb;
  const { reportOf } = await import("../text/report.ts");
  const { exitCodeOf } = await import("../exits.ts");
  const { print, printJson } = await import("../ground/io.ts");
  const { withHost } = await import("../verb.ts");
  return withHost(verb, false, async (host) => {
    const detached = async () => (await host.list({})).filter((info) => info.detached).map((info) => info.id);
    const ended: string[] = [];
    let code = 0;
    for (const id of options.all === true ? await detached() : ids) {
      try {
        await host.close({ id });
        ended.push(id);
        if (options.json !== true) await print(io, id);
      } catch (error) {
        // The others are ended all the same; the first failure decides the exit code.
        await io.err.write(reportOf(error, false));
        code = code === 0 ? exitCodeOf(error) : code;
      }
    }
    if (options.json === true) await printJson(io, { ended });
    return code;
  });
}
