/**
 * The thread that has the embedded database: a long statement stops this loop, not the server's. Asked by `messages.ts`, one
 * thing at a time, in order.
 */
import { existsSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { btree_gist } from "@electric-sql/pglite/contrib/btree_gist";
import type { Statement } from "../driver.ts";
import { failureOf } from "../failure.ts";
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

const DATA = "data";

let database: PGlite | null = null;
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
  const nothing: Answer = { number, kind: "rows", rows: [] };
  if (ask.kind === "make") {
    await make(ask);
    return nothing;
  }
  if (ask.kind === "open") {
    database = await start(join(ask.folder, DATA), ask.compiled);
    return nothing;
  }
  if (ask.kind === "close") {
    await database?.close();
    database = null;
    return nothing;
  }
  if (database === null) throw new Error("the embedded database is not open");
  if (ask.kind === "query") return { number, kind: "rows", rows: await run(database, ask.statement) };
  await database.exec(ask.text);
  return nothing;
}

/** It appears whole: what was killed while it made one has left nothing that counts. */
async function make({ folder, compiled }: Extract<Ask, { kind: "make" }>): Promise<void> {
  if (existsSync(join(folder, DATA))) return;
  const making = join(folder, "making");
  await rm(making, { recursive: true, force: true });
  await (await start(making, compiled)).close();
  await rename(making, join(folder, DATA));
}

async function start(dataDir: string, compiled: boolean): Promise<PGlite> {
  // By which no stretch of time is there twice.
  const extensions = { btree_gist };
  const files = compiled ? await (await import("./embedded.ts")).embedded(dirname(dataDir)) : { extensions };
  return PGlite.create({
    ...files,
    dataDir,
    postgresqlconf: CONFIGURATION,
    parsers: PARSERS,
    serializers: SERIALIZERS,
  });
}

async function run(on: PGlite, { text, parameters }: Statement): Promise<unknown[][]> {
  const { rows } = await on.query<unknown[]>(text, [...parameters], { rowMode: "array" });
  return rows;
}
