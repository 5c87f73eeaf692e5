/** `warren snapshot` and `warren snapshots`: sandboxes of one instant, kept on disk. */
import { given, pairs } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";

interface ListOptions {
  readonly sandbox?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

interface TakeOptions {
  readonly name?: string;
  readonly metadata?: Record<string, string>;
  readonly json?: boolean;
}

const TAKE_EXAMPLES = `
Examples:
  $ warren snapshot sb_abc --name installed
  $ warren create --snapshot installed`;

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
    .description(
      "Memory and disk of sandboxes at one instant, as `warren snapshot` and `sandbox.snapshot()` keep them.",
    )
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

export const defineSnapshot: Define = (program, verb) => {
  program
    .command("snapshot")
    .summary("keep a sandbox's memory and disk of this instant")
    .description(
      "Keep a sandbox's memory and disk of this instant on disk, and print the snapshot's id. It goes on running.",
    )
    .argument("<sandbox>", "its id")
    .option("-n, --name <name>", "finds it again; of several with one name the newest is meant")
    .option("--metadata <name=value>", "something to know it by; may be repeated", pairs)
    .option("--json", "print all that is known of it")
    .addHelpText("after", TAKE_EXAMPLES)
    .action((id: string, options: TakeOptions) => take(verb, id, options));
};

async function take(verb: Verb, id: string, { name, metadata, json }: TakeOptions): Promise<void> {
  const { io } = verb;
  const { print, printJson } = await import("../../ground/io.ts");
  const { interruptible, withHost } = await import("../../verb.ts");
  const input = { id, ...given({ name, metadata }) };
  const info = await withHost(verb, false, (host) => interruptible(io, (signal) => host.snapshot(input, { signal })));
  if (json === true) return printJson(io, info);
  await print(io, info.id);
}

async function list(verb: Verb, { sandbox, json, quiet }: ListOptions): Promise<void> {
  const { io } = verb;
  const { escapeLine } = await import("../../../base/escape.ts");
  const { bytes, table } = await import("../../text/format.ts");
  const { print, printJson } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  const all = await withHost(verb, false, (host) => host.snapshots(given({ sandboxId: sandbox })));
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

async function promote(verb: Verb, id: string, name: string): Promise<void> {
  const { io } = verb;
  const { print } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  await withHost(verb, false, (host) => host.promoteSnapshot({ id, name }));
  await print(io, name);
}

async function remove(verb: Verb, ids: string[]): Promise<void> {
  const { io } = verb;
  const { print } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  await withHost(verb, false, async (host) => {
    for (const id of ids) {
      await host.removeSnapshot({ id });
      await print(io, id);
    }
  });
}
