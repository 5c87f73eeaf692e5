/** A create that fails or is aborted at any step leaves nothing, on every path. */
import { describe, expect, test } from "bun:test";
import type { GuestFault, GuestStep, VmmStep } from "../../src/driver/fake.ts";
import type { EngineOptions } from "../../src/engine/create/options.ts";
import { WarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { fails } from "../suites/sandbox/subject.ts";

type Path = "none" | "prepared" | "ready";
const OPTIONS: Record<Path, EngineOptions> = { none: {}, prepared: { prepared: 1 }, ready: { ready: 1 } };
const PATHS = Object.keys(OPTIONS) as Path[];

/** An engine whose next create takes this path; the hooks are set afterwards. */
async function poised(path: Path) {
  const clock = new FakeClock();
  const world = new World(clock);
  const engine = world.engine(OPTIONS[path]);
  if (path !== "none") expect(await engine.prepare()).toBe(1);
  return { clock, world, engine, host: engine.as("local") };
}

/** Steps that a create on this path still takes. */
const VMM_STEPS: Record<Path, readonly VmmStep[]> = {
  none: ["prepare", "load", "resume", "connect"],
  prepared: ["load", "resume", "connect"],
  ready: ["resume"],
};
const GUEST_STEPS: Record<Path, readonly GuestStep[]> = {
  none: ["hello", "identity"],
  prepared: ["hello", "identity"],
  ready: ["identity"],
};

describe.each(PATHS)("Engine.create over the path %s", (path) => {
  test("succeeds, and says which path it took", async () => {
    const { world, engine, host } = await poised(path);
    const { id, createPath, state } = await host.create({});
    expect([createPath, state]).toEqual([path, "running"]);
    await host.close({ id });
    await engine.close();
    world.expectNothingLeft();
  });

  test.each(VMM_STEPS[path])("gives everything back when %s fails", async (step) => {
    const { world, engine, host } = await poised(path);
    world.driver.hooks = {
      vmm: (at) => {
        if (at === step) throw new WarrenError("driver_failed", `${step} failed`);
      },
    };
    expect((await fails("driver_failed", host.create({}))).message).toContain("failed");
    await engine.close();
    world.expectNothingLeft();
    expect(engine.load()).toEqual({ waiting: 0, pooled: 0 });
  });

  test.each(VMM_STEPS[path])("gives everything back when it is aborted during %s", async (step) => {
    const { world, engine, host } = await poised(path);
    const abort = new AbortController();
    world.driver.hooks = {
      vmm: (at) => {
        if (at === step) abort.abort();
      },
    };
    await fails("cancelled", host.create({}, { signal: abort.signal }));
    await engine.close();
    world.expectNothingLeft();
  });

  const faults: GuestFault[] = ["silence", "garbage", "exit", "refuse"];
  test.each(GUEST_STEPS[path].flatMap((step) => faults.map((fault) => [step, fault] as const)))(
    "fails closed when the guest answers %s with %s",
    async (step, fault) => {
      const { clock, world, engine, host } = await poised(path);
      world.driver.hooks = { guest: (at) => (at === step ? fault : "answer") };
      const outcome = host.create({}).then(
        () => "running",
        (error: unknown) => error,
      );
      // Twice: a pooled clone that failed is followed by a fresh one, and that fails the same way.
      await clock.advance(2 * (LIMITS.guestHelloMs + LIMITS.guestIdentityMs));
      const error = await outcome;
      expect(error).toBeInstanceOf(WarrenError);
      expect(["driver_failed", "guest_unresponsive", "guest_protocol", "sandbox_lost"]).toContain(
        (error as WarrenError).code,
      );
      const failed = await host.list({ state: "failed" });
      expect(failed.length).toBe(1);
      await engine.close();
      world.expectNothingLeft();
    },
  );

  test("gives everything back when it is aborted during the guest's hello or identity", async () => {
    for (const step of GUEST_STEPS[path]) {
      const { world, engine, host } = await poised(path);
      const abort = new AbortController();
      world.driver.hooks = {
        guest: (at) => {
          if (at === step) abort.abort();
          return at === step ? "silence" : "answer";
        },
      };
      await fails("cancelled", host.create({}, { signal: abort.signal }));
      await engine.close();
      world.expectNothingLeft();
    }
  });

  test("gives everything back when it is aborted at the very last", async () => {
    const { world, engine, host } = await poised(path);
    const abort = new AbortController();
    const put = world.registry.put.bind(world.registry);
    world.registry.put = (record) => {
      abort.abort();
      return put(record);
    };
    await fails("cancelled", host.create({}, { signal: abort.signal }));
    expect(await host.list({})).toEqual([]);
    await engine.close();
    world.expectNothingLeft();
  });

  test("gives everything back when the register cannot be written", async () => {
    const { world, engine, host } = await poised(path);
    world.registry.put = () => Promise.reject(new WarrenError("storage_exhausted", "no space"));
    await fails("storage_exhausted", host.create({}));
    await engine.close();
    world.expectNothingLeft();
  });
});

describe("Engine.create", () => {
  test("gives everything back when the lease fails, and reports it as it is", async () => {
    const { world, engine, host } = await poised("none");
    world.host.hooks = { lease: () => Promise.reject(new WarrenError("storage_exhausted", "no space for a clone")) };
    await fails("storage_exhausted", host.create({}));
    await engine.close();
    world.expectNothingLeft();
  });

  test("makes a failure that is none of ours a driver's failure with its cause", async () => {
    const { engine, host, world } = await poised("none");
    world.host.hooks = { lease: () => Promise.reject(new TypeError("x is not a function")) };
    const error = await fails("driver_failed", host.create({}));
    expect(error.message).not.toContain("x is not");
    expect(error.cause).toBeInstanceOf(TypeError);
    await engine.close();
  });

  test("uses a fresh clone when the pooled one has died unseen", async () => {
    for (const path of ["prepared", "ready"] as const) {
      const { world, engine, host } = await poised(path);
      let broken = true;
      world.driver.hooks = {
        vmm: (step) => {
          if (!broken || step !== (path === "ready" ? "resume" : "load")) return;
          broken = false;
          throw new WarrenError("driver_failed", "it died while it waited");
        },
      };
      const { createPath, id } = await host.create({});
      expect(createPath).toBe("none");
      await host.close({ id });
      await engine.close();
      world.expectNothingLeft();
    }
  });

  test("does not wait for a template that is baked for another", async () => {
    const { world, engine, host } = await poised("none");
    const baking = Promise.withResolvers<void>();
    world.templates.opening = ({ name }) => (name === "base" ? undefined : baking.promise);
    const slow = host.create({ template: "code-interpreter" });
    await settle();
    expect((await host.create({})).state).toBe("running");
    baking.resolve();
    await slow;
    await engine.close();
    world.expectNothingLeft();
  });
});
