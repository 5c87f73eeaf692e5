/** `warren billing`: what an account has used, what that costs and was billed; and the books, for whoever runs the server. */
import type { Define } from "../../verb.ts";
import { defineBooks } from "./books.ts";
import { defineExport } from "./export.ts";
import { defineInvoice } from "./invoice.ts";
import { definePrices } from "./prices.ts";
import { defineReport } from "./report.ts";
import { defineSinks } from "./sinks.ts";
import { defineUsage } from "./usage.ts";

const EXAMPLES = `
Examples:
  $ warren billing usage
  $ warren billing report --from 2026-11-01 --group-by day,template --chart
  $ warren billing report --group-by metadata.team --format csv --out november.csv
  $ warren billing export --from 2026-11-01 --to 2026-12-01 --format parquet --out november.parquet
  $ warren billing invoice 2026-11-0001 --pdf invoice.pdf
  $ warren billing prices

Days begin at midnight in the account's time zone (\`warren accounts update ACCOUNT --time-zone Europe/Berlin\`);
days and months of prices and invoices are of UTC.`;

export const defineBilling: Define = (program, verb) => {
  const billing = program
    .command("billing")
    .summary("usage, prices and invoices of an account, on a server")
    .description("What this account has used, what that costs, and what was billed.")
    .addHelpText("after", EXAMPLES);
  for (const define of [
    ...[defineUsage, defineReport, defineExport, defineInvoice],
    ...[definePrices, defineBooks, defineSinks],
  ])
    define(billing, verb);
};
