/** The books are settled again and again, and usage is sent on its way, until a server ends. */
import { afterEach, describe, expect, test } from "bun:test";
import type { EventOutcome } from "../../../src/api/billing.ts";
import { createLog } from "../../../src/base/log.ts";
import { LIMITS } from "../../../src/limits.ts";
import { settleAlways } from "../../../src/server/billing/books.ts";
import { Figures } from "../../../src/server/billing/figures.ts";
import { sendUsage } from "../../../src/server/billing/outbox.ts";
import { HealthBoard } from "../../../src/server/health.ts";
import { FakeClock } from "../../harness/clock.ts";
import { until } from "../../harness/until.ts";
import { MemoryOutbox, sinkTo, usageEvent } from "../../sinks/outbox.ts";
import { TestReceiver } from "../../sinks/receivers.ts";

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const job of cleanUp.splice(0).reverse()) await job();
});

function world() {
  const clock = new FakeClock();
  const logged: string[] = [];
  const log = createLog("info", (line) => logged.push(line));
  return { clock, logged, log, health: new HealthBoard(), figures: new Figures(clock), over: new AbortController() };
}

describe("settleAlways", () => {
  test("settles at once and every minute, and tells how far behind the books are", async () => {
    const it = world();
    const at: number[] = [];
    const store = {
      settleBooks: async (nowMs: number) => {
        at.push(nowMs - it.clock.wallMs());
        await it.clock.sleep(250);
        return { cut: 0, charged: 3, closed: 0, issued: 0 };
      },
    };
    const done = settleAlways({ ...it, store }, it.over.signal);
    await it.clock.advance(250);
    expect([it.figures.settleSeconds(), it.figures.lagSeconds()]).toEqual([0.25, 0]);
    await it.clock.advance(LIMITS.settleMs - 1000);
    expect(it.figures.lagSeconds()).toBe(59);
    await it.clock.advance(3 * LIMITS.settleMs);
    expect(at).toEqual([0, 0, 0, 0]);
    it.over.abort();
    await it.clock.advance(1000);
    await done;
  });

  test("says in /healthz that it cannot, once in the log, and that it can again", async () => {
    const it = world();
    let isBroken = true;
    const store = {
      settleBooks: async () => {
        if (isBroken) throw new Error("a lock is held");
        return { cut: 0, charged: 0, closed: 1, issued: 0 };
      },
    };
    const done = settleAlways({ ...it, store }, it.over.signal);
    await it.clock.advance(2.5 * LIMITS.settleMs);
    expect(it.health.get().reasons.join()).toContain("the books could not be settled 3 times");
    expect(it.logged.filter((line) => line.includes("could not be settled")).length).toBe(1);
    expect(it.figures.lagSeconds()).toBe(150);
    isBroken = false;
    await it.clock.advance(LIMITS.settleMs);
    expect(it.health.get().reasons.join()).not.toContain("settled");
    expect(it.logged.join()).toContain("the books are settled again");
    it.over.abort();
    await it.clock.advance(0);
    await done;
  });
});

describe("settleAlways at a server's end", () => {
  test("waits a while for what is under way, and no longer", async () => {
    const it = world();
    const never = Promise.withResolvers<{ cut: number; charged: number; closed: number; issued: number }>();
    let isOver = false;
    const done = settleAlways({ ...it, store: { settleBooks: () => never.promise } }, it.over.signal).then(() => {
      isOver = true;
    });
    await it.clock.advance(10 * LIMITS.settleMs);
    it.over.abort();
    await it.clock.advance(LIMITS.drainRowsMs - 1);
    expect(isOver).toBe(false);
    await it.clock.advance(1);
    await done;
    never.reject(new Error("the store is closed"));
    await it.clock.advance(0);
    expect(it.clock.waiting).toBe(0);
  });
});

describe("sendUsage", () => {
  async function sending() {
    const it = world();
    const receiver = await TestReceiver.open("openmeter", () => it.clock.wallMs());
    cleanUp.push(() => receiver[Symbol.asyncDispose]());
    const outbox = new MemoryOutbox();
    const sink = await sinkTo(receiver);
    /** What the next fills find. */
    const fresh: number[] = [];
    let made = 0;
    const next = () => {
      made += 1;
      return usageEvent({ subject: `sb_${made}` });
    };
    const store = {
      dueEvents: outbox.dueEvents.bind(outbox),
      settleEvents: (outcomes: readonly EventOutcome[]) => outbox.settleEvents(outcomes),
      outboxWaiting: async () => new Map([[sink.id, outbox.rows.size]]),
      fillOutbox: async () => {
        const count = fresh.shift() ?? 0;
        outbox.add(sink, Array.from({ length: count }, next));
        return count;
      },
    };
    const done = sendUsage({ ...it, store, allowPrivate: true }, it.over.signal);
    return { ...it, receiver, outbox, store, fresh, done };
  }

  test("queues all that is new, sends it, and tells of it", async () => {
    const it = await sending();
    it.fresh.push(40, 30, 0, 7);
    await it.clock.advance(LIMITS.outboxMs);
    await until("all is there", () => it.receiver.taken.size === 70 && it.outbox.rows.size === 0);
    await it.clock.advance(LIMITS.outboxMs);
    await until("the rest is there", () => it.receiver.taken.size === 77 && it.outbox.rows.size === 0);
    await it.clock.advance(LIMITS.outboxMs);
    expect(it.figures.sinkEvents()).toContainEqual({ kind: "openmeter", outcome: "taken", count: 77 });
    expect([...it.figures.outboxWaiting().values()]).toEqual([0]);
    it.over.abort();
    await it.done;
  });

  test("ends at once with a receiver that is silent, and leaves what it was sending to whoever goes on", async () => {
    const it = await sending();
    it.receiver.faults.next.push({ kind: "silence", when: "after" });
    it.fresh.push(3);
    await it.clock.advance(LIMITS.outboxMs);
    await until("the receiver has it", () => it.receiver.taken.size === 3);
    it.over.abort();
    await it.done;
    expect(it.outbox.rows.size).toBe(3);
    expect([...it.outbox.rows.values()].every(({ tries, sentAtMs }) => tries === 0 && sentAtMs !== null)).toBe(true);
  });

  test("goes on when the store was away, and says in /healthz which sink takes too little", async () => {
    const it = await sending();
    const fill = it.store.fillOutbox;
    it.store.fillOutbox = async () => Promise.reject(new Error("away"));
    await it.clock.advance(3 * LIMITS.outboxMs);
    expect(it.logged.filter((line) => line.includes("could not be queued")).length).toBe(1);
    it.store.fillOutbox = fill;
    it.store.outboxWaiting = async () => new Map([["slow", LIMITS.outboxEvents]]);
    it.fresh.push(2);
    await it.clock.advance(LIMITS.outboxMs);
    await until("it is there", () => it.receiver.taken.size === 2);
    expect(it.health.get().reasons.join()).toContain("slow");
    it.over.abort();
    await it.done;
  });
});
