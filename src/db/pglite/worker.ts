/**
 * The thread that has the embedded database: a long statement stops this loop, not the server's. Asked by `messages.ts`, one
 * thing at a time, in order.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import type { Statement } from "../driver.ts";
import { failureOf } from "../failure.ts";
import { takeLock } from "./lock.ts";
import type { Answer, Ask, Numbered } from "./messages.ts";

declare const self: { onmessage: ((event: MessageEvent<Numbered>) => void) | null; postMessage(answer: Answer): void };

/** For one connection: reopened it takes 150 MB of memory, with PostgreSQL's own defaults up to 1.5 GB. */
const CONFIGURATION = [
  "shared_buffers = 16MB",
  "max_connections = 4",
  "wal_buffers = 1MB",
  "max_wal_size = 64MB",
  "timezone = 'UTC'",
  "datestyle = 'ISO'",
];
/** `bigint`, dates and times, `numeric`, `json`: as they are written. See `AS_WRITTEN` of PostgreSQL's driver. */
const written = (text: string) => text;
const PARSERS = Object.fromEntries([1082, 1083, 1114, 1184, 1186, 1700, 20, 114, 3802].map((type) => [type, written]));
const SERIALIZERS = Object.fromEntries(
  [1082, 1083, 1114, 1184, 1186, 1700, 20, 114, 3802].map((type) => [type, String]),
);

let database: PGlite | null = null;
let unlock: (() => void) | null = null;
let turn: Promise<void> = Promise.resolve();

self.onmessage = ({ data: ask }) => {
  turn = turn.then(async () => {
    try {
      self.postMessage(await answer(ask));
    } catch (cause) {
      self.postMessage({ number: ask.number, kind: "failed", ...failureOf(cause) });
    }
  });
};

async function answer(ask: Numbered): Promise<Answer> {
  const { number } = ask;
  if (ask.kind === "open") return (await open(ask)) ? { number, kind: "rows", rows: [] } : { number, kind: "taken" };
  if (ask.kind === "close") {
    await database?.close();
    database = null;
    unlock?.();
    return { number, kind: "rows", rows: [] };
  }
  if (database === null) throw new Error("the embedded database is not open");
  if (ask.kind === "query") return { number, kind: "rows", rows: await run(database, ask.statement) };
  await database.exec(ask.text);
  return { number, kind: "rows", rows: [] };
}

async function open({ folder, compiled }: Extract<Ask, { kind: "open" }>): Promise<boolean> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  unlock = takeLock(join(folder, "lock"));
  if (unlock === null) return false;
  const files = compiled ? await (await import("./embedded.ts")).embedded() : {};
  database = await PGlite.create({
    ...files,
    dataDir: join(folder, "data"),
    postgresqlconf: CONFIGURATION,
    parsers: PARSERS,
    serializers: SERIALIZERS,
  });
  return true;
}

async function run(on: PGlite, { text, parameters }: Statement): Promise<unknown[][]> {
  const { rows } = await on.query<unknown[]>(text, [...parameters], { rowMode: "array" });
  return rows;
}
