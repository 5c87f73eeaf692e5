/** What one process made, another forks, keeps, pauses, and puts to sleep and wakes: two engines over one fake machine. */
import { describe, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { isWarrenError, WarrenError } from "../../src/errors.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";

interface Scene {
  readonly time: FakeClock;
  readonly world: World;
  /** Of a process that did not make the sandbox; its maker has ended. */
  readonly host: SandboxHost;
  readonly id: string;
}

async function scene(job: (scene: Scene) => Promise<void>): Promise<void> {
  const time = new FakeClock();
  const world = new World(time);
  const maker = world.engine();
  const { id } = await maker.as("local").create({ detached: true, ttlSeconds: 100, metadata: { a: "1" } });
  await world.end(maker);
  const other = world.engine();
  const host = other.as("local");
  await job({ time, world, host, id });
  for (const info of await host.list({})) await host.close({ id: info.id });
  await world.end(other);
  expect([...world.driver.machines.keys()]).toEqual([]);
  expect([...world.host.openFiles]).toEqual([]);
  expect(await world.snapshots.listImages("local")).toEqual([]);
  expect(world.errors).toEqual([]);
}

async function code(job: Promise<unknown>): Promise<string> {
  const cause = await job.then(
    () => null,
    (error: unknown) => error,
  );
  return isWarrenError(cause) ? cause.code : String(cause);
}

describe("A sandbox of another process", () => {
  test("is forked: children are detached as it is, and live no longer", async () => {
    await scene(async ({ host, id, time }) => {
      await time.advance(30_000);
      const { children } = await host.fork({ id, count: 2 });
      expect(children.map(({ parentId, detached }) => [parentId, detached])).toEqual([
        [id, true],
        [id, true],
      ]);
      expect(Date.parse(children[0]!.expiresAt!)).toBeLessThanOrEqual(time.wallMs() + 70_000);
      expect((await host.fork({ id })).children).toHaveLength(1);
      expect((await host.get({ id })).state).toBe("running");
    });
  });

  test("is kept as a snapshot", async () => {
    await scene(async ({ host, id }) => {
      const { id: snapshot, sandboxId } = await host.snapshot({ id, name: "n" });
      expect(sandboxId).toBe(id);
      const copy = await host.create({ snapshot: "n" });
      await host.close({ id: copy.id });
      await host.removeSnapshot({ id: snapshot });
    });
  });

  test("is paused and resumed, which every process sees", async () => {
    await scene(async ({ world, host, id }) => {
      await host.pause({ id });
      const third = world.engine().as("local");
      expect((await third.get({ id })).state).toBe("paused");
      expect(await code(third.processes({ id }))).toBe("wrong_state");
      await third.resume({ id });
      expect((await host.get({ id })).state).toBe("running");
      expect(await host.processes({ id })).toEqual([]);
    });
  });

  test("hibernates, is listed by everyone, and wakes in whoever calls it", async () => {
    await scene(async ({ world, host, id }) => {
      await host.hibernate({ id });
      expect([...world.driver.machines.keys()]).toEqual([]);
      const third = world.engine();
      expect((await third.as("local").list({})).map((info) => [info.id, info.state])).toEqual([[id, "hibernated"]]);
      expect(await code(third.as("other").wake({ id }))).toBe("not_found");
      expect(await third.as("local").processes({ id })).toEqual([]);
      expect((await third.as("local").get({ id })).metadata).toEqual({ a: "1" });
      await world.end(third);
      expect((await host.get({ id })).state).toBe("running");
    });
  });

  test("stays as it is when a process that looked at it, woke it or failed to ends", async () => {
    await scene(async ({ world, id }) => {
      const process = async (job: (host: SandboxHost) => Promise<unknown>) => {
        const engine = world.engine();
        await job(engine.as("local"));
        await world.end(engine);
        const after = world.engine();
        const { state } = await after.as("local").get({ id });
        await world.end(after);
        return state;
      };
      expect(await process((one) => one.hibernate({ id }))).toBe("hibernated");
      expect(await process((one) => one.hibernate({ id }))).toBe("hibernated");
      world.driver.hooks = {
        vmm: (at) => {
          if (at === "load") throw new WarrenError("driver_failed", "no load");
        },
      };
      expect(await process((one) => code(one.wake({ id })))).toBe("hibernated");
      world.driver.hooks = {};
      expect(await process((one) => one.pause({ id }))).toBe("paused");
      expect(await process((one) => one.resume({ id }))).toBe("running");
    });
  });

  test("that its maker still knows is woken by its maker too", async () => {
    const world = new World(new FakeClock());
    const maker = world.engine();
    const { id } = await maker.as("local").create({ detached: true });
    await world.engine().as("local").hibernate({ id });
    await settle();
    expect(await maker.as("local").processes({ id })).toEqual([]);
    expect((await maker.as("local").list({})).map((info) => [info.id, info.state])).toEqual([[id, "running"]]);
    expect(maker.moves.of(id).map(({ to }) => to as string)).toEqual([
      ...["creating", "running", "stopping", "deleted", "hibernated", "running"],
    ]);
    await maker.as("local").close({ id });
    expect([...world.driver.machines.keys()]).toEqual([]);
  });

  test("whose time runs out while it hibernates and nobody is there is gone", async () => {
    await scene(async ({ world, host, id, time }) => {
      await host.hibernate({ id });
      await time.advance(101_000);
      const third = world.engine().as("local");
      expect(await code(third.wake({ id }))).toBe("not_found");
      expect(await world.snapshots.listImages("local")).toEqual([]);
    });
  });

  test("whose template was baked anew is refused what needs the old one", async () => {
    await scene(async ({ world, host, id }) => {
      const record = await world.registry.get(id);
      await world.registry.put({ ...record!, base: { ...record!.base!, digest: "another" } });
      expect(await code(host.fork({ id }))).toBe("unsupported");
      expect(await host.processes({ id })).toEqual([]);
    });
  });
});
