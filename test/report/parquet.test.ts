/** Reports as Parquet, read back by another library: every number is what it was, to the last digit. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parquetMetadata, parquetReadObjects, parquetSchema } from "hyparquet";
import type { Cell, Grid } from "../../src/report/formats/grid.ts";
import { AMOUNT_SCALE, parquet, parquetPieces } from "../../src/report/formats/parquet.ts";
import { isDecimal, parseDecimal, unitsAt } from "../../src/report/numbers/decimal.ts";

const COLUMNS = [
  { name: "group", kind: "text" },
  { name: "vcpu_ms", kind: "whole" },
  { name: "amount", kind: "amount" },
] as const;

const buffer = (bytes: Uint8Array): ArrayBuffer => bytes.slice().buffer as ArrayBuffer;

/** The integer that a DECIMAL is stored as: the reader would make a float of it, so it is told that they are plain bytes. */
async function stored(bytes: Uint8Array): Promise<Record<string, unknown>[]> {
  const file = buffer(bytes);
  const metadata = parquetMetadata(file);
  for (const element of metadata.schema) {
    if (element.converted_type === "DECIMAL") {
      delete element.converted_type;
      delete element.logical_type;
    }
  }
  const rows = await parquetReadObjects({ file, metadata, utf8: false });
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, asInteger(value)])));
}

function asInteger(value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  const unsigned = BigInt(`0x${Buffer.from(value).toString("hex") || "0"}`);
  return BigInt.asIntN(value.length * 8, unsigned);
}

const digits = fc
  .integer({ min: 1, max: 20 })
  .chain((length) => fc.stringMatching(new RegExp(`^[1-9][0-9]{0,${length - 1}}$`)));
const whole = fc.tuple(fc.constantFrom("", "-"), digits).map(([sign, text]) => sign + text);
const amount = fc
  .tuple(whole, fc.option(fc.stringMatching(/^[0-9]{1,30}$/), { nil: undefined }))
  .map(([text, fraction]) => (fraction === undefined ? text : `${text}.${fraction}`));
const row: fc.Arbitrary<[Cell, Cell, Cell]> = fc.tuple(
  fc.option(fc.string({ unit: "grapheme" })),
  fc.option(whole),
  fc.option(amount),
);

describe("parquet", () => {
  test("parquet keeps every text, every digit and every null, whatever the rows are", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 30 }), async (rows) => {
        const bytes = await parquet({ columns: COLUMNS, rows });
        const read = await stored(bytes);
        expect(read.length).toBe(rows.length);
        for (const [i, [group, count, money]] of rows.entries()) {
          expect(read[i]?.["group"] ?? null).toBe(group);
          expect(read[i]?.["vcpu_ms"] ?? null).toBe(count === null ? null : BigInt(count));
          expect(read[i]?.["amount_exact"] ?? null).toBe(money);
          expect(read[i]?.["amount"] ?? null).toBe(money === null ? null : unitsAt(parseDecimal(money), AMOUNT_SCALE));
        }
      }),
      { numRuns: 100 },
    );
  });

  test("parquet says of each number how it is to be read", async () => {
    const bytes = await parquet({ columns: COLUMNS, rows: [["a", "12", "-0.5"]] });
    const leaves = parquetSchema(parquetMetadata(buffer(bytes))).children.map(({ element }) => element);
    expect(
      leaves.map(({ name, converted_type, precision, scale }) => [name, converted_type, precision, scale]),
    ).toEqual([
      ["group", "UTF8", undefined, undefined],
      ["vcpu_ms", "DECIMAL", 38, 0],
      ["amount", "DECIMAL", 38, 18],
      ["amount_exact", "UTF8", undefined, undefined],
    ]);
    expect(await parquetReadObjects({ file: buffer(bytes) })).toEqual([
      { group: "a", vcpu_ms: 12, amount: -0.5, amount_exact: "-0.5" },
    ]);
  });

  test("parquetPieces holds one group of rows at a time, and all are there in the end", async () => {
    let given = 0;
    let ahead = 0;
    let taken = 0;
    async function* rows(): AsyncGenerator<readonly Cell[]> {
      for (; given < 2500; given += 1) {
        ahead = Math.max(ahead, given - taken);
        yield [`g${given}`, String(given), "1"];
      }
    }
    const pieces: Uint8Array[] = [];
    for await (const piece of parquetPieces({ columns: COLUMNS, rows: rows() }, 1000)) {
      pieces.push(piece);
      taken = given;
    }
    expect(ahead).toBeLessThanOrEqual(1000);
    const file = buffer(new Uint8Array(Buffer.concat(pieces)));
    expect(parquetMetadata(file).row_groups.map(({ num_rows }) => Number(num_rows))).toEqual([1000, 1000, 500]);
    const read = await parquetReadObjects({ file });
    expect(read.map((one) => Number(one["vcpu_ms"]))).toEqual(Array.from({ length: 2500 }, (_, i) => i));
  });

  test("parquet of no rows is a file with columns", async () => {
    const bytes = await parquet({ columns: COLUMNS, rows: [] });
    expect(Number(parquetMetadata(buffer(bytes)).num_rows)).toBe(0);
    expect(parquetSchema(parquetMetadata(buffer(bytes))).children.length).toBe(4);
  });

  test("parquet refuses a number that its decimals cannot hold, and names the column", async () => {
    const grid: Grid = { columns: COLUMNS, rows: [["a", "9".repeat(39), "1"]] };
    await expect(parquet(grid)).rejects.toThrow(/vcpu_ms holds a number of 39 digits/);
    expect(isDecimal("9".repeat(39))).toBe(true);
  });
});
