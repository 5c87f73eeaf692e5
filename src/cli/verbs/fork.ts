/** `warren fork`: a sandbox in several, memory and disk of one instant. */
import { LIMITS } from "../../limits.ts";
import { given, integer, seconds } from "../arguments.ts";
import type { Define, Verb } from "../verb.ts";

interface Options {
  readonly count: number;
  readonly ttl?: number;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren fork sb_abc
  $ for id in $(warren fork sb_abc -n 4 --ttl 10m); do warren exec $id 'python3 try.py' & done; wait
  $ warren fork sb_abc --json`;

export const defineFork: Define = (program, verb) => {
  program
    .command("fork")
    .summary("make a sandbox into several")
    .description(
      "Make children of a sandbox that have its memory, its processes and its disk of this instant, and print their ids. It goes on as it was. All children come to be, or none.",
    )
    .argument("<sandbox>", "its id")
    .option("-n, --count <n>", "how many children", integer(1, LIMITS.forkChildren), 1)
    .option(
      "--ttl <time>",
      "each ends itself after so long, for instance 90s or 2h; default: what the parent has",
      seconds,
    )
    .option("--json", "print all that is known of them")
    .addHelpText("after", EXAMPLES)
    .action((id: string, options: Options) => fork(verb, id, options));
};

async function fork(verb: Verb, id: string, { count, ttl: ttlSeconds, json }: Options): Promise<void> {
  const { io } = verb;
  const { bytes, duration } = await import("../text/format.ts");
  const { note, print, printJson } = await import("../ground/io.ts");
  const { interruptible, withHost } = await import("../verb.ts");
  const input = { id, count, ...given({ ttlSeconds }) };
  const made = await withHost(verb, false, (host) => interruptible(io, (signal) => host.fork(input, { signal })));
  if (json === true) return printJson(io, made);
  for (const child of made.children) await print(io, child.id);
  const shared = `${bytes(made.changedBytes)} of changed memory`;
  await note(io, `warren: the parent stood still for ${duration(made.pauseMs)}; it shares ${shared} with them`);
}
