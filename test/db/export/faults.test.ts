/**
 * Usage from the database to every kind of receiver at once, by two servers of which some are killed between sending and writing
 * that down, over a network that fails: nothing is missing, nothing counts twice, and each receiver's sums are the ledger's.
 */
import { expect, test } from "bun:test";
import type { EventOutcome, Sink } from "../../../src/api/billing.ts";
import type { Store } from "../../../src/api/store.ts";
import { nonce } from "../../../src/base/id.ts";
import { createLog } from "../../../src/base/log.ts";
import type { Driver } from "../../../src/db/driver.ts";
import { LIMITS } from "../../../src/limits.ts";
import { SinkSender } from "../../../src/sinks/sender.ts";
import { FakeClock } from "../../harness/clock.ts";
import { gate } from "../../harness/gates.ts";
import { newDatabase } from "../../harness/pglite.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { until } from "../../harness/until.ts";
import type { Fault } from "../../sinks/faults.ts";
import { KEY, TestReceiver, TOKEN } from "../../sinks/receivers.ts";
import { fillAll } from "../../suites/store/sinks.ts";
import { account, T0 } from "../../suites/store/world.ts";
import { Folder, pgliteForm, postgresForm } from "../world.ts";

const METERS = ["vcpu_ms", "memory_mib_ms", "hibernated_mib_s", "egress_bytes", "creates"] as const;
const COUNTS: ReadonlySet<string> = new Set(["egress_bytes", "creates"]);
const KILLS = 40;
const KINDS = ["webhook", "openmeter", "lago", "stripe"] as const;

interface Form {
  readonly store: Store;
  readonly second: Store | null;
  readonly driver: Driver;
}

/** A small generator of its own: the same in every run. */
function drawn(seed: number): (limit: number) => number {
  let at = seed;
  return (limit) => {
    at = (at * 48_271) % 2_147_483_647;
    return at % limit;
  };
}

/** Intervals as they may be, in one statement each or many. */
async function addUsage(driver: Pick<Driver, "query">, accounts: readonly string[], below: (limit: number) => number) {
  const rows = Array.from({ length: 1 + below(40) }, () => {
    const meter = METERS[below(METERS.length)] ?? "";
    const fromMs = T0 + below(86_000_000);
    const during = COUNTS.has(meter) ? [fromMs, fromMs, "[]"] : [fromMs, fromMs + 1 + below(300_000), "[)"];
    return { account: accounts[below(2)], subject: `sb_${nonce()}`, meter, units: below(1_000_000_000), during };
  });
  await driver.query({
    text: `insert into billing.intervals (account, subject, meter, units, during)
      select account, subject, meter, units, tstzrange(to_timestamp((during->>0)::bigint / 1000.0),
        to_timestamp((during->>1)::bigint / 1000.0), during->>2)
      from jsonb_to_recordset($1::text::jsonb) as r(account text, subject text, meter text, units bigint, during jsonb)`,
    parameters: [JSON.stringify(rows)],
  });
}

function anyFault(below: (limit: number) => number): Fault | null {
  const when = below(2) === 0 ? "before" : "after";
  const kinds: readonly (Fault | null)[] = [
    ...[
      null,
      null,
      { kind: "status", status: 500, when },
      { kind: "status", status: 503, when: "before", retryAfter: "9" },
    ],
    ...[
      { kind: "status", status: 429, when: "before" },
      { kind: "reset", when },
      { kind: "silence", when },
    ],
  ] as readonly (Fault | null)[];
  return kinds[below(kinds.length)] ?? null;
}

type Receivers = Awaited<ReturnType<typeof TestReceiver.open>>[];

/** One of each kind, and a sink to it; the network in front of each fails more often than not. */
async function receivers(
  store: Store,
  [a, b]: readonly [string, string],
  clock: FakeClock,
  below: (limit: number) => number,
): Promise<Receivers> {
  const all: Receivers = [];
  for (const kind of KINDS) {
    const receiver = await TestReceiver.open(kind, () => clock.wallMs());
    all.push(receiver);
    receiver.faults.next.push(...Array.from({ length: 60 }, () => anyFault(below)));
    const customers = {
      ...{ webhook: {}, openmeter: {}, lago: { [a]: "sub_a", [b]: "sub_b" }, stripe: { [a]: "cus_a", [b]: "cus_b" } },
    }[kind];
    const token = kind === "webhook" ? TOKEN.webhook : KEY;
    const sink: Sink = { id: `to-${kind}`, kind, account: null, url: await receiver.url(), token, customers };
    await store.createSink(sink, clock.wallMs());
  }
  return all;
}

/** A server's sender. Once killed, what it would write down is lost. */
class Killed {
  readonly sender: SinkSender;
  isKilled = false;

  constructor(store: Store, clock: FakeClock, dies: () => boolean) {
    const settleEvents = async (outcomes: readonly EventOutcome[]): Promise<void> => {
      this.isKilled ||= dies();
      if (this.isKilled) throw new Error("killed");
      await store.settleEvents(outcomes);
    };
    this.sender = new SinkSender({
      store: { dueEvents: (...ask) => store.dueEvents(...ask), settleEvents },
      ...{ clock, log: createLog("error", () => undefined), allowPrivate: true, resolve: async () => ["127.0.0.1"] },
      told: () => undefined,
    });
  }
}

