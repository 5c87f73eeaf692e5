/** How long a sandbox lives, changed while it does; and what is told of its use. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { CallOptions } from "../../../src/contract/route.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import { parseGuest } from "../../../src/engine/life/metrics.ts";
import { LIMITS } from "../../../src/limits.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";
import { fails } from "../../suites/sandbox/subject.ts";

let clock: FakeClock;
let world: World;
let engine: Engine;
let host: SandboxHost;

beforeEach(() => {
  clock = new FakeClock();
  world = new World(clock);
  engine = world.engine();
  host = engine.as("local");
});

afterEach(async () => {
  const closing = engine.close();
  await clock.advance(LIMITS.lostGraceMs);
  await closing;
  expect(clock.waiting).toBe(0);
  world.expectNothingLeft();
});

const stateOf = async (id: string) => (await host.get({ id })).state;

describe("A sandbox's lifetime", () => {
  test("is read as it was asked for", async () => {
    const { id } = await host.create({ ttlSeconds: 60, idleSeconds: 30, idleAction: "hibernate" });
    await clock.advance(5_000);
    expect(await host.lifecycle({ id })).toMatchObject({
      ttlSeconds: 60,
      persistent: true,
      idleTimeoutSeconds: 30,
      idleSeconds: 5,
    });
    const plain = await host.create({});
    expect(await host.lifecycle({ id: plain.id })).toMatchObject({
      ttlSeconds: null,
      persistent: true,
      expiresAt: null,
    });
  });

  test("is made longer: it lives past its first end and ends at the second", async () => {
    const { id } = await host.create({ ttlSeconds: 60 });
    await clock.advance(50_000);
    expect((await host.setLifecycle({ id, ttlSeconds: 60 })).ttlSeconds).toBe(110);
    await clock.advance(59_000);
    expect(await stateOf(id)).toBe("running");
    await clock.advance(2_000);
    expect(await stateOf(id)).toBe("deleted");
  });

  test("is made shorter, and taken away", async () => {
    const { id } = await host.create({});
    await host.setLifecycle({ id, ttlSeconds: 10 });
    expect(world.driver.machines.get(id)?.deadlineNs).not.toBeNull();
    await host.setLifecycle({ id, ttlSeconds: null });
    expect(world.driver.machines.get(id)?.deadlineNs).toBeNull();
    await clock.advance(60_000);
    expect(await stateOf(id)).toBe("running");
    await host.setLifecycle({ id, ttlSeconds: 10 });
    await clock.advance(11_000);
    expect(await stateOf(id)).toBe("deleted");
  });

  test("holds for what hibernates, when it was changed before", async () => {
    const { id } = await host.create({ ttlSeconds: 1000 });
    await host.setLifecycle({ id, ttlSeconds: 20 });
    await host.hibernate({ id });
    await clock.advance(21_000);
    expect(await stateOf(id)).toBe("deleted");
  });

  test("is told to the register, where other processes read it", async () => {
    const { id } = await host.create({ detached: true, ttlSeconds: 1000 });
    const { expiresAt } = await host.setLifecycle({ id, ttlSeconds: 2000, persistent: true });
    const record = await world.registry.get(id);
    expect(record?.info.expiresAt).toBe(expiresAt);
    expect(record?.info.idle).toEqual({ seconds: LIMITS.idleSecondsDefault, action: "hibernate" });
    await host.close({ id });
  });

  test("idleness gets a consequence, another one, and none again", async () => {
    const { id } = await host.create({ ttlSeconds: 10_000 });
    expect(await host.setLifecycle({ id, idleTimeoutSeconds: 10 })).toMatchObject({ persistent: false });
    expect(await host.setLifecycle({ id, persistent: true })).toMatchObject({
      persistent: true,
      idleTimeoutSeconds: 10,
    });
    await clock.advance(11_000);
    expect(await stateOf(id)).toBe("hibernated");
    expect(await host.setLifecycle({ id, idleTimeoutSeconds: null })).toMatchObject({ idleTimeoutSeconds: null });
    await clock.advance(60_000);
    expect(await stateOf(id)).toBe("running");
    expect(await host.setLifecycle({ id, idleTimeoutSeconds: 5 })).toMatchObject({ persistent: false });
    await clock.advance(6_000);
    expect(await stateOf(id)).toBe("deleted");
  });

  test("a change of one that is not there, or with values out of bounds, says so", async () => {
    await fails("not_found", host.setLifecycle({ id: "sb_none", ttlSeconds: 5 }));
    const { id } = await host.create({});
    await fails("invalid_request", host.setLifecycle({ id, ttlSeconds: 0 }));
    await fails("invalid_request", host.setLifecycle({ id, ttlSeconds: LIMITS.ttlSecondsMax + 1 }));
    await fails("not_found", engine.as("other").setLifecycle({ id, ttlSeconds: 5 }));
    await fails("not_found", engine.as("other").metrics({ id }));
  });
});

describe("A listing", () => {
  test("goes on after a cursor, also of one that has ended, and tells each once", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 7; i++) {
      ids.push((await host.create({ metadata: { parity: String(i % 2), all: "yes" } })).id);
      await clock.advance(i % 3); // some in the same millisecond
    }
    const seen: string[] = [];
    let after: string | undefined;
    for (;;) {
      const page = await host.list({ limit: 2, ...(after !== undefined && { after }) });
      seen.push(...page.map(({ id }) => id));
      const last = page.at(-1);
      if (last === undefined) break;
      after = `${last.createdAt}/${last.id}`;
    }
    expect(seen).toEqual(ids.toReversed());
    const odd = await host.list({ metadata: { parity: "1", all: "yes" } });
    expect(odd.map(({ id }) => id)).toEqual(ids.filter((_, i) => i % 2 === 1).toReversed());
  });

  test("goes on after one that has ended meanwhile", async () => {
    const first = await host.create({});
    await clock.advance(1);
    const second = await host.create({});
    await host.close({ id: second.id });
    const page = await host.list({ after: `${second.createdAt}/${second.id}` });
    expect(page.map(({ id }) => id)).toEqual([first.id]);
  });
});

describe("A create", () => {
  test("tells its id and size before its first move, and leaves nothing when it is refused then", async () => {
    const told: string[] = [];
    engine.moves.subscribe(({ sandbox, to }) => told.push(`${sandbox} ${to}`));
    const began: CallOptions["began"] = (each, { template, cpu, memoryMb }) =>
      told.push(`${each} ${template} ${cpu} ${memoryMb}`);
    const { id, template, cpu, memoryMb } = await host.create({}, { began });
    expect(told.slice(0, 2)).toEqual([`${id} ${template} ${cpu} ${memoryMb}`, `${id} creating`]);
    const stop = new AbortController();
    await expect(
      host.create({}, { signal: stop.signal, began: () => stop.abort(new Error("over quota")) }),
    ).rejects.toMatchObject({ code: "cancelled" });
    const children: string[] = [];
    const fork = await host.fork({ id, count: 3 }, { began: (each) => children.push(each) });
    expect(children.toSorted()).toEqual(fork.children.map((child) => child.id).toSorted());
  });
});

describe("A pool for detached sandboxes", () => {
  test("gives them prepared clones, which end without their maker, and others none", async () => {
    engine = world.engine({ prepared: 1, detachedPool: true });
    host = engine.as("local");
    expect(await engine.prepare()).toBe(1);
    const [waiting] = world.driver.machines.values();
    const first = waiting?.deadlineNs ?? null;
    expect(first).not.toBeNull();
    await clock.advance(LIMITS.pooledLifeMs / 2 + 1);
    expect(engine.load().pooled).toBe(0); // its template was idle for too long
    await engine.prepare();
    const bound = await host.create({});
    expect(bound.createPath).toBe("none");
    await engine.prepare();
    const { id, createPath } = await host.create({ detached: true });
    expect(createPath).toBe("prepared");
    expect(world.driver.machines.get(id)?.deadlineNs).toBeNull();
    await host.close({ id });
  });
});

describe("What a guest says of itself", () => {
  test("is read where it makes sense, and nothing is made of the rest", () => {
    const text = `cpu  100 5 20 9000 10 1 2 0 0 0
cpu0 50 5 10 4500 5 1 1 0 0 0
MemTotal:         501234 kB
MemAvailable:     400000 kB
Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/vda           2000000  500000   1400000      27% /
`;
    expect(parseGuest(text)).toEqual({
      guestCpuMs: 1280,
      guestMemoryTotalBytes: 501234 * 1024,
      guestMemoryAvailableBytes: 400000 * 1024,
      guestDiskTotalBytes: 2000000 * 1024,
      guestDiskFreeBytes: 1400000 * 1024,
    });
    const nothing = { guestCpuMs: null, guestMemoryTotalBytes: null, guestDiskFreeBytes: null };
    expect(parseGuest("")).toMatchObject(nothing);
    expect(parseGuest(`MemTotal: ${"9".repeat(40)} kB\ncpu  ${"9".repeat(40)} 1 1 1 1 1 1`)).toMatchObject(nothing);
  });
});
