/** `warren snapshots`: sandboxes of one instant, kept on disk. */
import type { Define, Verb } from "../verb.ts";

interface ListOptions {
  readonly sandbox?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren snapshots ls
  $ warren create --snapshot installed
  $ warren snapshots promote installed my-tools
  $ warren snapshots rm installed`;

export const defineSnapshots: Define = (program, verb) => {
  const snapshots = program
    .command("snapshots")
    .summary("list and delete snapshots, or make templates of them")
    .description("Memory and disk of a sandbox at one instant. A program takes them with `sandbox.snapshot()`.")
    .addHelpText("after", EXAMPLES);
  snapshots
    .command("ls")
    .description("List snapshots, newest first. DISK and MEMORY are what only they have.")
    .option("--sandbox <id>", "only those of this sandbox")
    .option("-q, --quiet", "only their ids")
    .option("--json", "all that is known of them")
    .action((options: ListOptions) => list(verb, options));
  snapshots
    .command("promote")
    .description("Make a template of a snapshot. It stays when the snapshot is deleted.")
    .argument("<snapshot>", "its id or name")
    .argument("<template>", "the new template's name")
    .action((id: string, name: string) => promote(verb, id, name));
  snapshots
    .command("rm")
    .description("Delete snapshots; refused while a sandbox that was restored from one runs.")
    .argument("<snapshots...>", "their ids or names")
    .action((ids: string[]) => remove(verb, ids));
};

async function list({ io }: Verb, { sandbox, json, quiet }: ListOptions): Promise<void> {
  const { given } = await import("../arguments.ts");
  const { escapeLine } = await import("../text/escape.ts");
  const { bytes, table } = await import("../text/format.ts");
  const { print, printJson } = await import("../ground/io.ts");
  const { withHost } = await import("../verb.ts");
  const all = await withHost(io, false, (host) => host.snapshots(given({ sandboxId: sandbox })));
  if (json === true) return printJson(io, all);
  if (quiet === true) {
    for (const { id } of all) await print(io, id);
    return;
  }
  const rows = all.map(({ id, name, sandboxId, template, cpu, memoryMb, memoryBytes, diskBytes, createdAt }) => {
    const size = `${cpu} vCPU, ${memoryMb} MiB`;
    const own = [bytes(memoryBytes), bytes(diskBytes)];
    return [id, escapeLine(name ?? "-"), template, size, ...own, createdAt.slice(0, 19), sandboxId];
  });
  await io.out.write(table([["ID", "NAME", "TEMPLATE", "SIZE", "MEMORY", "DISK", "TAKEN", "OF"], ...rows]));
}

async function promote({ io }: Verb, id: string, name: string): Promise<void> {
  const { print } = await import("../ground/io.ts");
  const { withHost } = await import("../verb.ts");
  await withHost(io, false, (host) => host.promoteSnapshot({ id, name }));
  await print(io, name);
}

async function remove({ io }: Verb, ids: string[]): Promise<void> {
  const { print } = await import("../ground/io.ts");
  const { withHost } = await import("../verb.ts");
  await withHost(io, false, async (host) => {
    for (const id of ids) {
      await host.removeSnapshot({ id });
      await print(io, id);
    }
  });
}
