/** A database of before there were intervals, brought up to date: the same was used, nothing is charged again, and what is open goes on. */
import { expect, test } from "bun:test";
import type { Driver } from "../../src/db/driver.ts";
import { migrate } from "../../src/db/migrate.ts";
import { MIGRATIONS } from "../../src/db/migrations.ts";
import { openPglite } from "../../src/db/pglite.ts";
import { openPostgres } from "../../src/db/postgres.ts";
import { storeOver } from "../../src/db/store.ts";
import { fold, NOTHING } from "../../src/meter/fold.ts";
import { gate } from "../harness/gates.ts";
import { newDatabase } from "../harness/pglite.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { LIFE, movesOf, type Step, T0 } from "../suites/store/world.ts";
import { Folder, meterOf, parts } from "./world.ts";

const SLOW_MS = 120_000;
const DAY_MS = 86_400_000;
/** Those that had the tables of before. */
const OLD = MIGRATIONS.filter(({ tag }) => tag < "0002");
/** As they were then: `warren_record` was told how states are charged, and at what price. */
const RULES = {
  ...{ vcpu: ["running"], memory: ["running", "paused"], ended: ["deleted", "failed"] },
  ...{ vcpu_ms_usd: "0.00000001", memory_mib_ms_usd: "0.00000000000390625" },
};

const sent = { network: { bytesOut: 4096, bytesIn: 1, connections: 1 } };
const LONG: readonly Step[] = [
  ["creating", 5.25, { event: "created" }],
  ["running", 40.75, { event: "booted" }],
  ["paused", 2 * DAY_MS + 7.5, { event: "pause", ...sent }],
  ["running", 3 * DAY_MS, { event: "resume" }],
  ["hibernated", 3 * DAY_MS + 1000.5, { event: "hibernate", ...sent }],
  ["running", 4 * DAY_MS, { event: "wake" }],
];
const ENDS: Step = ["deleted", 6 * DAY_MS, { event: "reaped" }];
const HISTORIES = { sb_over: LIFE, sb_long: LONG, sb_made: LIFE.slice(0, 1), sb_gone: LIFE };
const movesBy = (id: keyof typeof HISTORIES) => movesOf("acme", id, HISTORIES[id], { cpu: 2, memoryMib: 700 });

function oldRow(move: ReturnType<typeof movesOf>[number]) {
  const { sandbox, account, template, cpu, memoryMib, sequence, from, to, event, reason, monotonicMs, wallMs } = move;
  return {
    ...{
      sandbox,
      account,
      template,
      cpu,
      memory_mib: memoryMib,
      sequence,
      from_state: from,
      to_state: to,
      event,
      reason,
    },
    ...{ network_out_bytes: move.network?.bytesOut, monotonic_ms: monotonicMs, at: new Date(wallMs).toISOString() },
  };
}

async function upgraded(driver: Driver): Promise<void> {
  const ask = (text: string, ...parameters: string[]) => driver.query({ text, parameters });
  await migrate(driver, OLD);
  await ask("insert into accounts (id, name, created_at, credit_usd) values ('acme', 'Acme', now(), 100)");
  const rows = (Object.keys(HISTORIES) as (keyof typeof HISTORIES)[]).flatMap((id) => movesBy(id).map(oldRow));
  const write = "select warren_record($1::text::jsonb, 'node-1', $2::text::jsonb)";
  await ask(write, JSON.stringify(rows), JSON.stringify(RULES));
  const info = JSON.stringify({ metadata: { team: "a team" } });
  await ask("update sandboxes set info = $1::text::jsonb where id = 'sb_over'", info);
  // Forgotten, as it was done then.
  await ask("update meters set forgotten = true where sandbox = 'sb_gone'");
  await ask("delete from sandboxes where id = 'sb_gone'");
  await ask(
    `insert into stored_now (account, kind, id, size_bytes, at, monotonic_ms) values ('acme', 'volume', 'v', 1048577, now(), 1)`,
  );
  const credit = async () => (await ask("select credit_usd::text from accounts"))[0]?.[0];
  const before = await credit();

  expect(await migrate(driver)).toBe(MIGRATIONS.length - OLD.length);

  expect(await credit()).toBe(before ?? "");
  const store = await storeOver(driver, parts);
  const meter = meterOf(driver);
  for (const id of ["sb_over", "sb_long", "sb_made"] as const) {
    expect([id, (await meter(id))?.closed]).toEqual([id, fold(movesBy(id))]);
  }
  expect((await meter("sb_over"))?.open).toBeNull();
  expect((await meter("sb_made"))?.open).toBeNull();
  const charged = { vcpu_ms: 2, memory_mib_ms: 700 };
  expect((await meter("sb_long"))?.open).toEqual({ sinceMs: BigInt(T0 + 4 * DAY_MS), charged });
  expect(await ask("select labels ->> 'team' from sandboxes where id = 'sb_over'")).toEqual([["a team"]]);
  const open = await ask(
    "select units, since between now() - interval '1 hour' and now() from billing.open_time where subject = 'volume/acme/v'",
  );
  expect(open.map(String)).toEqual(["2,true"]);

  // What was there comes again, and what was open ends.
  const later = movesOf("acme", "sb_long", [...LONG, ENDS], { cpu: 2, memoryMib: 700 });
  await store.record([...later, ...movesBy("sb_over"), ...movesBy("sb_gone")]);
  expect((await meter("sb_long"))?.closed).toEqual(fold(later));
  expect((await meter("sb_over"))?.closed).toEqual(fold(movesBy("sb_over")));
  expect((await meter("sb_gone"))?.closed).toEqual(NOTHING);
  expect(await store.events("acme", "sb_gone", 10)).toBeNull();
  const cost = 2 * DAY_MS * (2 * 1e-8 + 700 * 3.90625e-12);
  expect(Number(before) - Number(await credit())).toBeCloseTo(cost, 9);
  await store[Symbol.asyncDispose]();
}

test(
  "PGlite: a database of before there were intervals is brought up to date with the same usage",
  async () => {
    using folder = new Folder();
    await newDatabase(folder.path);
    await upgraded(await openPglite(folder.path, parts));
  },
  SLOW_MS,
);

if (gate("postgres")) {
  test(
    "PostgreSQL: a database of before there were intervals is brought up to date with the same usage",
    async () => {
      await using server = await PrivatePostgres.open();
      await upgraded(openPostgres(await server.database(), parts));
    },
    SLOW_MS,
  );
}