/** Several servers at once; each that is killed is followed by another. */
class Servers {
  readonly #stores: readonly Store[];
  readonly #clock: FakeClock;
  readonly #dies: () => boolean;
  readonly #all: Killed[];
  kills = 0;

  constructor(stores: readonly Store[], clock: FakeClock, below: (limit: number) => number) {
    this.#stores = stores;
    this.#clock = clock;
    this.#dies = () => this.kills < KILLS && below(6) === 0;
    this.#all = stores.map((store) => new Killed(store, clock, this.#dies));
  }

  /** Each sends what it finds due; then time passes. */
  async turn(restMs = LIMITS.sinkLeaseMs / 4): Promise<void> {
    const clock = this.#clock;
    for (const store of this.#stores) await store.fillOutbox(50, clock.wallMs());
    await Promise.all(this.#all.map(({ sender }) => sender.wake()));
    let isIdle = false;
    void Promise.all(this.#all.map(({ sender }) => sender.idle())).then(() => {
      isIdle = true;
    });
    const quiet = async () => {
      if (!isIdle && clock.waiting > 0) await clock.advance(LIMITS.sinkAnswerMs / 50);
      return isIdle;
    };
    await until("nothing is being sent", quiet, 60_000);
    for (const [i, store] of this.#stores.entries()) {
      const server = this.#all[i];
      if (server?.isKilled !== true) continue;
      this.kills += 1;
      await server.sender.close();
      this.#all[i] = new Killed(store, clock, this.#dies);
    }
    await clock.advance(restMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { sender } of this.#all) await sender.close();
  }
}

/** Every interval is there, once, and the sums are the ledger's. */
async function complete({ store, driver }: Form, all: Receivers, [a, b]: readonly [string, string]): Promise<void> {
  const ask = (text: string) => driver.query({ text, parameters: [] });
  const ledger = await ask(
    "select account, meter, sum(quantity)::text from billing.ledger where kind = 'charge' group by account, meter",
  );
  const total = new Map(ledger.map(([of, meter, quantity]) => [`${of} ${meter}`, BigInt(String(quantity))]));
  const [named] = await ask(`select jsonb_agg(
    subject || ':' || meter || ':' || (extract(epoch from lower(during)) * 1000)::bigint)::text from billing.intervals`);
  const wanted = (JSON.parse(String(named?.[0])) as string[]).sort();
  expect(wanted.length).toBeGreaterThan(200);
  for (const receiver of all) {
    expect(receiver.refusals).toEqual([]);
    expect([...receiver.taken.keys()].sort()).toEqual(wanted);
    expect(receiver.faults.spoilt).toBeGreaterThan(20);
    const sums = new Map<string, bigint>();
    for (const { code, customer, quantity } of receiver.taken.values()) {
      const key = `${customer === a || customer.endsWith("_a") ? a : b} ${code.replace(/^warren[._]/, "")}`;
      sums.set(key, (sums.get(key) ?? 0n) + BigInt(quantity));
    }
    expect(sums).toEqual(total);
  }
  expect(Math.max(...all.map(({ duplicates }) => duplicates))).toBeGreaterThan(0);
  const errors = (await store.sinks()).map(({ lastError }) => lastError ?? "");
  expect(errors.filter((error) => error.startsWith("given up"))).toEqual([]);
}

async function exported(form: Form): Promise<void> {
  const { store, second, driver } = form;
  const below = drawn(20_301);
  const clock = new FakeClock(T0 + 2 * 86_400_000);
  const accounts = [await account(store), await account(store)] as const;
  await using stack = new AsyncDisposableStack();
  const all = await receivers(store, accounts, clock, below);
  for (const receiver of all) stack.use(receiver);
  const servers = stack.use(new Servers([store, second ?? store], clock, below));
  const waiting = async () => [...(await store.outboxWaiting()).values()].reduce((sum, count) => sum + count, 0);
  for (let i = 0; i < 20; i++) {
    await addUsage(driver, accounts, below);
    await servers.turn();
  }
  await fillAll(store);
  // What failed often is tried again within the hour.
  for (let i = 0; i < 200 && (await waiting()) > 0; i++) await servers.turn(600_000);
  expect(await waiting()).toBe(0);
  expect(servers.kills).toBeGreaterThan(5);
  await store.settleBooks(clock.wallMs());
  await complete(form, all, accounts);
}

test("Usage on PGlite reaches every receiver, whoever dies", async () => {
  using folder = new Folder();
  await newDatabase(folder.path);
  const form = await pgliteForm(folder.path);
  try {
    await exported(form);
  } finally {
    await form.close();
  }
}, 300_000);

if (gate("postgres")) {
  test("Usage on PostgreSQL reaches every receiver, whoever dies", async () => {
    await using server = await PrivatePostgres.open();
    const form = await postgresForm(await server.database());
    try {
      await exported(form);
    } finally {
      await form.close();
    }
  }, 300_000);
}
