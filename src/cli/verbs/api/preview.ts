/** `warren preview`: a URL by which others reach a port of a sandbox, for a time. */
import { given, integer, seconds } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";

interface Options {
  readonly ttl?: number;
  readonly path?: readonly string[];
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren preview sb_abc 8000
  $ warren preview sb_abc 8000 --ttl 10m --path /report.html --path '/static/*'`;

export const definePreview: Define = (program, verb) => {
  program
    .command("preview")
    .summary("make a URL by which others reach a port of a sandbox, on a server")
    .description("Make a URL by which anyone who has it reaches a port of a sandbox, for a time, and print it.")
    .argument("<sandbox>", "its id")
    .argument("<port>", "the port that a program in it listens on", integer(1, 65_535))
    .option("--ttl <time>", "it ends after so long, for instance 10m or 2h; default one hour", seconds)
    .option(
      "--path <path>",
      "only this path, or all below /one/*; may be repeated",
      (text: string, before?: string[]) => [...(before ?? []), text],
    )
    .option("--json", "as JSON")
    .addHelpText("after", EXAMPLES)
    .action((id: string, port: number, options: Options) => preview(verb, id, port, options));
};

async function preview(verb: Verb, id: string, port: number, { ttl, path, json }: Options): Promise<void> {
  const { io } = verb;
  const { note, print, printJson } = await import("../../ground/io.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { withServer } = await import("../../verb.ts");
  const ttlSeconds = ttl === undefined ? undefined : Math.ceil(ttl);
  const input = { id, port, ...given({ ttlSeconds, paths: path === undefined ? undefined : [...path] }) };
  const made = await withServer(verb, (api) => api.previewToken(input));
  if (json === true) return printJson(io, made);
  await print(io, escapeLine(made.url));
  await note(
    io,
    `warren: whoever has it reaches port ${port} of ${escapeLine(id)} until ${escapeLine(made.expiresAt)}`,
  );
}
