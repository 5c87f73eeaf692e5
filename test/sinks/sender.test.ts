/** Usage on its way to receivers that are as strict as the real ones, over a network that fails. */
import { afterEach, describe, expect, test } from "bun:test";
import type { UsageEvent } from "../../src/api/billing.ts";
import { createLog } from "../../src/base/log.ts";
import type { SinkInfo } from "../../src/contract/routes/api/billing.ts";
import { LIMITS } from "../../src/limits.ts";
import { SinkSender } from "../../src/sinks/sender.ts";
import { FakeClock } from "../harness/clock.ts";
import { until } from "../harness/until.ts";
import type { Fault } from "./faults.ts";
import { MemoryOutbox, sinkTo, usageEvent } from "./outbox.ts";
import { TestReceiver } from "./receivers.ts";

const KINDS: readonly SinkInfo["kind"][] = ["webhook", "openmeter", "lago", "stripe"];
const HOUR_MS = 3_600_000;
const BEGIN_MS = Date.UTC(2030, 0, 1);

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const job of cleanUp.splice(0).reverse()) await job();
});

async function world(kind: SinkInfo["kind"]) {
  const clock = new FakeClock(BEGIN_MS + HOUR_MS);
  const receiver = await TestReceiver.open(kind, () => clock.wallMs());
  cleanUp.push(() => receiver[Symbol.asyncDispose]());
  const outbox = new MemoryOutbox();
  const told = { taken: 0, failed: 0, given_up: 0 };
  const logged: string[] = [];
  const sender = (): SinkSender => {
    const made = new SinkSender({
      ...{ store: outbox, clock, log: createLog("info", (line) => logged.push(line)), allowPrivate: true },
      resolve: async () => ["127.0.0.1"],
      told: (_, outcome, events) => {
        told[outcome] += events;
      },
    });
    cleanUp.push(() => made.close());
    return made;
  };
  return { clock, receiver, outbox, told, logged, sender, sink: await sinkTo(receiver) };
}
type World = Awaited<ReturnType<typeof world>>;

/** `count` intervals of two accounts and three meters. */
function intervals(count: number): UsageEvent[] {
  return Array.from({ length: count }, (_, i) =>
    usageEvent({
      subject: `sb_${Math.floor(i / 3)}`,
      meter: ["vcpu_ms", "memory_mib_ms", "creates"][i % 3] ?? "",
      account: i % 2 === 0 ? "a" : "b",
      fromMs: BEGIN_MS + i,
      quantity: String(10n ** 15n + BigInt(i) * 7n),
    }),
  );
}

/** Until the outbox is empty: what fails comes again when its time has come. */
async function drain({ clock, outbox }: World, sender: SinkSender): Promise<void> {
  for (let turn = 0; turn < 200 && outbox.rows.size > 0; turn++) {
    await sender.wake();
    await idle(clock, sender);
    await clock.advance(LIMITS.sinkLeaseMs);
  }
}

/** Lets answers come that never do: the time that a request has is the fake clock's. */
async function idle(clock: FakeClock, sender: SinkSender): Promise<void> {
  let isIdle = false;
  const done = sender.idle().then(() => {
    isIdle = true;
  });
  await until(
    "nothing is being sent",
    async () => {
      if (!isIdle && clock.waiting > 0) await clock.advance(LIMITS.sinkAnswerMs / 50);
      return isIdle;
    },
    60_000,
  );
  await done;
}

function sums(of: Iterable<{ readonly code: string; readonly customer: string; readonly quantity: string }>) {
  const found = new Map<string, bigint>();
  for (const { code, customer, quantity } of of) {
    const key = `${code.replace(/^warren[._]/, "")} ${customer.replace(/^(sub|cus)_/, "")}`;
    found.set(key, (found.get(key) ?? 0n) + BigInt(quantity));
  }
  return found;
}

/** Every interval is there once, and what it says adds up. */
function complete({ receiver }: World, events: readonly UsageEvent[]): void {
  expect([...receiver.taken.keys()].sort()).toEqual(events.map(({ id }) => id).sort());
  const wanted = sums(events.map(({ meter, account, quantity }) => ({ code: meter, customer: account, quantity })));
  expect(sums(receiver.taken.values())).toEqual(wanted);
  expect(receiver.refusals).toEqual([]);
}

const FAULTS: readonly Fault[] = [
  { kind: "status", status: 500, when: "before" },
  { kind: "status", status: 500, when: "after" },
  { kind: "status", status: 503, when: "before", retryAfter: "30" },
  { kind: "status", status: 429, when: "before", retryAfter: "1" },
  { kind: "reset", when: "before" },
  { kind: "reset", when: "after" },
  { kind: "silence", when: "before" },
  { kind: "silence", when: "after" },
];

