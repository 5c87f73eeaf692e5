/** `warren ports`: what listens in a sandbox. */
import type { Define, Verb } from "../../verb.ts";

const EXAMPLES = `
Examples:
  $ warren ports sb_abc
  $ warren ports --json sb_abc
  $ warren port-forward sb_abc 8000      reach one of them from here`;

export const definePorts: Define = (program, verb) => {
  program
    .command("ports")
    .summary("list what listens in a sandbox")
    .description("List the TCP ports that programs in a sandbox listen on, lowest first. One that sleeps is woken.")
    .argument("<sandbox>", "its id")
    .option("--json", "as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (id: string, options: { readonly json?: boolean }) => {
      await ports(verb, id, options.json === true);
    });
};

async function ports(verb: Verb, id: string, isJson: boolean): Promise<void> {
  const { io } = verb;
  const { table } = await import("../../text/format.ts");
  const { note, printJson } = await import("../../ground/io.ts");
  const { interruptible, withHost } = await import("../../verb.ts");
  const found = await withHost(verb, false, (host) => interruptible(io, (signal) => host.ports({ id }, { signal })));
  if (isJson) return printJson(io, found);
  if (found.length === 0) return note(io, `warren: no program of sandbox ${id} listens on a TCP port`);
  const rows = found.map(({ port, address, protocol }) => [String(port), address, protocol]);
  await io.out.write(table([["PORT", "ADDRESS", "PROTOCOL"], ...rows]));
}
