/**
 * Reports as CSV (RFC 4180): CRLF, UTF-8, quotes where they are needed. Row by row, so that a report of any size passes
 * through. No text can become a formula in a spreadsheet: a cell that would start one gets an apostrophe before it. Numbers in
 * columns of numbers stay numbers, negative ones too.
 */
import { isDecimal } from "../numbers/decimal.ts";
import type { Cell, Column, Grid } from "./grid.ts";

/**
 * What spreadsheets take for the beginning of a formula, their full-width forms included. A text that has apostrophes before
 * such a sign gets one more, so that taking away the first gives back exactly what was there.
 */
const FORMULA = /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const QUOTED = /[",\r\n]|^\s|\s$/;

function field(cell: Cell, { kind }: Column): string {
  if (cell === null) return "";
  if (kind !== "text" && isDecimal(cell)) return cell;
  const safe = FORMULA.test(cell) ? `'${cell}` : cell;
  // An empty text is not the same as none.
  return safe === "" || QUOTED.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function csvRow(cells: readonly Cell[], columns: readonly Column[]): string {
  return `${columns.map((column, i) => field(cells[i] ?? null, column)).join(",")}\r\n`;
}

/** The header first, then a line for each row, as they come. */
export async function* csv({ columns, rows }: Grid): AsyncGenerator<string, void, undefined> {
  const names = columns.map(({ name }) => name);
  yield csvRow(
    names,
    names.map((name) => ({ name, kind: "text" })),
  );
  for await (const row of rows) yield csvRow(row, columns);
}
