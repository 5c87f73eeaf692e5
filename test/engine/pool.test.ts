/** The pool: filled off the critical path, decaying, never shared, counted. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { EngineOptions } from "../../src/engine/create/options.ts";
import { REFILL_AFTER_MS } from "../../src/engine/create/pool.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { until } from "../harness/until.ts";

let clock: FakeClock;
let world: World;
let engine: Engine;
let host: SandboxHost;

function start(options: EngineOptions): void {
  engine = world.engine(options);
  host = engine.as("local");
}

beforeEach(() => {
  clock = new FakeClock();
  world = new World(clock);
});

afterEach(async () => {
  await engine.close();
  world.expectNothingLeft();
});

async function filled(count: number): Promise<void> {
  await clock.advance(REFILL_AFTER_MS);
  await until(`${count} in the pool`, () => engine.load().pooled === count);
}

describe("Pool", () => {
  test("fills after a create, and the next create takes from it", async () => {
    start({ prepared: 2 });
    expect((await host.create({})).createPath).toBe("none");
    await filled(2);
    expect(world.driver.machines.size).toBe(3);
    expect((await host.create({})).createPath).toBe("prepared");
    await filled(2);
  });

  test("leaves the host's cores to whoever has just got a sandbox", async () => {
    start({ prepared: 1 });
    await host.create({});
    await clock.advance(REFILL_AFTER_MS - 1);
    expect([engine.load().pooled, world.driver.machines.size]).toEqual([0, 1]);
    await clock.advance(1);
    expect([engine.load().pooled, world.driver.machines.size]).toEqual([1, 2]);
  });

  test("gives no clone to two creates", async () => {
    start({ prepared: 2, ready: 3 });
    await engine.prepare();
    const made = await Promise.all(Array.from({ length: 12 }, () => host.create({})));
    expect(new Set(made.map((info) => info.id)).size).toBe(12);
    const paths = made.map((info) => info.createPath);
    expect(paths.filter((p) => p === "ready").length).toBe(3);
    expect(paths.filter((p) => p === "prepared").length).toBe(2);
  });

  test("decays to nothing when its template is not used", async () => {
    start({ prepared: 2, preparedIdleMs: 1000 });
    const { id } = await host.create({});
    await filled(2);
    await clock.advance(900 - REFILL_AFTER_MS);
    await host.create({});
    await filled(2);
    await clock.advance(900 - REFILL_AFTER_MS);
    expect(engine.load().pooled).toBe(2);
    await clock.advance(100);
    expect(engine.load().pooled).toBe(0);
    await host.close({ id });
    expect(world.driver.machines.size).toBe(1);
  });

  test("does not fill while a create waits or is being made", async () => {
    const gate = Promise.withResolvers<void>();
    let prepares = 0;
    world.driver.hooks = {
      vmm: (step) => (step === "prepare" && prepares++ === 1 ? gate.promise : undefined),
    };
    start({ prepared: 2 });
    const { id } = await host.create({ cpu: 32 });
    await clock.advance(REFILL_AFTER_MS);
    const waiting = host.create({ cpu: 32 });
    await settle();
    expect([prepares, engine.load().waiting]).toEqual([2, 1]);
    gate.resolve();
    await settle();
    // The one that was under way is kept; no other is begun.
    expect(engine.load()).toEqual({ waiting: 1, pooled: 1 });
    await host.close({ id });
    expect((await waiting).createPath).toBe("prepared");
    await filled(2);
  });

  test("keeps sizes apart", async () => {
    start({ prepared: 1 });
    await host.create({});
    await filled(1);
    expect((await host.create({ memoryMb: 256 })).createPath).toBe("none");
    await filled(2);
  });

  test("never gives a prepared clone to a detached create", async () => {
    start({ prepared: 1 });
    await engine.prepare();
    const info = await host.create({ detached: true });
    expect([info.createPath, world.driver.machines.get(info.id)?.plan.jail.detached]).toEqual(["none", true]);
    await host.close({ id: info.id });
  });

  test("moves the deadline of a pooled clone when it gets its user", async () => {
    start({ prepared: 1 });
    await engine.prepare();
    const { id, createPath } = await host.create({ ttlSeconds: 7 });
    expect(createPath).toBe("prepared");
    const deadlineNs = world.driver.machines.get(id)?.deadlineNs ?? 0n;
    expect(deadlineNs - world.host.bootTimeNs()).toBe(7_000_000_000n);
  });

  test("rehearses a ready clone, and leaves it paused without a trace", async () => {
    world.templates.warm = true;
    const steps: string[] = [];
    world.driver.hooks = {
      vmm: (step) => void steps.push(step),
      guest: (step) => {
        steps.push(step);
        return "answer";
      },
    };
    start({ ready: 1 });
    await engine.prepare();
    const twice = ["identity", "exec", "identity", "exec"];
    expect(steps).toEqual(["prepare", "load", "resume", "connect", "hello", "ping", ...twice, "pause"]);
    const { id } = await host.create({});
    expect((await host.listDirectory({ id, path: "/tmp" })).length).toBe(0);
    expect(await host.processes({ id })).toEqual([]);
  });

  test("counts the memory of ready clones, and sheds them for a create that lacks it", async () => {
    world.templates.workingSetMib = 100;
    world.host.room = { memoryAvailableMib: LIMITS.hostReserveMib + 250 };
    start({ ready: 2 });
    expect(await engine.prepare()).toBe(2);
    const other = await host.create({ template: "code-interpreter" });
    expect([other.createPath, engine.load().pooled]).toEqual(["none", 1]);
    // The one that is left is used without being counted a second time.
    expect((await host.create({})).createPath).toBe("ready");
  });

  test("does not take memory that creates may need", async () => {
    world.templates.workingSetMib = 100;
    world.host.room = { memoryAvailableMib: LIMITS.hostReserveMib + 150 };
    start({ ready: 4 });
    expect(await engine.prepare()).toBe(1);
  });

  test("drops a clone whose VMM ended while it waited", async () => {
    start({ prepared: 1 });
    await engine.prepare();
    for (const vmm of world.driver.machines.values()) vmm.die({ reason: "vmm_exit", signal: 9 });
    await settle();
    expect(engine.load().pooled).toBe(0);
    expect((await host.create({})).createPath).toBe("none");
    await filled(1);
  });

  test("that is being filled when its engine closes leaves nothing", async () => {
    for (const options of [{ prepared: 2 }, { ready: 2 }]) {
      start(options);
      const gate = Promise.withResolvers<void>();
      world.driver.hooks = { vmm: (step) => (step === "prepare" ? gate.promise : undefined) };
      const filling = engine.prepare();
      await settle();
      const closing = engine.close();
      gate.resolve();
      await closing;
      expect([await filling, engine.load().pooled]).toEqual([0, 0]);
    }
  });

  test("that cannot be filled leaves creates alone", async () => {
    let prepares = 0;
    start({ prepared: 2 });
    const { id } = await host.create({});
    await filled(2);
    world.driver.hooks = {
      vmm: (step) => {
        if (step === "prepare" && prepares++ > 0) throw new Error("no more processes");
      },
    };
    for (let i = 0; i < 3; i++) await host.create({});
    expect(engine.load().pooled).toBe(0);
    await host.close({ id });
  });
});
