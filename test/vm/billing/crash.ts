/**
 * Billing under kills: `bun test/vm/billing/crash.ts --from 1 --rounds 200 [--record]`. A round is a seed: a server's life and death,
 * some 5 kills. A long run may be done in several sittings, each with a database of its own. WARREN_HOME names the home.
 */

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ADMIN } from "../../../src/api/access/admin.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { LIMITS } from "../../../src/limits.ts";
import { machineFacts, record } from "../../bench/record.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { openTestWarren, TEST_HOME } from "../../harness/vm.ts";
import { Ledger } from "./books.ts";
import { Ground } from "./ground.ts";
import { Rounds } from "./rounds.ts";
import { Watch } from "./watch.ts";

export interface Sitting {
  readonly from: number;
  readonly rounds: number;
  readonly told?: (says: string) => void;
  readonly stopped?: () => boolean;
}

/** @returns what results.ndjson says of it. @throws {Error} the first thing that is billed wrongly */
export async function sitting({ from, rounds, told, stopped }: Sitting): Promise<Record<string, unknown>> {
  await endAll();
  const startMs = systemClock.monotonicMs();
  const folder = mkdtempSync(join(tmpdir(), "warren-crash-"));
  mkdirSync(join(TEST_HOME, "server"), { recursive: true });
  // What a crashed one has said to be committed must be there again: so it waits for its log, though not for the disk.
  await using postgres = await PrivatePostgres.open({ settings: ["synchronous_commit=on"] });
  await using watch = new Watch(join(folder, "witness.ndjson"));
  const ground = new Ground(TEST_HOME, new Ledger(postgres, await postgres.database()), watch);
  const all = new Rounds(ground);
  let seed = from;
  try {
    for (; seed < from + rounds && stopped?.() !== true; seed++) {
      await all.round(seed);
      told?.(`round ${seed}: ${JSON.stringify(ground.kills)}, ${watch.machines.length} machines`);
    }
    const { verdicts, done, events } = await all.finish();
    if (verdicts.length < seed - from)
      throw new Error(`only ${verdicts.length} sandboxes ran: ${JSON.stringify(done)}`);
    const { blind, ...kills } = ground.kills;
    const most = (of: (verdict: (typeof verdicts)[number]) => number) => Math.max(0, ...verdicts.map(of));
    const late = verdicts.filter(({ underMs, crashes }) => crashes > 0 && underMs > LIMITS.heartbeatMs);
    return {
      ...{
        bench: "crash-truth",
        seeds: [from, seed - 1],
        kills: Object.values(kills).reduce((a, b) => a + b),
        ...kills,
        blind,
      },
      ...{ sandboxes: verdicts.length, machines: watch.machines.length, events, replays: 3, duplicates: 0 },
      billedSeconds: Math.round(verdicts.reduce((sum, { billedMs }) => sum + billedMs, 0) / 1000),
      ...{ overMsMax: most((one) => one.overMs), underMsMax: most((one) => one.underMs), aboveOneTick: late.length },
      underMsMaxWithKernel: most(({ id, underMs }) => (watch.blind.has(id) ? 0 : underMs)),
      ...{ done, seconds: Math.round((systemClock.monotonicMs() - startMs) / 1000) },
    };
  } finally {
    await ground.server?.end("SIGKILL");
    await endAll();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What lives in the home, of a run that was cut short for instance, is nobody's; nor is what is kept of it for a database that is gone. */
async function endAll(): Promise<void> {
  await using warren = await openTestWarren();
  for (const { account, id } of await warren.host.registry.list()) await warren.engine.as(account).close({ id });
  for (const { meta } of await warren.snapshots.listImages(ADMIN)) await warren.snapshots.removeImage(meta.id);
  for (const kept of ["moves.ndjson", "ended"])
    rmSync(join(TEST_HOME, "server", kept), { recursive: true, force: true });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      from: { type: "string", default: "1" },
      rounds: { type: "string", default: "20" },
      record: { type: "boolean", default: false },
    },
  });
  let stop = false;
  process.once("SIGINT", () => {
    stop = true;
  });
  const facts = await machineFacts();
  const told = (says: string) => process.stderr.write(`${says}\n`);
  const line = await sitting({ from: Number(values.from), rounds: Number(values.rounds), told, stopped: () => stop });
  console.log(JSON.stringify({ ...line, ...facts }));
  if (values.record) record({ ...line, ...facts });
}

if (import.meta.main) await main();
