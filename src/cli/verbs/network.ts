/** `warren network`: what may leave a sandbox, what it has used and tried, and changing it while it runs. */
import type { NetworkEvent, NetworkInfo } from "../../contract/routes/network.ts";
import { type EgressFlags, egressOf, egressOptions, egressText } from "../egress.ts";
import { bytes, table } from "../text/format.ts";
import type { Define, Verb } from "../verb.ts";

interface Options extends EgressFlags {
  readonly log?: boolean;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren network sb_abc
  $ warren network sb_abc --log
  $ warren network sb_abc --egress none
  $ warren network sb_abc --allow pypi.org --allow '*.pythonhosted.org:443'

A new policy replaces the old one at once, for open connections too.`;

export const defineNetwork: Define = (program, verb) => {
  const command = program
    .command("network")
    .summary("what may leave a sandbox, and what did")
    .description("Show a sandbox's egress policy and what it has used; with a policy, replace it.")
    .argument("<sandbox>", "its id")
    .option("--log", "what it tried to reach, oldest first")
    .option("--json", "print all that is known");
  egressOptions(command, "without it nothing is changed")
    .addHelpText("after", EXAMPLES)
    .action((id: string, options: Options) => network(verb, id, options));
};

async function network(verb: Verb, id: string, options: Options): Promise<void> {
  const { io } = verb;
  const { print, printJson } = await import("../ground/io.ts");
  const { withHost } = await import("../verb.ts");
  const egress = egressOf(options, "open");
  await withHost(verb, false, async (host) => {
    const info = egress === null ? await host.network({ id }) : await host.setNetwork({ id, egress });
    const log = options.log === true ? await host.networkLog({ id }) : null;
    if (options.json === true) return printJson(io, log === null ? info : { ...info, log });
    await print(io, infoText(info));
    if (log === null) return;
    await print(io, table(log.events.map(rowOf)).trimEnd());
    if (log.lost > 0) await print(io, `${log.lost} rows were not kept`);
  });
}

function infoText({ egress, secretHosts, usage, degraded }: NetworkInfo): string {
  const rows = [["egress", egressText(egress)]];
  if (secretHosts.length > 0) rows.push(["secrets for", secretHosts.join(" ")]);
  if (degraded !== null) rows.push(["none here", degraded]);
  if (usage !== null) {
    rows.push(["out", bytes(usage.bytesOut)], ["in", bytes(usage.bytesIn)]);
    rows.push(["connections", String(usage.connections)], ["refused", `${usage.refused} packets`]);
  }
  return table(rows).trimEnd();
}

function rowOf({ at, kind, name, address, port, protocol, verdict, reason }: NetworkEvent): string[] {
  const where = address === null ? "" : `${address}${port === null || port === 0 ? "" : ` port ${port}`}`;
  return [at, verdict, kind, protocol, name ?? "", where, reason ?? ""];
}
