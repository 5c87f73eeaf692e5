/** `warren clean`: this machine as it was before. */
import type { Define, Verb } from "../verb.ts";

interface Options {
  readonly yes?: boolean;
  readonly force?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren clean
  $ warren clean --yes --force`;

export const defineClean: Define = (program, verb) => {
  program
    .command("clean")
    .summary("remove everything Warren made on this machine")
    .description(
      "Remove everything that Warren made on this machine: templates, volumes with all in them, images, mounts, control groups, its home.",
    )
    .option("-y, --yes", "do not ask")
    .option("-f, --force", "end sandboxes that live, in place of refusing")
    .addHelpText("after", EXAMPLES)
    .action(async (options: Options) => {
      verb.code = await clean(verb, options);
    });
};

async function clean({ io }: Verb, options: Options): Promise<number> {
  const { WarrenError } = await import("../../errors.ts");
  const { escapeLine } = await import("../../base/escape.ts");
  const { EXIT } = await import("../exits.ts");
  const { note, print } = await import("../ground/io.ts");
  const ground = await io.ground();
  if (options.yes !== true) {
    if (!io.input.isTty) {
      throw new WarrenError("invalid_request", "clean removes everything under WARREN_HOME: confirm with --yes");
    }
    await io.err.write(`Remove everything that Warren made, ${escapeLine(ground.home)} with all in it? [y/N] `);
    if (!(await isYes(io.input.bytes()))) {
      await note(io, "warren: nothing was removed");
      return EXIT.usage;
    }
  }
  const { killed, home } = await ground.clean({ force: options.force === true });
  const ended = killed === 0 ? "" : `; ${killed} sandbox${killed === 1 ? "" : "es"} ended`;
  await print(io, `${escapeLine(home)} is gone${ended}`);
  return EXIT.ok;
}

async function isYes(input: AsyncIterable<Uint8Array>): Promise<boolean> {
  let text = "";
  for await (const chunk of input) {
    text += new TextDecoder().decode(chunk);
    if (text.includes("\n")) break;
  }
  return /^y(es)?$/i.test(text.trim());
}
