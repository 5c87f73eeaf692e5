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

/** Rows of one group: what is held at a time. */
const GROUP_ROWS = 50_000;

/**
 * The file in pieces, one for each group of rows and one for its end: reports of any size pass through.
 * @throws {WarrenError} `invalid_request` – a number has more than 38 digits.
 */
export async function* parquetPieces({ columns, rows }: Grid, groupRows = GROUP_ROWS): AsyncGenerator<Uint8Array> {
  // Loaded when it is wanted: few ask for this format.
  const { ByteWriter, ParquetWriter } = await import("hyparquet-writer");
  const bytes = new ByteWriter();
  const elements = columns.flatMap((column) => leaves(column, []).map(({ element }) => element));
  const schema = [{ name: "root", num_children: elements.length }, ...elements];
  const file = new ParquetWriter({ writer: bytes, schema });
  let held: (readonly Cell[])[] = [];
  const flush = (): Uint8Array => {
    const data = columns.flatMap((column, i) =>
      leaves(
        column,
        held.map((row) => row[i] ?? null),
      ),
    );
    if (held.length > 0) void file.write({ columnData: data.map(({ source }) => source), rowGroupSize: held.length });
    held = [];
    return taken(bytes);
  };
  for await (const row of rows) if (held.push(row) >= groupRows) yield flush();
  yield flush();
  await file.finish();
  yield taken(bytes);
}

/** What was written since the last time; the count of all goes on, as the end of the file refers to it. */
function taken(writer: { index: number; getBytes(): Uint8Array }): Uint8Array {
  const piece = writer.getBytes().slice();
  writer.index = 0;
  return piece;
}

/** The whole file, in memory. */
export async function parquet(grid: Grid): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of parquetPieces(grid)) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}
