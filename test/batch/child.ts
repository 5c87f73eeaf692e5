/**
 * A durable batch in a process of its own, for tests that kill it: `bun child.ts ITEMS OUT CONCURRENCY`. Prints `row ID` for
 * each row as it becomes durable, and the summary last.
 */

import { runDurable } from "../../src/batch/durable/durable.ts";
import { readJobs } from "../../src/batch/items/lines.ts";
import { tryLockFile } from "../../src/host/home/lock.ts";
import { StubHost } from "./stub-host.ts";

const [items = "", out = "", concurrency = "4"] = process.argv.slice(2);
const stub = new StubHost();
stub.keepEnded = false;
const summary = await runDurable(
  { host: stub.host, moves: stub.moves, cores: 2, lock: tryLockFile },
  {
    items: { read: () => readJobs(Bun.file(items).stream()), again: true },
    out,
    options: { concurrency: Number(concurrency) },
  },
  { onRow: (row) => process.stdout.write(`row ${row.id}\n`) },
);
process.stdout.write(`${JSON.stringify({ ...summary, rss_mib: process.memoryUsage().rss / 2 ** 20 })}\n`);
