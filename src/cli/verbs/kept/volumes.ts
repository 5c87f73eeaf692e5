/** `warren volumes`: disks that outlive sandboxes. */
import { volumeSize } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";

interface Json {
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren volumes create data --size 10g
  $ warren create --volume data:/workspace
  $ warren volumes ls
  $ warren volumes resize data --size 20g
  $ warren volumes rm data`;

const SIZE = ["--size <mib>", "what it may hold, for instance 512 or 10g"] as const;

export const defineVolumes: Define = (program, verb) => {
  const volumes = program
    .command("volumes")
    .summary("list, make, enlarge and delete volumes")
    .description("Disks with a name that outlive sandboxes: one sandbox writes a volume, or any number read it.")
    .addHelpText("after", EXAMPLES);
  volumes
    .command("ls")
    .description("List volumes, what they take on this disk, and which sandboxes have them.")
    .option("--json", "all that is known of them")
    .action((options: Json) => list(verb, options.json === true));
  volumes
    .command("create")
    .description("Make an empty volume. It takes space as it is written.")
    .argument("<name>")
    .requiredOption(...SIZE, volumeSize)
    .option("--json", "print all that is known of it")
    .action((name: string, options: Json & { size: number }) => size(verb, "createVolume", name, options));
  volumes
    .command("resize")
    .description("Make a volume larger, also while it is in use.")
    .argument("<name>")
    .requiredOption(...SIZE, volumeSize)
    .option("--json", "print all that is known of it")
    .action((name: string, options: Json & { size: number }) => size(verb, "resizeVolume", name, options));
  volumes
    .command("rm")
    .description("Delete volumes and all in them; refused while a sandbox has one.")
    .argument("<names...>")
    .action((names: string[]) => remove(verb, names));
};

async function list(verb: Verb, isJson: boolean): Promise<void> {
  const { io } = verb;
  const { bytes, table } = await import("../../text/format.ts");
  const { printJson } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  const all = await withHost(verb, false, (host) => host.volumes({}));
  if (isJson) return printJson(io, all);
  const rows = all.map(({ name, sizeMb, usedBytes, createdAt, attachedTo }) => {
    const by = attachedTo.length === 0 ? "-" : attachedTo.join(" ");
    return [name, bytes(sizeMb * 2 ** 20), bytes(usedBytes), createdAt.slice(0, 19), by];
  });
  await io.out.write(table([["NAME", "SIZE", "USED", "CREATED", "ATTACHED TO"], ...rows]));
}

async function size(
  verb: Verb,
  call: "createVolume" | "resizeVolume",
  name: string,
  options: Json & { readonly size: number },
): Promise<void> {
  const { io } = verb;
  const { print, printJson } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  const info = await withHost(verb, false, (host) => host[call]({ name, sizeMb: options.size }));
  if (options.json === true) await printJson(io, info);
  else await print(io, info.name);
}

async function remove(verb: Verb, names: readonly string[]): Promise<void> {
  const { io } = verb;
  const { print } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  await withHost(verb, false, async (host) => {
    for (const name of names) {
      await host.removeVolume({ name });
      await print(io, name);
    }
  });
}
