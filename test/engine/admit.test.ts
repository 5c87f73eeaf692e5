/** Admission: order, fairness and room, on a clock that only moves when told. */
import { beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Admission, type Need, type Ticket } from "../../src/engine/create/admit.ts";
import { Turns } from "../../src/engine/create/turns.ts";
import type { Capacity } from "../../src/host/host.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock } from "../harness/clock.ts";

const RESERVE = LIMITS.hostReserveMib;
let clock: FakeClock;
let room: Capacity;
let admission: Admission;
let order: string[];
let tickets: Map<string, Ticket>;

beforeEach(() => {
  clock = new FakeClock();
  order = [];
  tickets = new Map();
  room = {
    ...{ cores: 2, memoryTotalMib: 4096 + RESERVE, memoryAvailableMib: 1024 + RESERVE },
    ...{ memoryPressure: 0, diskFreeBytes: 1e12 },
  };
  admission = new Admission(() => room, clock, { vcpusPerCore: 16, queue: 100 });
});

/** Enters and remembers who was let in when; its ticket appears in `tickets` then. The result leaves the queue. */
function enter(name: string, need: Partial<Need> = {}, account = "a"): () => void {
  return admission.enter(account, {
    need: () => ({ vcpus: 1, memoryMib: 10, ...need }),
    grant: (ticket) => {
      tickets.set(name, ticket);
      ticket.settled();
      order.push(name);
    },
  });
}

const give = (name: string) => tickets.get(name)?.give();

describe("Admission", () => {
  test("lets in what fits at once and in order", () => {
    for (const name of ["1", "2", "3"]) enter(name);
    expect(order).toEqual(["1", "2", "3"]);
  });

  test("does not let a small create pass a large one that waits", () => {
    enter("first", { vcpus: 20 });
    enter("large", { vcpus: 32 });
    enter("small", { vcpus: 1 });
    expect(order).toEqual(["first"]);
    give("first");
    expect(order).toEqual(["first", "large"]);
    give("large");
    expect(order).toEqual(["first", "large", "small"]);
  });

  test("goes round the accounts, so a burst of one does not starve another", () => {
    const whole = { vcpus: 32 };
    enter("full", whole, "c");
    for (const name of ["a1", "a2", "a3"]) enter(name, whole, "a");
    for (const name of ["b1", "b2"]) enter(name, whole, "b");
    for (let i = 0; i < 6; i++) give(order.at(-1) as string);
    expect(order).toEqual(["full", "a1", "b1", "a2", "b2", "a3"]);
  });

  test("admits one that is wider than the whole budget, alone", () => {
    room = { ...room, cores: 1 };
    enter("small");
    enter("wide", { vcpus: 32 });
    expect(order).toEqual(["small"]);
    give("small");
    enter("next");
    expect(order).toEqual(["small", "wide"]);
    give("wide");
    expect(order).toEqual(["small", "wide", "next"]);
  });

  test("starts only so many restores at once", () => {
    const started: Ticket[] = [];
    for (let i = 0; i < 20; i++) {
      admission.enter("a", { need: () => ({ vcpus: 1, memoryMib: 1 }), grant: (ticket) => started.push(ticket) });
    }
    expect(started.length).toBe(2 * LIMITS.bootsPerCore);
    started[0]?.settled();
    started[0]?.settled();
    expect(started.length).toBe(2 * LIMITS.bootsPerCore + 1);
    started[1]?.give();
    expect(started.length).toBe(2 * LIMITS.bootsPerCore + 2);
    expect(admission.quiet).toBe(false);
  });

  test("keeps the reserve, and counts a promise until it is used", async () => {
    enter("1", { memoryMib: 600 });
    enter("2", { memoryMib: 600 });
    expect(order).toEqual(["1"]);
    // 600 MiB are used now: they are missing from what is available, and not promised any more.
    tickets.get("1")?.measure(() => 600);
    room = { ...room, memoryAvailableMib: 599 + RESERVE };
    await clock.advance(LIMITS.roomRetryMs);
    expect(order).toEqual(["1"]);
    room = { ...room, memoryAvailableMib: 600 + RESERVE };
    await clock.advance(LIMITS.roomRetryMs);
    expect(order).toEqual(["1", "2"]);
    expect(clock.waiting).toBe(0);
  });

  test("stops while the host waits for memory, and goes on after", async () => {
    room = { ...room, memoryPressure: LIMITS.memoryPressureMax + 1 };
    enter("1");
    expect(admission.spare(1)).toBeNull();
    await clock.advance(5 * LIMITS.roomRetryMs);
    expect(order).toEqual([]);
    room = { ...room, memoryPressure: null };
    await clock.advance(LIMITS.roomRetryMs);
    expect(order).toEqual(["1"]);
  });

  test("asks for memory back when a create lacks it", () => {
    let asked = 0;
    const spare = admission.spare(1000);
    admission.shed = () => {
      asked += 1;
    };
    enter("1", { memoryMib: 100 });
    expect([asked, order]).toEqual([1, []]);
    spare?.give();
    expect(order).toEqual(["1"]);
  });

  test("refuses at once what could never fit", () => {
    expect(() => enter("huge", { memoryMib: 4097 })).toThrow(/can never fit here.*4097 MiB.*4096 MiB/);
    expect(admission.waiting).toBe(0);
  });

  test("refuses a create when the queue is full, and takes one again when it is not", () => {
    enter("full", { vcpus: 32 });
    const leave = Array.from({ length: 100 }, (_, i) => enter(`w${i}`));
    expect(() => enter("late")).toThrow(/100 creates are already waiting/);
    leave[50]?.();
    leave[50]?.();
    expect(admission.waiting).toBe(99);
    enter("after");
    expect(admission.waiting).toBe(100);
  });

  test("lets the next one in when the one at the head leaves", () => {
    enter("first", { vcpus: 20 });
    const leave = enter("large", { vcpus: 32 });
    enter("small");
    leave();
    expect(order).toEqual(["first", "small"]);
  });

  test("spares nothing for the pool while a create waits", () => {
    enter("full", { vcpus: 32 });
    enter("waits");
    expect(admission.spare(1)).toBeNull();
    give("full");
    expect(admission.spare(1)).not.toBeNull();
  });
});

