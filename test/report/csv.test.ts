/** Reports as CSV: what a strict reader gets back, and what a spreadsheet would take for a formula. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { csv } from "../../src/report/formats/csv.ts";
import { type Cell, type Column, type Grid, invoiceGrid, usageGrid } from "../../src/report/formats/grid.ts";
import { invoice, usage } from "./samples.ts";

interface Field {
  readonly value: string;
  readonly quoted: boolean;
}

/** RFC 4180, by the letter and nothing else: a field in quotes or a plain one, and then a comma or a line's end. */
function parsed(text: string): Field[][] {
  const rows: Field[][] = [[]];
  const field = /("(?:[^"]|"")*"|[^",\r\n]*)(,|\r\n)/y;
  while (field.lastIndex < text.length) {
    const at = field.lastIndex;
    const [, written = "", end] = field.exec(text) ?? [];
    if (end === undefined) throw new Error(`not CSV at ${at}: ${text.slice(at, at + 40)}`);
    const quoted = written.startsWith('"');
    rows.at(-1)?.push({ value: quoted ? written.slice(1, -1).replaceAll('""', '"') : written, quoted });
    if (end !== ",") rows.push([]);
  }
  return rows.slice(0, -1);
}

/** What a reader that knows of the apostrophe makes of a field; null: there was none. */
function understood({ value, quoted }: Field, plain: boolean): Cell {
  const text = !plain && /^'+[=+\-@\t\r\n＝＋－＠]/.test(value) ? value.slice(1) : value;
  return text === "" && !quoted ? null : text;
}

async function whole(grid: Grid): Promise<string> {
  let text = "";
  for await (const line of csv(grid)) text += line;
  return text;
}

const STARTS_FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;
const COLUMNS: readonly Column[] = [
  { name: "label", kind: "text" },
  { name: "=cmd|' /C calc'!A0", kind: "text" },
  { name: "count", kind: "whole" },
  { name: "amount", kind: "amount" },
];
const hostile = fc.oneof(
  fc.string({ unit: "binary" }).map((text) => text.toWellFormed()),
  fc.string({ unit: fc.constantFrom("=", "+", "-", "@", "\t", "\r", "\n", "'", '"', ",", ";", " ", "1", "a", "＝") }),
);
const numeric = fc.oneof(fc.constantFrom("-1.5", "0", "-0.000", "12345678901234567890.1"), hostile);

describe("csv", () => {
  test("csv gives back every text, and no cell starts a formula but a plain number in a column of numbers", async () => {
    const rows = fc.array(fc.tuple(fc.option(hostile), hostile, numeric, numeric), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(rows, async (cells) => {
        const [header, ...lines] = parsed(await whole({ columns: COLUMNS, rows: cells as Cell[][] }));
        expect(header?.length).toBe(4);
        expect(lines.length).toBe(cells.length);
        for (const [i, line] of lines.entries()) {
          for (const [j, field] of line.entries()) {
            const plain = j >= 2 && /^-?\d+(\.\d+)?$/.test(field.value);
            expect(plain || !STARTS_FORMULA.test(field.value)).toBe(true);
            expect(understood(field, plain)).toBe(cells[i]?.[j] ?? null);
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("csv leaves numbers as numbers in columns of numbers alone", async () => {
    const text = await whole({ columns: COLUMNS, rows: [["-1.5", "=1+1", "-3", "-1.5"]] });
    expect(text.split("\r\n")[1]).toBe("'-1.5,'=1+1,-3,-1.5");
  });

  test("csv names its columns by the report, and ends every line with CR LF", async () => {
    expect(await whole(usageGrid(usage))).toBe(
      [
        "day,metadata.team,vcpu_ms,memory_mib_ms,amount,currency",
        "2026-03-28,ingest,3600000,9999999999,0.036123456789,USD",
        '2026-03-29,"日本, ""語""",36000000,9999999999,12.36,USD',
        "2026-03-30,,1,9999999999,-4.5,USD",
        "",
      ].join("\r\n"),
    );
  });

  test("csv of an invoice has its lines, exact", async () => {
    const rows = parsed(await whole(invoiceGrid(invoice(3))));
    expect(rows[0]?.map(({ value }) => value).join()).toBe(
      "invoice,account,month,kind,meter,description,quantity,unit,price,amount,currency",
    );
    expect(rows.length).toBe(1 + invoice(3).lines.length);
    expect(rows.at(-1)?.map(({ value }) => value)).toContain("-4.50");
  });

  test("csv takes one row at a time from where they come", async () => {
    let given = 0;
    async function* rows(): AsyncGenerator<readonly Cell[]> {
      for (; given < 1000; given += 1) yield ["a", "b", "1", "2"];
    }
    const lines = csv({ columns: COLUMNS, rows: rows() });
    await lines.next();
    expect(given).toBe(0);
    await lines.next();
    expect(given).toBe(0);
    await lines.next();
    expect(given).toBe(1);
  });
});
