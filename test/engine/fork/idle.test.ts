/** Idle sandboxes over fakes: what counts as use, and what becomes of one that is not used. */
import { describe, expect, test } from "bun:test";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import { isWarrenError, WarrenError } from "../../../src/errors.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";

interface Scene {
  readonly time: FakeClock;
  readonly world: World;
  readonly engine: Engine;
  readonly host: SandboxHost;
  readonly state: (id: string) => Promise<string>;
}

async function scene(job: (scene: Scene) => Promise<void>): Promise<void> {
  const time = new FakeClock();
  const world = new World(time);
  const engine = world.engine();
  const host = engine.as("local");
  await job({ time, world, engine, host, state: async (id) => (await host.get({ id })).state });
  await world.end(engine);
  world.expectNothingLeft();
  expect([...world.host.openFiles]).toEqual([]);
}

async function code(job: Promise<unknown>): Promise<string> {
  const cause = await job.then(
    () => null,
    (error: unknown) => error,
  );
  return isWarrenError(cause) ? cause.code : String(cause);
}

const SLEEPS = { idleSeconds: 60, idleAction: "hibernate" } as const;

describe("A sandbox with an idle time", () => {
  test("is closed after it, or put to sleep, as was asked; looking at it is no use, a call is", async () => {
    await scene(async ({ time, host, state }) => {
      const [closed, asleep, neither] = await Promise.all([{ idleSeconds: 60 }, SLEEPS, {}].map((o) => host.create(o)));
      expect([closed, asleep, neither].map((info) => info!.idle)).toEqual([
        { seconds: 60, action: "close" },
        { seconds: 60, action: "hibernate" },
        undefined,
      ]);
      await time.advance(59_999);
      expect([await state(closed!.id), await state(asleep!.id)]).toEqual(["running", "running"]);
      await host.list({});
      await time.advance(1);
      expect(await host.get({ id: closed!.id })).toMatchObject({ state: "deleted", reason: "nobody used it for 60 s" });
      expect(await state(asleep!.id)).toBe("hibernated");
      await time.advance(3_600_000);
      expect([await state(asleep!.id), await state(neither!.id)]).toEqual(["hibernated", "running"]);
    });
  });

  test("used at the last instant has all of its time again, after a failed call and after each wake too", async () => {
    await scene(async ({ time, host, state }) => {
      const { id } = await host.create(SLEEPS);
      for (const call of [
        () => host.processes({ id }),
        () => code(host.readFile({ id, path: "/none" })),
        () => host.pause({ id }).then(() => host.resume({ id })),
        () => host.contexts({ id }),
      ]) {
        await time.advance(59_999);
        await call();
        expect(await state(id)).toBe("running");
      }
      for (let i = 0; i < 2; i++) {
        await time.advance(59_999);
        expect(await state(id)).toBe("running");
        await time.advance(1);
        expect(await state(id)).toBe("hibernated");
        await host.processes({ id });
      }
    });
  });

  test("is in use while a stream of it is open, and while a call is under way", async () => {
    await scene(async ({ time, world, host, state }) => {
      const { id } = await host.create(SLEEPS);
      const stream = await host.exec({ id, cmd: "echo here" });
      await time.advance(600_000);
      expect(await state(id)).toBe("running");
      for await (const _ of stream); // to its end
      await time.advance(59_999);
      expect(await state(id)).toBe("running");
      const left = await host.exec({ id, cmd: "echo here" });
      await time.advance(600_000);
      await left[Symbol.asyncIterator]().return?.();
      expect(await state(id)).toBe("running");
      const { promise, resolve } = Promise.withResolvers<void>();
      world.driver.hooks = { vmm: (step) => (step === "save" ? promise : undefined) };
      const forked = host.fork({ id });
      await time.advance(600_000);
      resolve();
      expect((await forked).children).toHaveLength(1);
      await time.advance(59_999);
      expect(await state(id)).toBe("running");
      await time.advance(1);
      expect(await state(id)).toBe("hibernated");
    });
  });

  test("that is being put to sleep when a call comes is woken for it", async () => {
    await scene(async ({ time, world, host, state }) => {
      const { id } = await host.create(SLEEPS);
      const { promise, resolve } = Promise.withResolvers<void>();
      world.snapshots.saving = () => promise;
      await time.advance(60_000);
      const call = host.processes({ id });
      await time.advance(1_000);
      resolve();
      expect(await call).toEqual([]);
      expect(await state(id)).toBe("running");
    });
  });

  test("is not put to sleep while it is paused, nor looked at again once it is closed", async () => {
    await scene(async ({ time, host, state }) => {
      const [paused, closed] = [await host.create(SLEEPS), await host.create(SLEEPS)];
      await host.pause({ id: paused.id });
      await host.close({ id: closed.id });
      await time.advance(600_000);
      expect([await state(paused.id), await state(closed.id)]).toEqual(["paused", "deleted"]);
      expect(time.waiting).toBe(0);
      await host.resume({ id: paused.id });
      await time.advance(60_000);
      expect(await state(paused.id)).toBe("hibernated");
    });
  });

  test("that cannot be put to sleep goes on, and is tried again after as long", async () => {
    await scene(async ({ time, world, host, state }) => {
      const { id } = await host.create(SLEEPS);
      let tries = 0;
      world.snapshots.saving = () => {
        tries += 1;
        if (tries < 3) throw new WarrenError("storage_exhausted", "no room");
      };
      for (const expected of ["running", "running", "hibernated"]) {
        await time.advance(60_000);
        expect(await state(id)).toBe(expected);
      }
      expect(tries).toBe(3);
    });
  });

  test("passes it on to its forks, and to who wakes it in another process", async () => {
    await scene(async ({ time, world, host, state }) => {
      const { id } = await host.create({ ...SLEEPS, detached: true });
      const child = (await host.fork({ id })).children[0]!;
      await time.advance(60_000);
      expect([await state(id), await state(child.id)]).toEqual(["hibernated", "hibernated"]);
      const engine = world.engine();
      const other = engine.as("local");
      await other.processes({ id: child.id });
      expect((await other.get({ id: child.id })).state).toBe("running");
      await time.advance(60_000);
      expect((await other.get({ id: child.id })).state).toBe("hibernated");
      await other.close({ id: child.id });
      await world.end(engine);
      await host.close({ id });
      await host.close({ id: child.id });
    });
  });

  test("stays while another process is connected to it", async () => {
    await scene(async ({ time, world, host, state }) => {
      const { id } = await host.create({ ...SLEEPS, detached: true });
      const other = world.engine();
      await other.as("local").processes({ id });
      await time.advance(120_000);
      expect(await state(id)).toBe("running");
      await world.end(other);
      await time.advance(60_000);
      expect(await state(id)).toBe("hibernated");
      await host.close({ id });
    });
  });

  test("is refused when the time is missing or none", async () => {
    await scene(async ({ host }) => {
      for (const [input, field] of [
        [{ idleAction: "hibernate" }, "idleAction"],
        [{ idleSeconds: 0 }, "idleSeconds"],
        [{ idleSeconds: 60, idleAction: "forget" }, "idleAction"],
      ] as const) {
        const cause = await host.create(input as object).catch((error: unknown) => error);
        expect(isWarrenError(cause, "invalid_request") && cause.message).toContain(field);
      }
    });
  });
});
