/** `warren pause`, `resume`, `hibernate` and `wake`: sandboxes that stand still, in memory or on disk, and go on. */
import type { SandboxHost } from "../../contract/routes.ts";
import type { Define, Verb } from "../verb.ts";

interface Options {
  readonly json?: boolean;
}

interface Way {
  readonly name: "pause" | "resume" | "hibernate" | "wake";
  readonly summary: string;
  readonly description: string;
  /** What the ids stand under in JSON. */
  readonly done: string;
  readonly examples: readonly string[];
}

const WAYS: readonly Way[] = [
  {
    name: "pause",
    summary: "let sandboxes stand still, in memory",
    description:
      "Stop sandboxes where they stand. Memory stays, no vCPU is used, and their time runs on. Pausing one twice is no error.",
    done: "paused",
    examples: ["warren pause sb_abc", "warren resume sb_abc"],
  },
  {
    name: "resume",
    summary: "let paused sandboxes go on",
    description: "Let paused sandboxes go on. Resuming one that runs is no error.",
    done: "resumed",
    examples: ["warren resume sb_abc sb_def", "warren resume $(warren ls -q --state paused)"],
  },
  {
    name: "hibernate",
    summary: "keep sandboxes on disk alone",
    description:
      "Keep sandboxes on disk alone, without memory and without a vCPU; their time runs on. Any later call wakes one. Doing so twice is no error.",
    done: "hibernated",
    examples: ["warren hibernate sb_abc", "warren exec sb_abc date   # wakes it"],
  },
  {
    name: "wake",
    summary: "bring hibernated sandboxes back",
    description: "Bring hibernated sandboxes back where they stood. Waking one that runs is no error.",
    done: "woken",
    examples: ["warren wake sb_abc", "warren wake $(warren ls -q --state hibernated)"],
  },
];

export const defineStanding: Define = (program, verb) => {
  for (const way of WAYS) {
    program
      .command(way.name)
      .summary(way.summary)
      .description(way.description)
      .argument("<sandboxes...>", "their ids")
      .option("--json", "print which it was done to")
      .addHelpText("after", `\nExamples:\n${way.examples.map((line) => `  $ ${line}`).join("\n")}`)
      .action(async (ids: string[], options: Options) => {
        verb.code = await eachOf(verb, way, ids, options.json === true);
      });
  }
};

async function eachOf(verb: Verb, { name, done }: Way, ids: readonly string[], isJson: boolean): Promise<number> {
  const { io } = verb;
  const { reportOf } = await import("../text/report.ts");
  const { exitCodeOf } = await import("../exits.ts");
  const { print, printJson } = await import("../ground/io.ts");
  const { interruptible, withHost } = await import("../verb.ts");
  const all: string[] = [];
  let code = 0;
  const each = async (host: SandboxHost, signal: AbortSignal): Promise<void> => {
    for (const id of ids) {
      signal.throwIfAborted(); // the one under way is not left halfway
      try {
        await host[name]({ id }, { signal });
        all.push(id);
        if (!isJson) await print(io, id);
      } catch (error) {
        signal.throwIfAborted();
        // The others have their turn all the same; the first failure decides the exit code.
        await io.err.write(reportOf(error, false));
        code = code === 0 ? exitCodeOf(error) : code;
      }
    }
  };
  try {
    await withHost(verb, false, (host) => interruptible(io, (signal) => each(host, signal)));
  } finally {
    if (isJson) await printJson(io, { [done]: all });
  }
  return code;
}
