/** Where usage is sent, as a store keeps it: what is queued, claimed and settled, on every engine. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Outgoing, Sink } from "../../../src/api/billing.ts";
import type { Store } from "../../../src/api/store.ts";
import { nonce } from "../../../src/base/id.ts";
import type { Driver } from "../../../src/db/driver.ts";
import { account, codeOf, T0 } from "./world.ts";

/** A first start of the embedded database on a busy host. */
const OPEN_MS = 120_000;
const LEASE_MS = 1000;
/** By when all that a test makes is due. */
const LATE_MS = T0 + 1_000_000;

export interface SinksForm {
  readonly store: Store;
  /** Another server on the same database; null: there can be none. */
  readonly second: Store | null;
  readonly driver: Pick<Driver, "query">;
}

export function newSink(change: Partial<Sink> = {}): Sink {
  const base = { id: `to-${nonce()}`, kind: "openmeter", account: null, url: "https://example.com/" } as const;
  return { ...base, token: "secret", customers: {}, ...change };
}

/** Adds an interval of one second, `index` seconds after {@link T0}; what its event is called. */
export async function addInterval(
  driver: Pick<Driver, "query">,
  of: string,
  subject: string,
  index = 0,
): Promise<string> {
  const fromMs = T0 + index * 1000;
  const [from, to] = [new Date(fromMs).toISOString(), new Date(fromMs + 1000).toISOString()];
  await driver.query({
    text: `insert into billing.intervals (account, subject, template, meter, units, during)
      values ($1, $2, 'base', 'vcpu_ms', 2, tstzrange($3::timestamptz, $4::timestamptz))`,
    parameters: [of, subject, from, to],
  });
  return `${subject}:vcpu_ms:${fromMs}`;
}

/** Queues all there is. */
export async function fillAll(store: Store): Promise<void> {
  while ((await store.fillOutbox(1000, T0)) > 0);
}

export function sinksSuite(name: string, open: () => Promise<SinksForm & { close(): Promise<void> }>): void {
  describe(name, () => {
    let opened: Awaited<ReturnType<typeof open>> | null = null;
    beforeAll(async () => {
      opened = await open();
    }, OPEN_MS);
    afterAll(async () => {
      await opened?.close();
    }, OPEN_MS);
    const form = (): SinksForm => {
      if (opened === null) throw new Error("the store was not opened");
      return opened;
    };
    rowCases(form);
    queueCases(form);
  });
}

