/** `warren keep-network`: what other verbs start on their own, in the foreground. */
import type { Define, Verb } from "../verb.ts";

const EXAMPLES = `
Examples:
  $ warren keep-network`;

export const defineKeep: Define = (program, verb) => {
  program
    .command("keep-network", { hidden: true })
    .summary("keep the network of detached sandboxes")
    .description(
      "Answer names, and set secrets, for the home's detached sandboxes. It is started when it is needed, ends when it is not, and at once when another one is there.",
    )
    .addHelpText("after", EXAMPLES)
    .action(() => keep(verb));
};

/** Without the ground of other verbs, which would be most of its memory. */
async function keep({ io }: Verb): Promise<void> {
  const { readConfig } = await import("../../config.ts");
  const { createLog } = await import("../../base/log.ts");
  const { egressSettings } = await import("../../keeper/settings.ts");
  const { keepNetworks } = await import("../../keeper/process.ts");
  const { interruptible } = await import("../verb.ts");
  const config = readConfig();
  const egress = await egressSettings(config);
  const { clock } = io;
  await interruptible(io, (signal) =>
    keepNetworks({ home: config.home, clock, log: createLog(config.log), signal }, egress),
  );
}
