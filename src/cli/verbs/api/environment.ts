/** `warren environment`: the variables that are read, of a home, of a server, and of whoever calls one. */
import type { Define, Verb } from "../../verb.ts";

const GROUPS = {
  home: "A home, and all that is done on it:",
  serving: "warren serve:",
  calling: "Commands that a server does:",
} as const;

const EXAMPLES = `
Examples:
  $ warren environment
  $ warren environment --json`;

export const defineEnvironment: Define = (program, verb) => {
  program
    .command("environment")
    .summary("the environment variables that are read")
    .description(
      "List the environment variables that are read, with what holds without them. Their values are not shown.",
    )
    .option("--json", "as JSON")
    .addHelpText("after", EXAMPLES)
    .action((options: { json?: boolean }) => environment(verb, options.json === true));
};

async function environment({ io }: Verb, isJson: boolean): Promise<void> {
  const { configHelp } = await import("../../../config.ts");
  const { print, printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const groups = (Object.keys(GROUPS) as (keyof typeof GROUPS)[]).map((of) => [of, configHelp(of)] as const);
  if (isJson) return printJson(io, Object.fromEntries(groups));
  for (const [of, rows] of groups) {
    await print(io, GROUPS[of]);
    await print(io, table(rows.map(({ name, fallback, says }) => [`  ${name}`, fallback ?? "-", says])));
  }
}
