/** `warren billing export`: everything that reports sum up, one by one, of any range, as it comes. */
import { Option } from "commander";
import type { UsageEntry } from "../../../contract/routes/api/billing.ts";
import type { Define, Verb } from "../../verb.ts";
import { type RangeFlags, rangeOptions } from "./ask.ts";

type Format = "csv" | "json" | "parquet";

interface Options extends RangeFlags {
  readonly format?: Format;
  readonly out?: string;
}

const EXAMPLES = `
Examples:
  $ warren billing export --from 2026-11-01 --to 2026-12-01 --out november.csv
  $ warren billing export --format parquet --out month.parquet
  $ warren billing export --json | jq -r .amount

One row for each stretch of time of each sandbox, snapshot, volume and so on, by meter, within a day of UTC and the range:
amounts add up to the report's total, exactly. What goes on is in it as far as it was seen alive (\`open\`).`;

export const defineExport: Define = (billing, verb) => {
  const command = billing
    .command("export")
    .summary("raw usage rows, to a file or another program")
    .description("Write every stretch of usage in a range, oldest first, as CSV, JSON lines or Parquet.");
  rangeOptions(command)
    .addOption(new Option("--format <format>", "default csv").choices(["csv", "json", "parquet"]))
    .option("--json", "the same as --format json: one object a line")
    .option("--out <file>", "write it there, whole or not at all; default stdout")
    .addHelpText("after", EXAMPLES)
    .action((options: Options, of) => {
      const { json, format = json === true ? "json" : "csv" } = options;
      if (json === true && format !== "json") of.error("error: --json or --format, not both");
      return exported(verb, format, options);
    });
};

async function exported(verb: Verb, format: Format, { from, to, account, out }: Options): Promise<void> {
  const { io } = verb;
  const { given } = await import("../../arguments.ts");
  const { asking } = await import("./ask.ts");
  const { deliver } = await import("./deliver.ts");
  const form = format === "csv" ? "csv" : "jsonl";
  await asking(verb, async (api, options) => {
    const body = await api.usageEntries({ format: form, ...given({ from, to, account }) }, options);
    await deliver(io, out, format === "parquet" ? parquetOf(body) : body, format === "parquet");
  });
}

async function* linesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}

async function* entriesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<UsageEntry> {
  const { parse } = await import("../../../contract/parse.ts");
  const billing = await import("../../../contract/routes/api/billing.ts");
  for await (const line of linesOf(body)) yield parse(billing.UsageEntry, JSON.parse(line));
}

async function* parquetOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { parquetPieces } = await import("../../../report/formats/parquet.ts");
  const { entriesGrid } = await import("../../../report/formats/entries.ts");
  yield* parquetPieces(entriesGrid(entriesOf(body)));
}
