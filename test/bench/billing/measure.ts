/** What a month of many accounts takes to be asked about and settled, on a PostgreSQL that has it: samples, and whether all sums are equal. */
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { Database } from "../../../src/db/database.ts";
import { openPostgres } from "../../../src/db/postgres.ts";
import type { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { round, type Summary, summary } from "../stats.ts";
import { DAYS, FIRST_DAY } from "./month.ts";
import { DAY_SUMS, dayOf, MONTH_BY_DAY, monthOf, RAW } from "./reports.ts";

/** Intervals of one statement, as a server settles them. */
const PIECE = 5_000;
const DAY_MS = 24 * 3600 * 1000;

export interface Wanted {
  readonly accounts: number;
  /** Intervals to settle. */
  readonly settle: number;
  readonly rounds: number;
}

/** Of each report the time that the product waits for it, all rows read; and of those from rollups the server's own. */
export interface Measured {
  readonly rawMs: Summary;
  readonly rolledUpMs: Summary;
  readonly rolledUpByMeterMs: Summary;
  readonly rolledUpByMeterServerMs: Summary;
  readonly accountMonthMs: Summary;
  readonly dayMs: Summary;
  readonly rollups: number;
  readonly settled: { readonly intervals: number; readonly perSecond: number; readonly pieceMs: Summary };
  /** The ledger's sums are those of the rollups, and of the intervals by their prices. */
  readonly exact: boolean;
  readonly mib: Readonly<Record<"table" | "accountIndex" | "brin", number>>;
}

type Ask = (db: Database, round: number) => Promise<unknown[][]>;

async function timed(db: Database, rounds: number, ask: Ask, took?: (rows: unknown[][]) => number): Promise<Summary> {
  const samples: number[] = [];
  await ask(db, 0); // what is read first comes from the disk
  for (let n = 1; n <= rounds; n++) {
    const begin = performance.now();
    const rows = await ask(db, n);
    samples.push(round(took === undefined ? performance.now() - begin : took(rows)));
  }
  return summary(samples);
}

/** The server's own time, without the sending of rows. */
const executed = (rows: unknown[][]) =>
  Number((JSON.parse(String(rows[0]?.[0])) as [{ readonly "Execution Time": number }])[0]["Execution Time"]);

export async function measure(
  server: PrivatePostgres,
  url: string,
  { accounts, settle, rounds }: Wanted,
): Promise<Measured> {
  await using driver = openPostgres(url, { clock: systemClock, log: createLog("error") });
  const db = new Database(driver);
  const text =
    (statement: string): Ask =>
    () =>
      driver.query({ text: statement, parameters: [] });
  // On a connection that waits as long as it takes: a server's statements are ended after 10 s.
  const patient =
    (statement: string): Ask =>
    async () =>
      (await server.run(statement, url)).map(Object.values);
  const one = async (statement: string) => Object.values((await server.run(statement, url))[0] ?? {})[0];
  const size = async (what: string) => round(Number(await one(`select pg_relation_size('${what}')`)) / 2 ** 20, 2);

  const rawMs = await timed(db, rounds, patient(RAW));
  const account = (n: number) => `acc-${String(1 + ((n * 37) % accounts)).padStart(4, "0")}`;
  const accountMonthMs = await timed(db, rounds * 4, (on, n) => on.rows(monthOf(account(n))));
  const dayMs = await timed(db, rounds, (on, n) => on.rows(dayOf(n % DAYS)));

  const now = new Date(Date.parse(`${FIRST_DAY}T00:00:00Z`) + DAYS * DAY_MS).toISOString();
  const pieces: number[] = [];
  for (let after: number | null = null, done = 0; done < settle; done += PIECE) {
    const begin = performance.now();
    const told = await one(`select billing.settle('${now}', ${after}::bigint, ${PIECE})::text`);
    pieces.push(performance.now() - begin);
    ({ after } = JSON.parse(String(told)) as { after: number | null });
    if (after === null) break;
  }
  const intervals = Number(await one("select count(*) from billing.ledger"));
  const exact = await one(
    `select (select sum(amount) from billing.ledger) = (select sum(amount) from billing.rollups)
       and (select sum(amount) from billing.ledger) = (select sum(i.quantity * r.price * r.factor)
         from billing.ledger l join billing.intervals i on i.id = l.interval
         join billing.rates r on r.account = i.account and r.meter = i.meter)`,
  );
  await server.run(REST_ROLLED, url);
  await server.run("vacuum (analyze) billing.rollups", url);
  return {
    ...{ rawMs, accountMonthMs, dayMs },
    rolledUpMs: await timed(db, rounds * 4, text(DAY_SUMS)),
    rolledUpByMeterMs: await timed(db, rounds * 4, text(MONTH_BY_DAY)),
    rolledUpByMeterServerMs: await timed(
      db,
      rounds * 4,
      text(`explain (analyze, timing off, format json) ${MONTH_BY_DAY}`),
      executed,
    ),
    rollups: Number(await one("select count(*) from billing.rollups")),
    settled: {
      intervals,
      perSecond: round((Math.min(settle, pieces.length * PIECE) * 1000) / pieces.reduce((sum, ms) => sum + ms, 0), 0),
      pieceMs: summary(pieces.map((ms) => round(ms))),
    },
    exact: exact === true,
    mib: {
      ...{ table: await size("billing.intervals"), accountIndex: await size("billing.intervals_account") },
      brin: await size("billing.intervals_when"),
    },
  };
}

/** What is not settled, summed up as settlement would, without its entries. */
const REST_ROLLED = `
  insert into billing.rollups as held ("window", day, account, template, meter, quantity, amount, currency)
  select (select max(day) from billing.windows), s.day, s.account, s.template, s.meter, s.quantity, s.quantity * r.price * r.factor, 'USD'
  from (
    select account, meter, (lower(during) at time zone 'UTC')::date as day, template, sum(quantity) as quantity
    from billing.intervals i where i.id > (select coalesce(max("interval"), 0) from billing.ledger) group by 1, 2, 3, 4
  ) as s join billing.rates r on r.account = s.account and r.meter = s.meter
  on conflict (account, day, meter, template, "window", currency)
    do update set quantity = held.quantity + excluded.quantity, amount = held.amount + excluded.amount`;
