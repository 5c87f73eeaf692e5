/** `warren bench`: the measurements, where the checkout has them. */
import type { Define, Verb } from "../verb.ts";

const EXAMPLES = `
Examples:
  $ warren bench
  $ warren bench --help`;

export const defineBench: Define = (program, verb) => {
  program
    .command("bench")
    .summary("measure this host")
    .description(
      "Measure creates, commands, memory and batches on this host. Needs a checkout: packages hold no benchmarks.",
    )
    .argument("[args...]", "passed on")
    .allowUnknownOption()
    .helpOption(false)
    .passThroughOptions()
    .addHelpText("after", EXAMPLES)
    .action(async (args: string[]) => {
      verb.code = await bench(verb, args);
    });
};

async function bench({ io }: Verb, args: string[]): Promise<number> {
  const { existsSync } = await import("node:fs");
  const { join } = await import("node:path");
  const { WarrenError } = await import("../../errors.ts");
  const path = join(io.root, "test/bench/run.ts");
  if (!existsSync(path)) {
    throw new WarrenError(
      "unsupported",
      "there are no benchmarks here: `warren bench` needs a checkout of the project",
    );
  }
  // Ctrl-C reaches the script by itself, which then decides when this ends.
  const giveBack = io.onInterrupt(() => undefined);
  try {
    return await (await io.ground()).runScript(path, args);
  } finally {
    giveBack();
  }
}