function rowCases(form: () => SinksForm): void {
  test("Store.sinks tells those that were made, without their tokens, until they are removed", async () => {
    const { store } = form();
    const mine = await account(store);
    const [one, two] = [newSink({ account: mine }), newSink({ kind: "stripe", customers: { [mine]: "cus_1" } })];
    const told = { id: one.id, kind: one.kind, account: mine, url: one.url, waiting: 0, lastError: null };
    expect(await store.createSink(one, T0)).toEqual(told);
    await store.createSink(two, T0 + 1);
    const all = (await store.sinks()).filter(({ id }) => id === one.id || id === two.id);
    expect(all).toEqual([told, { ...told, id: two.id, kind: "stripe", account: null }]);
    expect(JSON.stringify(all)).not.toContain("secret");
    expect(await codeOf(store.createSink(one, T0))).toBe("already_exists");
    expect(await codeOf(store.createSink(newSink({ account: "nobody" }), T0))).toBe("not_found");
    expect(await store.removeSink(two.id)).toBe(true);
    expect(await store.removeSink(two.id)).toBe(false);
    expect(await store.removeSink(one.id)).toBe(true);
  });

  test("Store.fillOutbox queues what is new since a sink was made, once, for each that it is for", async () => {
    const { store, driver } = form();
    const [mine, theirs] = [await account(store), await account(store)];
    await addInterval(driver, mine, `sb_${nonce()}`);
    const sinks = {
      all: newSink(),
      mine: newSink({ account: mine }),
      lago: newSink({ kind: "lago", customers: { [theirs]: "sub" } }),
    };
    for (const sink of Object.values(sinks)) await store.createSink(sink, T0);
    const [first, second] = [
      await addInterval(driver, mine, `sb_${nonce()}`),
      await addInterval(driver, theirs, `sb_${nonce()}`),
    ];
    expect(await store.fillOutbox(1000, T0)).toBe(4);
    expect(await store.fillOutbox(1000, T0)).toBe(0);
    const waiting = await store.outboxWaiting();
    expect(Object.values(sinks).map(({ id }) => waiting.get(id))).toEqual([2, 1, 1]);
    const due = await store.dueEvents(T0, 10, LEASE_MS);
    const of = (sink: Sink) => due.filter((out) => out.sink.id === sink.id);
    expect(of(sinks.all).map(({ event }) => event.id)).toEqual([first, second]);
    expect(of(sinks.mine).map(({ event }) => event.id)).toEqual([first]);
    expect(of(sinks.lago).map(({ event }) => event.id)).toEqual([second]);
    const [only] = of(sinks.lago);
    expect(only).toEqual({
      ...{ id: only?.id ?? "", sink: sinks.lago, tries: 0, sentAtMs: null },
      event: {
        ...{ id: second, account: theirs, subject: second.split(":")[0] ?? "", meter: "vcpu_ms", template: "base" },
        ...{ fromMs: T0, toMs: T0 + 1000, quantity: "2000" },
      },
    });
    for (const sink of Object.values(sinks)) await store.removeSink(sink.id);
    expect(await store.dueEvents(LATE_MS, 10, LEASE_MS)).toEqual([]);
  });

  test("Store.fillOutbox goes on where it stopped, some at a time for each sink", async () => {
    const { store, driver } = form();
    const mine = await account(store);
    const sink = newSink({ account: mine });
    await store.createSink(sink, T0);
    const wanted: string[] = [];
    for (let i = 0; i < 7; i++) wanted.push(await addInterval(driver, mine, `sb_${nonce()}`, i));
    const counts: number[] = [];
    for (let i = 0; i < 4; i++) counts.push(await store.fillOutbox(3, T0));
    expect(counts).toEqual([3, 3, 1, 0]);
    expect((await store.dueEvents(T0, 100, LEASE_MS)).map(({ event }) => event.id)).toEqual(wanted);
    await store.removeSink(sink.id);
  });
}

