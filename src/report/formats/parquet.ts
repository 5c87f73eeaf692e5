/**
 * Reports as Parquet. Whole numbers are DECIMAL(38, 0), amounts DECIMAL(38, 18), each written from integers, never floats. An
 * amount may have more decimals than that: its exact text is in the column of the same name with `_exact` after it.
 */
import type { ColumnSource } from "hyparquet-writer";
import { WarrenError } from "../../errors.ts";
import { parseDecimal, unitsAt } from "../numbers/decimal.ts";
import type { Cell, Column, Grid } from "./grid.ts";

const PRECISION = 38;
export const AMOUNT_SCALE = 18;
/** 38 decimal digits and a sign fit in so many bytes. */
const DECIMAL_BYTES = 16;

function scaled(cell: Cell, { name, kind }: Column): bigint | null {
  if (cell === null) return null;
  const units = unitsAt(parseDecimal(cell), kind === "whole" ? 0 : AMOUNT_SCALE);
  const digits = units.toString().replace("-", "").length;
  if (digits <= PRECISION) return units;
  const says = `column ${name} holds a number of ${digits} digits; parquet's decimals have at most ${PRECISION}`;
  throw new WarrenError("invalid_request", `${says}: take csv or json`, { details: { column: name, got: cell } });
}

interface Leaf {
  readonly source: ColumnSource;
  readonly element: {
    name: string;
    type: "BYTE_ARRAY" | "FIXED_LEN_BYTE_ARRAY";
    converted_type: "UTF8" | "DECIMAL";
    repetition_type: "OPTIONAL";
    type_length?: number;
    precision?: number;
    scale?: number;
  };
}

function textLeaf(name: string, data: Cell[]): Leaf {
  const element = { name, type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "OPTIONAL" } as const;
  return { source: { name, data }, element };
}

function leaves(column: Column, data: Cell[]): Leaf[] {
  const { name, kind } = column;
  if (kind === "text") return [textLeaf(name, data)];
  const decimal: Leaf = {
    source: { name, data: data.map((cell) => scaled(cell, column)) },
    element: {
      ...{ name, type: "FIXED_LEN_BYTE_ARRAY", converted_type: "DECIMAL", repetition_type: "OPTIONAL" },
      ...{ type_length: DECIMAL_BYTES, precision: PRECISION, scale: kind === "whole" ? 0 : AMOUNT_SCALE },
    },
  };
  return kind === "whole" ? [decimal] : [decimal, textLeaf(`${name}_exact`, data)];
}

/**
 * The whole file, in memory.
 * @throws {WarrenError} `invalid_request` – a number has more than 38 digits.
 */
export async function parquet({ columns, rows }: Grid): Promise<Uint8Array> {
  // Loaded when it is wanted: few ask for this format.
  const { parquetWriteBuffer } = await import("hyparquet-writer");
  const data: Cell[][] = columns.map(() => []);
  for await (const row of rows) columns.forEach((_, i) => void data[i]?.push(row[i] ?? null));
  const all = columns.flatMap((column, i) => leaves(column, data[i] ?? []));
  const schema = [{ name: "root", num_children: all.length }, ...all.map(({ element }) => element)];
  return new Uint8Array(parquetWriteBuffer({ columnData: all.map(({ source }) => source), schema }));
}
