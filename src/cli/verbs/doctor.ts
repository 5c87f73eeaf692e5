/** `warren doctor`: what this machine can do, what it lacks, and what to do about it. */
import type { Define, Verb } from "../verb.ts";

const EXAMPLES = `
Examples:
  $ warren doctor
  $ warren doctor --json | jq '.findings[] | select(.state != "ok")'`;

export const defineDoctor: Define = (program, verb) => {
  program
    .command("doctor")
    .summary("what this host can do, and what to do about the rest")
    .description(
      "Look at this host: rights, acceleration, file system, network, limits, memory, disk, templates, volumes.\nEnds with 1 when something is missing.",
    )
    .option("--json", "the same for programs")
    .addHelpText("after", EXAMPLES)
    .action(async (options: { json?: boolean }) => {
      verb.code = await doctor(verb, options.json === true);
    });
};

async function doctor({ io }: Verb, isJson: boolean): Promise<number> {
  const { escapeLine } = await import("../../base/escape.ts");
  const { EXIT } = await import("../exits.ts");
  const { table } = await import("../text/format.ts");
  const { printJson } = await import("../ground/io.ts");
  const { Progress } = await import("../text/progress.ts");
  const ground = await io.ground();
  const findings = await (async () => {
    await using _progress = new Progress(io, () => "warren: looking at this host");
    return await ground.examine();
  })();
  const isFine = findings.every((finding) => finding.state !== "missing");
  if (isJson) await printJson(io, { ok: isFine, home: ground.home, findings });
  else {
    await io.out.write(table(findings.map(({ name, state, says }) => [state, name, escapeLine(says)])));
    for (const { name, state, remedy } of findings) {
      if (state !== "ok" && remedy !== null) await io.out.write(`${name}: ${escapeLine(remedy)}\n`);
    }
  }
  return isFine ? EXIT.ok : EXIT.verdict;
}
