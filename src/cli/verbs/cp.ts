/** `warren cp`: files and directories into a sandbox and out of it. */
import type { Define, Verb } from "../verb.ts";

const EXAMPLES = `
Examples:
  $ warren cp data.csv sb_abc:/work/
  $ warren cp sb_abc:/work/chart.png .
  $ warren cp ./project sb_abc:/work/project
  $ warren cp sb_abc:/work/out ./out

A path SANDBOX:/PATH is in a sandbox, any other on this host; a copy has one of
each. What comes out of a sandbox is not trusted: names that leave the target,
links that lead out of it, and devices are refused.`;

export const defineCp: Define = (program, verb) => {
  program
    .command("cp")
    .summary("copy files into a sandbox or out of it")
    .description("Copy a file or a directory between this host and a sandbox.")
    .argument("<from>", "PATH or SANDBOX:/PATH")
    .argument("<to>", "PATH or SANDBOX:/PATH; a directory that exists receives the copy inside")
    .addHelpText("after", EXAMPLES)
    .action(async (from: string, to: string, _, command) => {
      const { endOf } = await import("../copy/ends.ts");
      const [source, target] = [endOf(from), endOf(to)];
      if ((source.sandbox === null) === (target.sandbox === null)) {
        command.error("error: one of the two is SANDBOX:/PATH, the other a path of this host");
      }
      await cp(verb, source, target);
    });
};

async function cp(
  verb: Verb,
  source: { readonly sandbox: string | null; readonly path: string },
  target: { readonly sandbox: string | null; readonly path: string },
): Promise<void> {
  const { io } = verb;
  const { copyIn } = await import("../copy/in.ts");
  const { copyOut } = await import("../copy/out.ts");
  const { note } = await import("../ground/io.ts");
  const { interruptible, withHost } = await import("../verb.ts");
  await withHost(verb, false, (host) =>
    interruptible(io, async (signal) => {
      if (target.sandbox !== null) return copyIn(host, source.path, target.sandbox, target.path, signal);
      const refused = await copyOut(host, source.sandbox ?? "", source.path, target.path, signal);
      for (const says of refused) await note(io, `warren: ${says}`);
    }),
  );
}