for (const kind of KINDS) {
  describe(`SinkSender to ${kind}`, () => {
    test("brings every interval over, each once", async () => {
      const it = await world(kind);
      const events = intervals(250);
      it.outbox.add(it.sink, events);
      const sender = it.sender();
      await drain(it, sender);
      complete(it, events);
      expect(it.receiver.duplicates).toBe(0);
      expect(it.told).toEqual({ taken: 250, failed: 0, given_up: 0 });
      if (kind === "openmeter" || kind === "lago") expect(it.receiver.requests).toBe(3);
      if (kind === "stripe") expect(it.receiver.atOnce).toBe(1);
    });

    test("brings every interval over at least once, and none counts twice, however the network fails", async () => {
      const it = await world(kind);
      const events = intervals(120);
      it.outbox.add(it.sink, events);
      it.receiver.faults.next.push(...FAULTS, ...FAULTS);
      await drain(it, it.sender());
      complete(it, events);
      expect(it.receiver.faults.spoilt).toBe(2 * FAULTS.length);
      expect(it.receiver.duplicates).toBeGreaterThan(0);
      expect(it.told.given_up).toBe(0);
    });

    test("brings over again what was sent by a server that was killed before it could write that down", async () => {
      const it = await world(kind);
      const events = intervals(30);
      it.outbox.add(it.sink, events.slice(0, 20));
      const killed = it.sender();
      it.outbox.forgets = true;
      await killed.wake();
      await idle(it.clock, killed);
      await killed.close();
      it.outbox.forgets = false;
      expect(it.receiver.taken.size).toBeGreaterThan(0);
      expect(it.outbox.rows.size).toBe(20);
      await it.clock.advance(LIMITS.sinkLeaseMs);
      it.outbox.add(it.sink, events.slice(20)); // some of a batch are known, some are not
      await drain(it, it.sender());
      complete(it, events);
      // Stripe answers a key that it has seen as it did before: for it that is no duplicate.
      if (kind !== "stripe") expect(it.receiver.duplicates).toBeGreaterThan(0);
    });

    test("sends nothing twice at one time from two servers", async () => {
      const it = await world(kind);
      const events = intervals(60);
      it.outbox.add(it.sink, events);
      const [one, other] = [it.sender(), it.sender()];
      await Promise.all([one.wake(), other.wake()]);
      await Promise.all([idle(it.clock, one), idle(it.clock, other)]);
      complete(it, events);
      expect(it.receiver.duplicates).toBe(0);
    });
  });
}

