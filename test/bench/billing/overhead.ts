/**
 * What metering adds to a create and its first result: the same engine with all that a server does for the books (journal,
 * rows to a PostgreSQL that waits for its disk, proofs of life, settlement) and with none of it, in turn.
 * `bun test/bench/billing/overhead.ts [--rounds N] [--record]`; root, WARREN_HOME with a baked `base`.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createLog } from "../../../src/base/log.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { openStore } from "../../../src/db/store.ts";
import { hostClock } from "../../../src/host/slots/host-clock.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { ServerMoves } from "../../../src/server/moves.ts";
import { keepBeating } from "../../../src/server/time/heartbeat.ts";
import { hostFacts } from "../../../src/server/time/host-facts.ts";
import { openJournal } from "../../../src/server/time/journal.ts";
import { WriteBehind } from "../../../src/server/write-behind.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { openTestWarren } from "../../harness/vm.ts";
import { account } from "../../suites/store/world.ts";
import { timed } from "../measures.ts";
import { machineFacts, record } from "../record.ts";
import { round, summary } from "../stats.ts";

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "60" }, record: { type: "boolean", default: false } },
});
const rounds = Number(options.rounds);
const PROMISED = 1.02;
/** Creates in a row of one kind. */
const BLOCK = 5;
/** Resamples of the interval that the ratio is in, 95 of 100 times. */
const RESAMPLES = 2000;

const log = createLog("error");
const clock = hostClock;
await using server = await PrivatePostgres.open({ durable: true });
const url = await server.database();
await using store = await openStore({ url, dir: "/nonexistent", clock, log, node: "bench" });
const owner = await account(store);
await using warren = await openTestWarren({ prepared: 2, ready: 0 });
const host = warren.engine.as(owner);

/** All that meters, until it is disposed of; what waits is written then. */
function metering(): AsyncDisposable {
  const over = new AbortController();
  const infoOf = (_: string, id: string) => host.get({ id }).catch(() => null); // it has ended: there is nothing to tell
  const facts = hostFacts(warren);
  const kept = join(warren.config.home, "overhead.ndjson");
  const journal = openJournal(kept, log);
  const behind = new WriteBehind({ books: store, infoOf, journal, clock, log });
  const moves = new ServerMoves({
    moves: warren.engine.moves,
    storage: warren.engine.storage,
    infoOf,
    facts,
    clock,
    log,
  });
  moves.subscribe((move) => behind.moved(move));
  moves.subscribeStored((row) => behind.stored(row));
  const beating = keepBeating({ moves, facts, write: (beats) => behind.beaten(beats), clock, log }, over.signal);
  const settling = store.settleBooks(clock.wallMs()); // once a block, so far more often than each minute
  return {
    async [Symbol.asyncDispose]() {
      over.abort();
      await Promise.all([beating, settling]);
      if ((await behind.drain(LIMITS.drainRowsMs)) > 0) throw new Error("rows were not written");
      moves[Symbol.dispose]();
      journal[Symbol.dispose]();
      rmSync(kept);
    },
  };
}

/** Milliseconds from create to the first result, by the prepared path. */
async function one(on: SandboxHost): Promise<number> {
  await warren.engine.prepare({ template: "base" });
  let made: Sandbox | null = null;
  const ms = await timed(async () => {
    made = await Sandbox.create({ template: "base" }, on);
    if ((await made.exec(["echo", "42"])).stdout !== "42\n") throw new Error("echo did not say 42");
  });
  const sandbox = made as unknown as Sandbox;
  const { createPath } = await sandbox.info();
  await sandbox.close();
  if (createPath !== "prepared") throw new Error(`took the path ${createPath}, not prepared`);
  return ms;
}

function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Of the ratio of medians, by resampling. */
function bounds(of: readonly number[], to: readonly number[]): { readonly low: number; readonly high: number } {
  const drawn = (from: readonly number[]) =>
    from.map(() => from[Math.floor(Math.random() * from.length)] ?? Number.NaN);
  const ratios = Array.from({ length: RESAMPLES }, () => median(drawn(of)) / median(drawn(to))).sort((a, b) => a - b);
  return { low: ratios[Math.floor(RESAMPLES * 0.025)] ?? 0, high: ratios[Math.floor(RESAMPLES * 0.975)] ?? 0 };
}

const s = { on: [] as number[], off: [] as number[] };
for (let i = -1; i < rounds / BLOCK; i++) {
  // Which of the two goes first changes, so that whatever comes second has no advantage.
  for (const kind of i % 2 === 0 ? (["on", "off"] as const) : (["off", "on"] as const)) {
    await using _ = kind === "on" ? metering() : null;
    for (let n = 0; n < BLOCK; n++) {
      const ms = await one(host);
      if (i >= 0) s[kind].push(ms); // the first ones warm up
    }
  }
}
const ratio = median(s.on) / median(s.off);
const { low, high } = bounds(s.on, s.off);
process.stdout.write(
  `create → exec with metering / without: p50 ${round(ratio, 3)} (95 %: ${round(low, 3)} to ${round(high, 3)}; promise ≤ ${PROMISED}), ` +
    `${round(median(s.on))} ms and ${round(median(s.off))} ms, ${s.on.length} of each\n`,
);
const [kept] = await server.run("select count(*)::int as n from billing.intervals where meter = 'vcpu_ms'", url);
const metered = s.on.length + BLOCK;
if (kept?.["n"] !== metered) throw new Error(`metered ${JSON.stringify(kept)}, not ${metered}`);
if (options.record) {
  const [onMs, offMs] = [summary(s.on.map((ms) => round(ms))), summary(s.off.map((ms) => round(ms)))];
  const figures = { ratio: round(ratio, 3), low: round(low, 3), high: round(high, 3), onMs, offMs };
  record({ bench: "metering-overhead", rounds, ...figures, ...(await machineFacts()) });
}
if (ratio > PROMISED) process.exitCode = 1;
