/** `warren templates`: what sandboxes are restored from. */
import { LIMITS } from "../../../limits.ts";
import { given, integer, mib } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";

interface BakeOptions {
  readonly cpu?: number;
  readonly memory?: number;
  readonly force?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren templates ls
  $ warren templates bake code-interpreter
  $ warren templates bake base --memory 1g --cpu 2
  $ warren templates rm base`;

export const defineTemplates: Define = (program, verb) => {
  const templates = program
    .command("templates")
    .summary("list, build and delete templates")
    .description("What sandboxes are restored from. A size that is missing is built on first use, too.")
    .addHelpText("after", EXAMPLES);
  templates
    .command("ls")
    .description("List templates and the sizes that are ready.")
    .option("--json", "all that is known of them")
    .action((options: { json?: boolean }) => list(verb, options.json === true));
  templates
    .command("bake")
    .description("Build what is missing of a template.")
    .argument("<name>")
    .option("--cpu <n>", "vCPUs", integer(1, LIMITS.cpuMax))
    .option("--memory <mib>", "guest memory, for instance 512 or 2g", mib)
    .option("--force", "throw away what is there and build again")
    .action((name: string, options: BakeOptions) => bake(verb, name, options));
  templates
    .command("rm")
    .description("Delete templates' images and snapshots. Sandboxes that run keep what they have.")
    .argument("<names...>")
    .action((names: string[]) => remove(verb, names));
};

async function list(verb: Verb, isJson: boolean): Promise<void> {
  const { io } = verb;
  const { escapeLine } = await import("../../../base/escape.ts");
  const { bytes, table } = await import("../../text/format.ts");
  const { printJson } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  const all = await withHost(verb, false, (host) => host.templates({}));
  if (isJson) return printJson(io, all);
  const rows = all.flatMap(({ name, description, baked, diskBytes }) => {
    if (baked.length === 0) return [[name, "not baked", "-", "-", escapeLine(description)]];
    return baked.map(({ cpu, memoryMb, accel, sizeBytes }, i) => [
      i === 0 ? name : "",
      `${cpu} vCPU, ${memoryMb} MiB, ${accel}`,
      bytes(sizeBytes),
      i === 0 ? bytes(diskBytes) : "",
      i === 0 ? escapeLine(description) : "",
    ]);
  });
  await io.out.write(table([["NAME", "READY", "SNAPSHOT", "DISK", "WHAT IT HOLDS"], ...rows]));
}

async function bake(verb: Verb, name: string, options: BakeOptions): Promise<void> {
  const { io } = verb;
  const { showBake } = await import("../../bake-first.ts");
  const { note } = await import("../../ground/io.ts");
  const { interruptible, withHost } = await import("../../verb.ts");
  const { cpu, memory: memoryMb, force } = options;
  const steps = await withHost(verb, false, (host) =>
    interruptible(io, (signal) => showBake(io, host, name, given({ cpu, memoryMb, force }), signal)),
  );
  if (steps === 0) await note(io, `warren: ${name} was baked already; --force builds it again`);
}

async function remove(verb: Verb, names: string[]): Promise<void> {
  const { io } = verb;
  const { print } = await import("../../ground/io.ts");
  const { withHost } = await import("../../verb.ts");
  await withHost(verb, false, async (host) => {
    for (const name of names) {
      await host.removeTemplate({ name });
      await print(io, name);
    }
  });
}
