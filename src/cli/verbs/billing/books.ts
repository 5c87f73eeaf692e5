/** `warren billing reconcile`, `settle` and `correct`: the books, for whoever runs the server. */
import type { Difference } from "../../../contract/routes/api/billing.ts";
import { EXIT } from "../../exits.ts";
import type { Define, Verb } from "../../verb.ts";
import type { RangeFlags } from "./ask.ts";

interface CorrectOptions {
  readonly quantity?: string;
  readonly reason: string;
  readonly json?: boolean;
}

export const defineBooks: Define = (billing, verb) => {
  billing
    .command("reconcile")
    .summary("compute usage again, and list every difference; for administrators")
    .description(
      "Compute usage again from the log of moves and from the kernel's process accounting, and list every difference. The exit code is 1 when there is any.",
    )
    .option("--from <when>", "a day of UTC, or an instant; default the beginning of last month")
    .option("--to <when>", "its end, which is not in it; default now")
    .option("--json", "as JSON, exact")
    .addHelpText(
      "after",
      "\nExamples:\n  $ warren billing reconcile\n  $ warren billing reconcile --from 2026-11-01 --json",
    )
    .action((options: RangeFlags) => reconcile(verb, options));
  billing
    .command("settle")
    .summary("settle the books now; for administrators")
    .description(
      "Do now what a server does by itself every minute: charge, close days, issue invoices. Harmless at any time.",
    )
    .option("--json", "as JSON")
    .addHelpText("after", "\nExamples:\n  $ warren billing settle")
    .action((options: { json?: boolean }) => settle(verb, options.json === true));
  billing
    .command("correct")
    .summary("take a ledger entry back; for administrators")
    .description("Take a ledger entry back by another one, and book a third in its place when a quantity is given.")
    .argument("<entry>", "number of the entry: `id` in billing.ledger")
    .option("--quantity <n>", "what it should have been, in the meter's unit; default nothing")
    .requiredOption("--reason <text>", "why; it stays with the entries")
    .option("--json", "as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ warren billing correct 4711 --reason 'the host was at fault'\n  $ warren billing correct 4711 --quantity 60000 --reason 'counted twice'",
    )
    .action((entry: string, options: CorrectOptions) => correct(verb, entry, options));
};

function rowOf({ account, sandbox, meter, against, booked, found, says }: Difference): string[] {
  return [account, sandbox, meter, against, booked, found, says];
}

async function reconcile(verb: Verb, { from, to, json }: RangeFlags): Promise<void> {
  const { io } = verb;
  const { given } = await import("../../arguments.ts");
  const { note, printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { asking } = await import("./ask.ts");
  const told = await asking(verb, (api, options) => api.reconcileBooks(given({ from, to }), options));
  const { sandboxes, differences } = told;
  if (differences.length > 0) verb.code = EXIT.verdict;
  if (json === true) return printJson(io, told);
  const head = ["ACCOUNT", "SANDBOX", "METER", "AGAINST", "BOOKED", "FOUND", "WHY"];
  if (differences.length > 0)
    await io.out.write(table([head, ...differences.map((one) => rowOf(one).map(escapeLine))]));
  await note(io, `warren: ${sandboxes} sandboxes, ${differences.length} differences`);
}

async function settle(verb: Verb, isJson: boolean): Promise<void> {
  const { print, printJson } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  const told = await asking(verb, (api, options) => api.settleBooks({}, options));
  if (isJson) return printJson(verb.io, told);
  const { cut, charged, closed, issued } = told;
  await print(verb.io, `${cut} cut, ${charged} charged, ${closed} days closed, ${issued} invoices issued`);
}

async function correct(verb: Verb, entry: string, { quantity, reason, json }: CorrectOptions): Promise<void> {
  const { given } = await import("../../arguments.ts");
  const { print, printJson } = await import("../../ground/io.ts");
  const { asking } = await import("./ask.ts");
  const told = await asking(verb, (api, options) => api.correct({ entry, reason, ...given({ quantity }) }, options));
  return json === true ? printJson(verb.io, told) : print(verb.io, told.entries.join(" "));
}
