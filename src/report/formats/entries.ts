/** What a report sums up, one by one: of any number, as they come. */
import type { UsageEntry } from "../../contract/routes/api/billing.ts";
import type { Cell, Column, Grid } from "./grid.ts";

const COLUMNS: readonly Column[] = [
  { name: "subject", kind: "text" },
  { name: "template", kind: "text" },
  { name: "meter", kind: "text" },
  { name: "from", kind: "text" },
  { name: "to", kind: "text" },
  { name: "quantity", kind: "whole" },
  { name: "amount", kind: "amount" },
  { name: "currency", kind: "text" },
  { name: "open", kind: "text" },
];

async function* cellsOf(entries: AsyncIterable<UsageEntry>): AsyncGenerator<readonly Cell[]> {
  for await (const { subject, template, meter, from, to, quantity, amount, currency, open } of entries)
    yield [subject, template, meter, from, to, quantity, amount, currency, String(open)];
}

export function entriesGrid(entries: AsyncIterable<UsageEntry>): Grid {
  return { columns: COLUMNS, rows: cellsOf(entries) };
}
