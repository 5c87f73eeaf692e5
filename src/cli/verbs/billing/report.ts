/** `warren billing report`: usage by day, sandbox, template or label, as a table with bars, or for other programs. */
import { Option } from "commander";
import type { UsageReport } from "../../../contract/routes/api/billing.ts";
import type { Define, Verb } from "../../verb.ts";
import { type RangeFlags, rangeOptions } from "./ask.ts";

type Format = "table" | "json" | "csv" | "parquet";

interface Options extends RangeFlags {
  readonly groupBy: string;
  readonly format?: Format;
  readonly out?: string;
  readonly chart?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren billing report
  $ warren billing report --from 2026-11-01 --to 2026-12-01 --group-by day,template --chart
  $ warren billing report --group-by metadata.team --format csv --out teams.csv
  $ warren billing report --group-by sandbox --format parquet --out sandboxes.parquet

A sandbox's labels are its metadata: \`warren create --metadata team=web\` is found by metadata.team.`;

export const defineReport: Define = (billing, verb) => {
  const command = billing
    .command("report")
    .summary("usage by day, sandbox, template or label")
    .description("Show usage in a range, one row for each day, sandbox, template or label, with what it costs.")
    .option("--group-by <names>", "up to three of day, sandbox, template, metadata.KEY, with commas between", "day");
  rangeOptions(command)
    .addOption(new Option("--format <format>", "default table").choices(["table", "json", "csv", "parquet"]))
    .option("--json", "the same as --format json")
    .option("--out <file>", "write it there, whole or not at all")
    .option("--chart", "bars below the table; default on a terminal")
    .option("--no-chart", "no bars")
    .addHelpText("after", EXAMPLES)
    .action((options: Options, of) => {
      const { json, format = json === true ? "json" : "table", chart } = options;
      if (json === true && format !== "json") of.error("error: --json or --format, not both");
      if (chart === true && format !== "table") of.error(`error: --chart goes with a table, not with ${format}`);
      return report(verb, format, options);
    });
};

async function report(verb: Verb, format: Format, { from, to, account, groupBy, out, chart }: Options): Promise<void> {
  const { io } = verb;
  const { given } = await import("../../arguments.ts");
  const { asking } = await import("./ask.ts");
  const { deliver, textPieces } = await import("./deliver.ts");
  const told = await asking(verb, (api, options) => api.usage({ groupBy, ...given({ from, to, account }) }, options));
  if (format === "parquet") return deliver(io, out, parquetOf(told), true);
  const isShown = out === undefined && io.out.isTty;
  const columns = isShown ? io.out.columns : 100;
  const text = {
    table: () => tableOf(told, { columns, isShown, chart: chart ?? isShown }),
    json: () => jsonOf(told),
    csv: () => csvOf(told),
  };
  return deliver(io, out, textPieces(text[format]()));
}

interface Shown {
  readonly columns: number;
  readonly isShown: boolean;
  readonly chart: boolean;
}

async function* tableOf(told: UsageReport, { columns, isShown, chart }: Shown): AsyncGenerator<string> {
  const { usageTable } = await import("../../../report/formats/table.ts");
  const { usageChart } = await import("../../../report/formats/chart.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  yield usageTable(told, isShown ? { columns } : {});
  if (chart && told.rows.length > 0) yield `\n${usageChart(told, { columns, colour: isShown })}`;
  yield `\n${escapeLine(`${told.from} to ${told.to}, days of ${told.timeZone}; seen until ${told.seenUntil}`)}\n`;
}

async function* jsonOf(told: UsageReport): AsyncGenerator<string> {
  yield (await import("../../../report/formats/json.ts")).json(told);
}

async function* csvOf(told: UsageReport): AsyncGenerator<string> {
  const { csv } = await import("../../../report/formats/csv.ts");
  const { usageGrid } = await import("../../../report/formats/grid.ts");
  yield* csv(usageGrid(told));
}

async function* parquetOf(told: UsageReport): AsyncGenerator<Uint8Array> {
  const { parquet } = await import("../../../report/formats/parquet.ts");
  const { usageGrid } = await import("../../../report/formats/grid.ts");
  yield await parquet(usageGrid(told));
}
