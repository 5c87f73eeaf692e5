/**
 * The example items of `warren batch --example`: programs of the kind that models write (some with honest mistakes, some
 * hostile) over real tables of the `vega-datasets` package. Every program meets every table, but for those that only burn
 * time. The order is fixed and mixed: the first items are as many different programs, over tables in turn.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { WarrenError } from "../../src/errors.ts";

const DATA = join(import.meta.dir, "../../node_modules/vega-datasets/data");
const PROGRAMS = join(import.meta.dir, "programs");

/** Real tables, small ones: an emulated guest is slow. */
export const TABLES = [
  "barley.json",
  "stocks.csv",
  "burtin.json",
  "la-riots.csv",
  "gapminder-health-income.csv",
  "crimea.json",
  "iowa-electricity.csv",
  "anscombe.json",
  "population_engineers_hurricanes.csv",
  "ohlc.json",
  "disasters.csv",
  "wheat.json",
  "us-state-capitals.json",
  "co2-concentration.csv",
  "obesity.json",
  "driving.json",
] as const;

/** In the order of their first turn. */
export const PROGRAM_NAMES = [
  "group-totals",
  "summary-statistics",
  "top-rows",
  "clean-names",
  "exit-three",
  "missing-values",
  "text-histogram",
  "bar-chart",
  "wrong-column",
  "csv-to-json",
  "weekdays",
  "endless-loop",
  "correlation",
  "word-count",
  "deduplicate",
  "join",
  "fork-bomb",
  "sqlite",
  "min-max-scale",
  "divide-by-zero",
  "html-report",
  "outliers",
  "split-by-group",
  "moving-average",
  "scatter-chart",
  "line-fit",
  "pivot",
  "exact-sums",
  "slugs",
  "bootstrap",
  "quantile-bins",
  "recursion",
  "sample",
  "compress",
] as const;

type Cell = string | number | boolean | null;
export type TableRow = Readonly<Record<string, Cell>>;

/** How a program wants its table. `+lookup`: with a second table that ranks the values of the first column. */
type Takes = "stdin" | "json" | "csv" | "csv+lookup";

interface Program {
  readonly name: string;
  readonly code: string;
  readonly takes: Takes;
  readonly leaves: string | null;
  readonly timeoutSeconds: number | null;
  /** It meets only so many tables. */
  readonly tables: number;
}

export interface ExampleItem {
  readonly id: string;
  readonly code: string;
  readonly input?: readonly TableRow[];
  readonly files?: Readonly<Record<string, string>>;
  readonly output_paths?: readonly string[];
  readonly timeout_seconds?: number;
}

function note(code: string, name: string): string | null {
  return new RegExp(`^# ${name}: (.+)$`, "m").exec(code)?.[1] ?? null;
}

async function programOf(name: string): Promise<Program> {
  const code = await Bun.file(join(PROGRAMS, `${name}.py`)).text();
  const timeout = note(code, "timeout");
  return {
    name,
    code,
    takes: (note(code, "takes") ?? "stdin") as Takes,
    leaves: note(code, "leaves"),
    timeoutSeconds: timeout === null ? null : Number(timeout),
    tables: Number(note(code, "tables") ?? TABLES.length),
  };
}

/** Fields of one CSV line; quotes may hold commas and doubled quotes. None of these tables has a newline in a field. */
function fields(line: string): string[] {
  const found: string[] = [];
  const pattern = /(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g;
  for (const [, quoted, plain] of line.matchAll(pattern)) found.push(quoted?.replaceAll('""', '"') ?? plain ?? "");
  return found;
}

function cell(text: string): Cell {
  if (text === "") return null;
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

/** A table of this package as rows. @throws {WarrenError} `unsupported` – the package is not installed. */
export async function tableOf(file: string): Promise<TableRow[]> {
  const path = join(DATA, file);
  if (!existsSync(path)) {
    throw new WarrenError("unsupported", "the example tables are not installed: run `bun install` in the checkout");
  }
  const text = (await Bun.file(path).text()).replace(/^\ufeff/, "");
  if (file.endsWith(".json")) return JSON.parse(text);
  const [head = "", ...lines] = text.split(/\r?\n/).filter((line) => line !== "");
  const names = fields(head);
  return lines.map((line) => {
    const cells = fields(line);
    return Object.fromEntries(names.map((name, i) => [name, cell(cells[i] ?? "")]));
  });
}

function csvField(value: Cell | undefined): string {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csvOf(rows: readonly TableRow[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = rows.map((row) => names.map((name) => csvField(row[name])).join(","));
  return `${[names.map(csvField).join(","), ...lines].join("\n")}\n`;
}

function lookupOf(rows: readonly TableRow[]): string {
  const name = Object.keys(rows[0] ?? {})[0] ?? "";
  const values = [...new Set(rows.map((row) => row[name]))].slice(0, 20);
  return csvOf(values.map((value, i) => ({ [name]: value ?? null, rank: i + 1 })));
}

function itemOf(program: Program, table: string, rows: readonly TableRow[]): ExampleItem {
  const { code, takes, leaves, timeoutSeconds } = program;
  const files = {
    "data.csv": csvOf(rows),
    ...(takes === "csv+lookup" ? { "lookup.csv": lookupOf(rows) } : {}),
  };
  return {
    id: `${program.name}.${table.replace(/\.\w+$/, "")}`,
    code,
    ...(takes.startsWith("csv") ? { files } : { input: rows }),
    ...(leaves === null ? {} : { output_paths: [leaves] }),
    ...(timeoutSeconds === null ? {} : { timeout_seconds: timeoutSeconds }),
  };
}

/** All of them, always the same and in the same order. */
export async function* exampleItems(): AsyncGenerator<ExampleItem> {
  const programs = await Promise.all(PROGRAM_NAMES.map(programOf));
  const tables = await Promise.all(TABLES.map(tableOf));
  for (let round = 0; round < TABLES.length; round++) {
    for (const [i, program] of programs.entries()) {
      const at = (i + round) % TABLES.length;
      const table = TABLES[at];
      const rows = tables[at];
      if (round >= program.tables || table === undefined || rows === undefined) continue;
      yield itemOf(program, table, rows);
    }
  }
}
