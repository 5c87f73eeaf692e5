/**
 * How fast intervals are taken with the constraint on, on a PostgreSQL that waits for its disk: by the function that all of a server's
 * writers use, in statements of many rows; and as moves of sandboxes that are over, in a server's own batches, which also
 * keep the log. `bun test/bench/billing/ingest.ts [--rows N] [--writers N] [--record]`; `--record` appends to results.ndjson.
 */
import { parseArgs } from "node:util";
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { openPostgres } from "../../../src/db/postgres.ts";
import { openStore } from "../../../src/db/store.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { account, LIFE, movesOf, newId, T0 } from "../../suites/store/world.ts";
import { machineFacts, record } from "../record.ts";
import { round } from "../stats.ts";

const ACCOUNTS = 1000;
const STATEMENT_ROWS = 5000;
const MOVED = 1000;

const { values: options } = parseArgs({
  options: {
    rows: { type: "string", default: "200000" },
    writers: { type: "string", default: "2" },
    record: { type: "boolean", default: false },
  },
});
const [rows, writers] = [Number(options.rows), Number(options.writers)];

await using server = await PrivatePostgres.open({ durable: true });
const url = await server.database();
const parts = { url, dir: "/nonexistent", clock: systemClock, log: createLog("error"), node: "node-1" };
await using store = await openStore(parts);
await using driver = openPostgres(url, parts);
await server.run(
  `insert into accounts (id, name, created_at) select 'acct-' || n, 'x', now() from generate_series(1, ${ACCOUNTS}) as n`,
  url,
);

/** Two meters of each of so many sandboxes, a minute each, at any time of 30 days: none of them overlap. */
function statement(first: number): string {
  return `select billing.write(array(
    select row('acct-' || (1 + n / 2 % ${ACCOUNTS}), 'sb_' || md5((n / 2)::text), 'base', (array['vcpu_ms', 'memory_mib_ms'])[1 + n % 2],
      case n % 2 when 0 then 1 else 512 end, ${T0} + n / 2 * 7919::bigint % 2592000000,
      ${T0} + n / 2 * 7919::bigint % 2592000000 + 60000, 0)::billing.stretch
    from generate_series(${first}, ${first + STATEMENT_ROWS - 1}) as n)) as written`;
}

async function intervals(): Promise<number> {
  const [row] = await server.run("select count(*)::int as n from billing.intervals", url);
  return Number(row?.["n"]);
}

/** Of so many writers at once, each with its share of the statements. */
async function perSecond(jobs: readonly (() => Promise<unknown>)[]): Promise<number> {
  const before = await intervals();
  const waiting = [...jobs];
  const startMs = systemClock.monotonicMs();
  await Promise.all(
    Array.from({ length: writers }, async () => {
      for (let job = waiting.pop(); job !== undefined; job = waiting.pop()) await job();
    }),
  );
  const ms = systemClock.monotonicMs() - startMs;
  return Math.round(((await intervals()) - before) / (ms / 1000));
}

const written = await perSecond(
  Array.from(
    { length: rows / STATEMENT_ROWS },
    (_, i) => () => driver.query({ text: statement(i * STATEMENT_ROWS), parameters: [] }),
  ),
);
const mine = await account(store);
const moved = await perSecond(
  Array.from({ length: Math.ceil(rows / 20 / MOVED) }, () => {
    const moves = Array.from({ length: MOVED }, () => movesOf(mine, newId(), LIFE)).flat();
    return () => store.record(moves);
  }),
);
const [size] = await server.run(
  `select pg_size_pretty(pg_relation_size('billing.intervals')) as heap, pg_size_pretty(pg_indexes_size('billing.intervals')) as indexes`,
  url,
);
process.stdout.write(
  `intervals taken: ${written}/s written (promise: 20,000/s), ${moved}/s of moves; ${JSON.stringify(size)}\n`,
);
if (options.record) {
  const figures = { writtenPerSecond: written, ofMovesPerSecond: moved, rows: await intervals(), writers, ...size };
  record({
    bench: "ingest",
    ...figures,
    load1: round(Number((await Bun.file("/proc/loadavg").text()).split(" ")[0])),
    ...(await machineFacts()),
  });
}
if (written < 20_000) process.exitCode = 1;