describe("SinkSender", () => {
  test("lets no receiver that is silent hold up another", async () => {
    const [dead, well] = [await world("openmeter"), await world("webhook")];
    dead.receiver.faults.next.push(...Array.from({ length: 50 }, (): Fault => ({ kind: "silence", when: "before" })));
    const events = intervals(40);
    well.outbox.add(dead.sink, events);
    well.outbox.add(well.sink, events);
    const sender = well.sender();
    await sender.wake();
    await until("the other has all of it", () => well.receiver.taken.size === 40);
    complete(well, events);
    expect(dead.receiver.taken.size).toBe(0);
  });

  test("leaves a receiver alone for as long as it asks", async () => {
    const it = await world("openmeter");
    it.receiver.faults.next.push({ kind: "status", status: 429, when: "before", retryAfter: "600" });
    it.outbox.add(it.sink, intervals(3));
    const sender = it.sender();
    const turn = async () => {
      await sender.wake();
      await idle(it.clock, sender);
    };
    await turn();
    expect(it.told.failed).toBe(3);
    await it.clock.advance(590_000);
    await turn();
    expect(it.receiver.taken.size).toBe(0);
    await it.clock.advance(20_000);
    await turn();
    expect(it.receiver.taken.size).toBe(3);
  });

  test("gives up what can never be taken, says so, and brings over the rest of its batch", async () => {
    for (const kind of ["openmeter", "lago"] as const) {
      const it = await world(kind);
      const good = intervals(20);
      const bad = usageEvent({ subject: "sb_bad", quantity: kind === "lago" ? "-1" : "" });
      it.outbox.add(it.sink, [...good.slice(0, 7), bad, ...good.slice(7)]);
      await drain(it, it.sender());
      expect([...it.receiver.taken.keys()].sort()).toEqual(good.map(({ id }) => id).sort());
      expect(it.told).toEqual({ taken: 20, failed: 0, given_up: 1 });
      expect(it.outbox.errors.join()).toContain(`given up: ${bad.id}: it answered 4`);
      expect(it.logged.join()).toContain("usage was given up for a sink");
    }
  });

  test("keeps usage while a key is not valid, and tells of it without telling the key", async () => {
    const it = await world("stripe");
    it.outbox.add({ ...it.sink, token: "sk_test_revoked" }, intervals(2));
    const sender = it.sender();
    await sender.wake();
    await idle(it.clock, sender);
    expect(it.outbox.rows.size).toBe(2);
    expect(it.outbox.errors[0]).toContain("it answered 401");
    expect(it.logged.join() + it.outbox.errors.join()).not.toContain("sk_test_revoked");
  });

  test("keeps to Stripe's clock: what is too old is given up, what is ahead waits", async () => {
    const it = await world("stripe");
    const nowMs = it.clock.wallMs();
    const [old, ahead] = [
      usageEvent({ subject: "sb_old", fromMs: nowMs - 35 * 24 * HOUR_MS }),
      usageEvent({ subject: "sb_ahead", fromMs: nowMs + HOUR_MS }),
    ];
    it.outbox.add(it.sink, [old, ahead, usageEvent({ subject: "sb_edge", fromMs: nowMs - (35 * 24 - 2) * HOUR_MS })]);
    const sender = it.sender();
    await sender.wake();
    await idle(it.clock, sender);
    expect([...it.receiver.taken.values()].map(({ id }) => id.split(":")[0])).toEqual(["sb_edge"]);
    expect(it.outbox.errors.join()).toContain(`given up: ${old.id}: it takes nothing that is older than 35 days`);
    expect([...it.outbox.rows.values()].map(({ event }) => event.id)).toEqual([ahead.id]);
    await it.clock.advance(HOUR_MS);
    await drain(it, sender);
    expect(it.receiver.taken.has(ahead.id)).toBe(true);
    expect(it.receiver.refusals).toEqual([]);
  });

  test("gives up rather than count twice at Stripe what it may have forgotten by now", async () => {
    const it = await world("stripe");
    it.outbox.add(it.sink, [usageEvent({ subject: "sb_known" }), usageEvent({ subject: "sb_not", meter: "creates" })]);
    const killed = it.sender();
    it.outbox.forgets = true;
    await killed.wake();
    await idle(it.clock, killed);
    await killed.close();
    it.outbox.forgets = false;
    it.outbox.add(it.sink, [usageEvent({ subject: "sb_new" })]);
    expect(it.receiver.taken.size).toBe(2);
    it.receiver.taken.clear(); // a day later it knows nothing of them
    await it.clock.advance(24 * HOUR_MS);
    await drain(it, it.sender());
    expect([...it.receiver.taken.values()].map(({ id }) => id.split(":")[0])).toEqual(["sb_new"]);
    expect(it.outbox.errors.join()).toContain("sending it again could count it twice");
  });

  test("sends to Stripe for days what it surely never took", async () => {
    const it = await world("stripe");
    const events = intervals(4);
    it.outbox.add(it.sink, events);
    it.receiver.faults.next.push(
      ...Array.from({ length: 40 }, (): Fault => ({ kind: "status", status: 401, when: "before" })),
    );
    const sender = it.sender();
    for (let hour = 0; hour < 60; hour++) {
      await sender.wake();
      await idle(it.clock, sender);
      await it.clock.advance(HOUR_MS);
    }
    await drain(it, sender);
    complete(it, events);
    expect(it.told.given_up).toBe(0);
  });

  test("asks Stripe anew after an error of its own, which it would repeat for the same key", async () => {
    const it = await world("stripe");
    it.receiver.ownFailures = 3;
    it.outbox.add(it.sink, intervals(5));
    await drain(it, it.sender());
    complete(it, intervals(5));
  });

  test("goes to no private address unless that is allowed, and follows no redirect", async () => {
    const it = await world("webhook");
    it.outbox.add(it.sink, intervals(1));
    const strict = new SinkSender({
      ...{ store: it.outbox, clock: it.clock, log: createLog("error"), allowPrivate: false },
      resolve: async () => ["127.0.0.1"],
      told: () => undefined,
    });
    cleanUp.push(() => strict.close());
    await strict.wake();
    await idle(it.clock, strict);
    expect(it.receiver.requests).toBe(0);
    expect(it.outbox.errors.join()).toContain("not on the public internet");
    expect([...it.outbox.rows.values()][0]).toMatchObject({ tries: 1, sentAtMs: null });
    it.receiver.faults.next.push({ kind: "status", status: 302, when: "before" });
    await it.clock.advance(HOUR_MS);
    const sender = it.sender();
    await sender.wake();
    await idle(it.clock, sender);
    expect(it.receiver.taken.size).toBe(0);
    expect(it.outbox.rows.size).toBe(1);
  });
});
