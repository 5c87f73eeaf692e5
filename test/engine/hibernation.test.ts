/** Hibernation over fakes: one image, woken once, used up before the guest runs, and nothing left whatever fails. */
import { describe, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { isWarrenError, WarrenError } from "../../src/errors.ts";
import { fold, NOTHING } from "../../src/meter/fold.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";

interface Scene {
  readonly time: FakeClock;
  readonly world: World;
  readonly engine: Engine;
  readonly host: SandboxHost;
}

async function scene(job: (scene: Scene) => Promise<void>): Promise<void> {
  const time = new FakeClock();
  const world = new World(time);
  const engine = world.engine();
  await job({ time, world, engine, host: engine.as("local") });
  await world.end(engine);
  world.expectNothingLeft();
  expect([...world.host.openFiles]).toEqual([]);
  expect(await world.snapshots.listImages("local")).toEqual([]);
}

async function code(job: Promise<unknown>): Promise<string> {
  const cause = await job.then(
    () => null,
    (error: unknown) => error,
  );
  return isWarrenError(cause) ? cause.code : String(cause);
}

describe("Engine.hibernate", () => {
  test("leaves no machine; any call wakes it, and it is the same sandbox", async () => {
    await scene(async ({ world, host, engine }) => {
      const { id } = await host.create({ metadata: { a: "1" } });
      await host.hibernate({ id });
      await host.hibernate({ id });
      expect((await host.get({ id })).state).toBe("hibernated");
      expect([...world.driver.machines.keys()]).toEqual([]);
      expect([...world.host.lent.keys()]).toEqual([]);
      expect(await host.processes({ id })).toEqual([]);
      expect(await host.get({ id })).toMatchObject({ id, state: "running", metadata: { a: "1" } });
      await host.wake({ id });
      expect(engine.moves.of(id).map(({ to }) => to)).toEqual(["creating", "running", "hibernated", "running"]);
      await host.pause({ id });
      await host.hibernate({ id });
      expect((await host.fork({ id })).children).toHaveLength(1);
    });
  });

  test("is woken once, however many call at once", async () => {
    await scene(async ({ world, host }) => {
      const { id } = await host.create({});
      await host.hibernate({ id });
      const made = world.host.made;
      await Promise.all([host.wake({ id }), host.processes({ id }), host.processes({ id }), host.wake({ id })]);
      expect(world.host.made).toBe(made + 1);
    });
  });

  test("ends the calls under way, and says that it did; the sandbox has not ended", async () => {
    await scene(async ({ host }) => {
      const { id } = await host.create({});
      const run = async (): Promise<void> => {
        for await (const _ of await host.exec({ id, cmd: "sleep 1000" }));
      };
      const slept = code(run());
      await host.processes({ id });
      await host.hibernate({ id });
      expect(await slept).toBe("wrong_state");
      const woken = code(run());
      await host.processes({ id });
      await host.hibernate({ id });
      await host.wake({ id });
      expect(await woken).toBe("wrong_state");
    });
  });

  test("ends by close and by its time, with its image", async () => {
    await scene(async ({ time, world, host }) => {
      const one = await host.create({});
      const two = await host.create({ ttlSeconds: 60 });
      await Promise.all([host.hibernate({ id: one.id }), host.hibernate({ id: two.id })]);
      expect(await world.snapshots.listImages("local")).toHaveLength(2);
      await host.close({ id: one.id });
      await time.advance(60_000);
      expect(await world.snapshots.listImages("local")).toEqual([]);
      for (const { id } of [one, two]) expect((await host.get({ id })).state).toBe("deleted");
      expect(await code(host.wake({ id: one.id }))).toBe("wrong_state");
    });
  });

  test("keeps the time that it has left over a wake", async () => {
    await scene(async ({ time, host }) => {
      const { id } = await host.create({ ttlSeconds: 100 });
      await host.hibernate({ id });
      await time.advance(70_000);
      await host.wake({ id });
      await time.advance(29_000);
      expect((await host.get({ id })).state).toBe("running");
      await time.advance(1_000);
      expect((await host.get({ id })).state).toBe("deleted");
    });
  });

  test("charges neither vCPU nor memory while it sleeps", async () => {
    await scene(async ({ time, host, engine }) => {
      const { id } = await host.create({ cpu: 1, memoryMb: 512 });
      await time.advance(1_000);
      await host.hibernate({ id });
      await time.advance(50_000);
      await host.wake({ id });
      await time.advance(2_000);
      await host.close({ id });
      expect(fold(engine.moves.of(id))).toEqual({
        ...NOTHING,
        vcpu_ms: 3_000n,
        memory_mib_ms: 3_000n * 512n,
        creates: 1n,
      });
    });
  });

  for (const running of [true, false]) {
    test(`goes on as it was (${running ? "running" : "paused"}) when its image cannot be written`, async () => {
      await scene(async ({ world, host }) => {
        const { id } = await host.create({});
        if (!running) await host.pause({ id });
        world.snapshots.saving = () => {
          throw new WarrenError("storage_exhausted", "no room");
        };
        expect(await code(host.hibernate({ id }))).toBe("storage_exhausted");
        expect((await host.get({ id })).state).toBe(running ? "running" : "paused");
        await host.resume({ id });
        expect(await host.processes({ id })).toEqual([]);
      });
    });
  }

  test("stays hibernated when a wake fails before its guest runs, and is lost when it fails after", async () => {
    await scene(async ({ world, host }) => {
      const { id } = await host.create({});
      await host.hibernate({ id });
      for (const step of ["prepare", "load"]) {
        world.driver.hooks = {
          vmm: (at) => {
            if (at === step) throw new WarrenError("driver_failed", `no ${step}`);
          },
        };
        expect(await code(host.wake({ id }))).toBe("driver_failed");
        expect((await host.get({ id })).state).toBe("hibernated");
      }
      world.driver.hooks = {};
      await host.wake({ id });
      await host.hibernate({ id });
      world.driver.hooks = {
        vmm: (at) => {
          if (at === "connect") throw new WarrenError("driver_failed", "no connect");
        },
      };
      expect(await code(host.wake({ id }))).toBe("driver_failed");
      expect((await host.get({ id })).state).toBe("failed");
      world.driver.hooks = {};
    });
  });

  test("that is closed while its image is written leaves none", async () => {
    await scene(async ({ world, host }) => {
      const { id } = await host.create({});
      const reached = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      world.snapshots.saving = async () => {
        reached.resolve();
        await goOn.promise;
      };
      const asleep = host.hibernate({ id });
      await reached.promise;
      const closed = host.close({ id });
      goOn.resolve();
      expect(await code(asleep)).toBe("wrong_state");
      await closed;
      expect((await host.get({ id })).state).toBe("deleted");
    });
  });
});

describe("A wake that is not admitted", () => {
  test("is refused with the reason, whatever call asked for it, and the sandbox sleeps on", async () => {
    await scene(async ({ world }) => {
      let full = true;
      const admitWake = async (account: string, { id }: { readonly id: string }) => {
        if (full) throw new WarrenError("quota_exceeded", `${account} has no room for ${id}`);
      };
      const engine = world.engine({ admitWake });
      const host = engine.as("local");
      const { id } = await host.create({});
      await host.hibernate({ id });
      expect(await code(host.wake({ id }))).toBe("quota_exceeded");
      expect(await code(host.processes({ id }))).toBe("quota_exceeded");
      expect((await host.get({ id })).state).toBe("hibernated");
      full = false;
      await host.wake({ id });
      expect((await host.get({ id })).state).toBe("running");
      await world.end(engine);
    });
  });
});