function queueCases(form: () => SinksForm): void {
  const made = async (events: number) => {
    const { store, driver } = form();
    const mine = await account(store);
    const sink = newSink({ account: mine });
    await store.createSink(sink, T0);
    for (let i = 0; i < events; i++) await addInterval(driver, mine, `sb_${nonce()}`, i);
    await fillAll(store);
    return {
      store,
      sink,
      due: (ms: number, limit = 100, except?: string[]) => store.dueEvents(T0 + ms, limit, LEASE_MS, except),
    };
  };
  const infoOf = async (store: Store, { id }: Sink) => (await store.sinks()).find((sink) => sink.id === id);

  test("Store.dueEvents claims for its lease, and tells since when something may have been sent", async () => {
    const { store, sink, due } = await made(1);
    const [one] = await due(10);
    expect(one).toMatchObject({ sentAtMs: null, tries: 0 });
    expect(await due(10 + LEASE_MS - 1)).toEqual([]);
    expect(await due(10 + LEASE_MS)).toMatchObject([{ id: one?.id, sentAtMs: T0 + 10, tries: 0 }]);
    const again = {
      id: one?.id ?? "",
      error: "it answered 500",
      next: { atMs: T0 + 9000, tries: 1, sentAtMs: T0 + 10 },
    };
    await store.settleEvents([again]);
    expect(await infoOf(store, sink)).toMatchObject({ waiting: 1, lastError: "it answered 500" });
    expect(await due(8999)).toEqual([]);
    expect(await due(9000)).toMatchObject([{ tries: 1, sentAtMs: T0 + 10 }]);
    await store.settleEvents([{ ...again, error: null, next: { atMs: T0 + 9001, tries: 1, sentAtMs: null } }]);
    expect(await infoOf(store, sink)).toMatchObject({ lastError: "it answered 500" }); // given back: nothing was tried
    expect(await due(9001)).toMatchObject([{ tries: 1, sentAtMs: null }]);
    await store.settleEvents([{ ...again, error: null, next: null }]);
    expect(await infoOf(store, sink)).toMatchObject({ waiting: 0, lastError: null });
    expect(await due(1e9)).toEqual([]);
    await store.settleEvents([]);
    await store.settleEvents([{ id: "1", error: null, next: null }]);
    await store.removeSink(sink.id);
  });

  test("Store.settleEvents keeps it visible that something was given up, whatever goes well after it", async () => {
    const { store, sink, due } = await made(3);
    const [one, two, three] = (await due(0)).map(({ id }) => id);
    await store.settleEvents([
      { id: one ?? "", error: "given up: x: it answered 400", next: null },
      { id: two ?? "", error: "zzz: another", next: { atMs: T0, tries: 1, sentAtMs: null } },
    ]);
    const lost = { lastError: "given up: x: it answered 400" };
    expect(await infoOf(store, sink)).toMatchObject(lost);
    await store.settleEvents([
      { id: two ?? "", error: "it answered 500", next: { atMs: T0, tries: 1, sentAtMs: null } },
    ]);
    await store.settleEvents([{ id: three ?? "", error: null, next: null }]);
    expect(await infoOf(store, sink)).toMatchObject({ ...lost, waiting: 1 });
    await store.removeSink(sink.id);
  });

  test("Store.dueEvents gives each sink its share, and nothing of those that are to be left alone", async () => {
    const [dead, well] = [await made(30), await made(3)];
    const due = await well.due(0, 5);
    const count = (of: readonly Outgoing[], { id }: Sink) => of.filter((out) => out.sink.id === id).length;
    expect([count(due, dead.sink), count(due, well.sink)]).toEqual([5, 3]);
    const later = await well.due(LEASE_MS, 5, [dead.sink.id]);
    expect([count(later, dead.sink), count(later, well.sink)]).toEqual([0, 3]);
    for (const { store, sink } of [dead, well]) await store.removeSink(sink.id);
  });

  test("Store.dueEvents gives each event to one of many that ask at once", async () => {
    const { store, sink } = await made(40);
    const asked = Array.from({ length: 12 }, (_, i) =>
      (i % 2 === 0 ? store : (form().second ?? store)).dueEvents(T0, 5, LEASE_MS),
    );
    const claimed = (await Promise.all(asked)).flat().map(({ id }) => id);
    expect(new Set(claimed).size).toBe(claimed.length);
    const rest = (await store.dueEvents(T0, 100, LEASE_MS)).map(({ id }) => id);
    expect(new Set([...claimed, ...rest]).size).toBe(40);
    await store.removeSink(sink.id);
  });

  test("Store.fillOutbox queues each interval once when many servers fill at once", async () => {
    const { store, sink, due } = await made(0);
    const mine = sink.account ?? "";
    const wanted = await Promise.all(
      Array.from({ length: 50 }, (_, i) => addInterval(form().driver, mine, `sb_${nonce()}`, i)),
    );
    const filled = Array.from({ length: 20 }, (_, i) =>
      (i % 2 === 0 ? store : (form().second ?? store)).fillOutbox(7, T0),
    );
    await Promise.all(filled);
    await fillAll(store);
    expect((await due(0)).map(({ event }) => event.id).sort()).toEqual(wanted.sort());
    await store.removeSink(sink.id);
  });
}
