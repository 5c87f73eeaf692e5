/** Where a batch's items come from: a file, stdin, or the examples of a checkout. */
import { createReadStream, existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { type Line, readJobs } from "../../batch/items/lines.ts";
import { WarrenError } from "../../errors.ts";
import type { Io } from "../ground/io.ts";

export interface Source {
  /** For people. */
  readonly name: string;
  /** Where results go when the caller does not say; null for stdin, which has no name. */
  readonly defaultOut: string | null;
  readonly read: () => AsyncIterable<Line>;
  /** It gives the same again. */
  readonly again: boolean;
  /** How many usable items it has; null when that is not known beforehand. */
  readonly total: number | null;
}

async function* first(lines: AsyncIterable<Line>, limit: number): AsyncGenerator<Line> {
  let items = 0;
  for await (const line of lines) {
    yield line;
    if (line.kind === "job") items += 1;
    if (items >= limit) return;
  }
}

function limited(read: () => AsyncIterable<Line>, limit: number | undefined): () => AsyncIterable<Line> {
  return limit === undefined ? read : () => first(read(), limit);
}

async function countJobs(lines: AsyncIterable<Line>): Promise<number> {
  let count = 0;
  for await (const line of lines) if (line.kind === "job") count += 1;
  return count;
}

async function fileSource(path: string, limit: number | undefined): Promise<Source> {
  try {
    if ((await stat(path)).isDirectory()) throw new Error("it is a directory");
    const read = limited(() => readJobs(createReadStream(path)), limit);
    const stem = basename(path, extname(path));
    return { name: path, defaultOut: `${stem}.results.jsonl`, read, again: true, total: await countJobs(read()) };
  } catch (cause) {
    if (cause instanceof WarrenError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WarrenError("invalid_request", `${path} cannot be read: ${why}`, { cause });
  }
}

/** Items that come with a checkout; a package has none. */
const EXAMPLE_PATH = "test/examples/items.ts";

async function exampleSource(io: Io, limit: number | undefined): Promise<Source> {
  const path = join(io.root, EXAMPLE_PATH);
  if (!existsSync(path)) {
    throw new WarrenError("unsupported", "the example items come with a checkout of the project, and this is none");
  }
  const { exampleItems } = (await import(path)) as { exampleItems: () => AsyncIterable<unknown> };
  const encoder = new TextEncoder();
  async function* text(): AsyncGenerator<Uint8Array> {
    for await (const item of exampleItems()) yield encoder.encode(`${JSON.stringify(item)}\n`);
  }
  const read = limited(() => readJobs(text()), limit);
  return {
    name: "the examples",
    defaultOut: "example.results.jsonl",
    read,
    again: true,
    total: await countJobs(read()),
  };
}

/** @throws {WarrenError} `invalid_request` – the file cannot be read; `unsupported` – there are no examples here. */
export function sourceOf(io: Io, items: string | null, limit: number | undefined): Promise<Source> {
  if (items === null) return exampleSource(io, limit);
  if (items !== "-") return fileSource(items, limit);
  const read = limited(() => readJobs(io.input.bytes()), limit);
  return Promise.resolve({ name: "stdin", defaultOut: null, read, again: false, total: null });
}
