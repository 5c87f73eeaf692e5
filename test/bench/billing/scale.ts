/**
 * Reports and settlement of a month of many accounts on a PostgreSQL of its own, against what was promised. Prints each figure with
 * its samples; `--record` appends the line to results.ndjson.
 */
import { parseArgs } from "node:util";
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { migrate } from "../../../src/db/migrate.ts";
import { openPostgres } from "../../../src/db/postgres.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { machineFacts, record } from "../record.ts";
import { round } from "../stats.ts";
import { measure } from "./measure.ts";
import { DAYS, makeMonth } from "./month.ts";

const HELP = `Measure billing's reports and settlement on PostgreSQL.

Usage: bun test/bench/billing/scale.ts [options]

  --intervals N   of the month (default 10000000)
  --accounts N    (default 1000)
  --settle N      intervals that are settled, one piece after another (default 200000)
  --rounds N      samples of each report (default 5)
  --record        append the line to test/bench/results.ndjson`;
/** Of the server; whatever else is PostgreSQL's default, but that it does not wait for the disk. Without JIT, as a server's connections are. */
const SETTINGS = ["shared_buffers=1GB", "work_mem=64MB", "max_wal_size=4GB", "jit=off"];
/** Of 10 million intervals. */
const PROMISED_MS = { rawMs: 4_000, rolledUpMs: 30, accountMonthMs: 200 } as const;

const { values } = parseArgs({
  options: {
    intervals: { type: "string", default: "10000000" },
    accounts: { type: "string", default: "1000" },
    settle: { type: "string", default: "200000" },
    rounds: { type: "string", default: "5" },
    record: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}

function count(name: "intervals" | "accounts" | "settle" | "rounds"): number {
  const number = Number(values[name]);
  if (Number.isInteger(number) && number > 0) return number;
  process.stderr.write(`--${name}: got ${values[name]}, allowed is a whole number above 0\n\n${HELP}\n`);
  process.exit(2);
}
const [intervals, accounts] = [count("intervals"), count("accounts")];
const wanted = { accounts, settle: count("settle"), rounds: count("rounds") };

await using server = await PrivatePostgres.open({ settings: SETTINGS });
const url = await server.database();
const driver = openPostgres(url, { clock: systemClock, log: createLog("error") });
await migrate(driver);
await driver[Symbol.asyncDispose]();

console.log(`making ${intervals} intervals of ${accounts} accounts, ${DAYS} days …`);
const madeSeconds = round(await makeMonth(server, url, { intervals, accounts }));
console.log(`made in ${madeSeconds} s; measuring …`);
const [version] = await server.run("show server_version");
const measured = await measure(server, url, wanted);
const line = {
  bench: "billing-scale",
  ...(await machineFacts()),
  ...{
    postgres: String(version?.["server_version"]),
    settings: SETTINGS.join(" "),
    intervals,
    accounts,
    days: DAYS,
    madeSeconds,
  },
  ...measured,
};
console.log(JSON.stringify(line, null, 2));
for (const [what, limitMs] of Object.entries(PROMISED_MS)) {
  const { p50, min } = measured[what as keyof typeof PROMISED_MS];
  console.log(`${what}: ${p50} (best ${min}), of 10 million at most ${limitMs}: ${p50 <= limitMs ? "kept" : "MISSED"}`);
}
if (values.record) record(line);
process.exitCode = measured.exact ? 0 : 1;