describe("Turns", () => {
  const ACCOUNTS = ["a", "b", "c"];
  interface Item {
    readonly account: string;
    readonly name: string;
  }

  /** Names in the order they are served, after some have left. */
  function serve(items: readonly Item[], leavers: readonly number[]): { served: string[]; left: string[] } {
    const turns = new Turns<string>();
    for (const { account, name } of items) turns.add(account, name);
    const gone = new Set<string>();
    for (const { account, name } of leavers.map((i) => items[i]).filter((item) => item !== undefined)) {
      if (turns.delete(account, name)) gone.add(name);
    }
    const served: string[] = [];
    for (let next = turns.next(); next !== undefined; next = turns.next()) {
      served.push(next);
      turns.shift();
    }
    expect(turns.size).toBe(0);
    return { served, left: items.map((i) => i.name).filter((name) => !gone.has(name)) };
  }

  test("serves every item once, in order within an account, and no account twice while another waits", () => {
    const arrivals = fc.array(fc.constantFrom(...ACCOUNTS), { maxLength: 40 });
    fc.assert(
      fc.property(arrivals, fc.array(fc.nat(39), { maxLength: 10 }), (accounts, leavers) => {
        const items = accounts.map((account, i) => ({ account, name: `${account}${i}` }));
        const { served, left } = serve(items, leavers);
        expect([...served].sort()).toEqual([...left].sort());
        for (const account of ACCOUNTS) {
          const own = (name: string) => name.startsWith(account);
          expect(served.filter(own)).toEqual(left.filter(own));
        }
        const twice = served.findIndex((name, i) => i > 0 && name[0] === served[i - 1]?.[0]);
        if (twice > 0) expect(new Set(served.slice(twice).map((name) => name[0])).size).toBe(1);
      }),
    );
  });
});
