/** Forks over fakes: all children or none, whatever fails, and nothing left of what was taken. */
import { describe, expect, test } from "bun:test";
import { isWarrenError, WarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";

const clock = (): FakeClock => new FakeClock();

async function refusal(job: Promise<unknown>): Promise<WarrenError> {
  const cause = await job.then(
    () => null,
    (error: unknown) => error,
  );
  if (!isWarrenError(cause)) throw new Error(`no typed refusal: ${String(cause)}`);
  return cause;
}

describe("Engine.fork", () => {
  test("gives children of their own identity, with the parent's defaults and at most its time", async () => {
    const time = clock();
    const world = new World(time);
    const engine = world.engine();
    const host = engine.as("local");
    const parent = await host.create({ ttlSeconds: 100, metadata: { a: "1" } });
    await time.advance(40_000);
    const { children, parentId } = await host.fork({ id: parent.id, count: 3, metadata: { b: "2" } });
    expect(parentId).toBe(parent.id);
    expect(new Set(children.map(({ id }) => id)).size).toBe(3);
    for (const child of children) {
      expect(child).toMatchObject({ parentId: parent.id, state: "running", metadata: { a: "1", b: "2" } });
      expect(Date.parse(child.expiresAt!)).toBeLessThanOrEqual(Date.parse(parent.expiresAt!));
    }
    expect((await host.get({ id: parent.id })).state).toBe("running");
    const narrower = await host.fork({ id: parent.id, ttlSeconds: 10 });
    expect(Date.parse(narrower.children[0]!.expiresAt!)).toBe(time.wallMs() + 10_000);
    const wider = await refusal(host.fork({ id: parent.id, ttlSeconds: 61 }));
    expect(wider.code).toBe("invalid_request");
    expect(wider.message).toContain("ttlSeconds");
    await world.end(engine);
    world.expectNothingLeft();
    expect([...world.host.openFiles]).toEqual([]);
  });

  test("gives a child that waited for its room the parent's end all the same", async () => {
    const time = clock();
    const world = new World(time);
    world.host.room = { cores: 1 };
    const engine = world.engine({ vcpusPerCore: 2 });
    const host = engine.as("local");
    const parent = await host.create({ ttlSeconds: 100 });
    const other = await host.create({});
    const forked = host.fork({ id: parent.id });
    await time.advance(20_000);
    await host.close({ id: other.id });
    const { children } = await forked;
    expect(children[0]).toMatchObject({ expiresAt: parent.expiresAt });
    await time.advance(80_000);
    for (const { id } of [parent, ...children]) expect((await host.get({ id })).state).toBe("deleted");
    await world.end(engine);
    world.expectNothingLeft();
  });

  test("refuses what is no count, no sandbox and no longer one", async () => {
    const world = new World(clock());
    const engine = world.engine();
    const host = engine.as("local");
    const { id } = await host.create({});
    for (const count of [0, 1000, 1.5]) {
      expect((await refusal(host.fork({ id, count }))).message).toContain("count");
    }
    expect((await refusal(host.fork({ id: "sb_none" }))).code).toBe("not_found");
    expect((await refusal(engine.as("other").fork({ id }))).code).toBe("not_found");
    await host.close({ id });
    expect((await refusal(host.fork({ id }))).code).toBe("wrong_state");
    await world.end(engine);
    world.expectNothingLeft();
  });

  for (const step of ["pause", "capture", "save", "resume"] as const) {
    test(`leaves the parent and nothing else when ${step} fails`, async () => {
      const world = new World(clock());
      const engine = world.engine();
      const host = engine.as("local");
      const { id } = await host.create({});
      let failures = 1;
      world.driver.hooks = {
        vmm: (at) => {
          if (at === step && failures-- > 0) throw new WarrenError("driver_failed", `no ${step}`);
        },
      };
      expect((await refusal(host.fork({ id, count: 2 }))).message).toContain(`no ${step}`);
      expect((await host.list({})).map((info) => info.id)).toEqual([id]);
      expect((await host.fork({ id })).children).toHaveLength(1);
      // Nobody knows what an unanswered capture did: the next one takes all that differs from the template.
      const next: "last"[] = step === "pause" ? [] : ["last"];
      expect(world.driver.machines.get(id)?.captures).toEqual(
        step === "capture" ? ["last", "base"] : [...next, "last"],
      );
      await world.end(engine);
      world.expectNothingLeft();
      expect([...world.host.openFiles]).toEqual([]);
    });
  }

  test("makes no child when one cannot be made, and the parent goes on", async () => {
    const world = new World(clock());
    const engine = world.engine();
    const host = engine.as("local");
    const { id } = await host.create({});
    let prepared = 0;
    world.driver.hooks = {
      vmm: (at) => {
        if (at === "prepare" && ++prepared === 3) throw new WarrenError("driver_failed", "no third");
      },
    };
    expect((await refusal(host.fork({ id, count: 4 }))).message).toContain("no third");
    world.driver.hooks = {};
    expect((await host.list({})).map((info) => info.id)).toEqual([id]);
    await world.end(engine);
    world.expectNothingLeft();
    expect([...world.host.openFiles]).toEqual([]);
  });

  test("takes one checkpoint after the other and merges their layers before they are too many", async () => {
    const world = new World(clock());
    const engine = world.engine();
    const host = engine.as("local");
    const { id } = await host.create({});
    let deepest = 0;
    for (let i = 0; i < 3 * LIMITS.layerDepth; i++) {
      const [a, b] = await Promise.all([host.fork({ id }), host.fork({ id })]);
      for (const { plan } of world.driver.machines.values()) {
        if (plan.memory.kind === "image") deepest = Math.max(deepest, plan.memory.image.layerFds.length);
      }
      for (const { children } of [a, b]) for (const child of children) await host.close({ id: child.id });
    }
    expect(deepest).toBeGreaterThan(2);
    expect(deepest).toBeLessThanOrEqual(LIMITS.layerDepth + 1);
    await world.end(engine);
    world.expectNothingLeft();
    expect([...world.host.openFiles]).toEqual([]);
  });

  test("holds no more files of a parent that is forked again and again than children may stand on", async () => {
    const world = new World(clock());
    const engine = world.engine();
    const host = engine.as("local");
    const { id } = await host.create({});
    let most = 0;
    for (let i = 0; i < 5 * LIMITS.layerDepth; i++) {
      const { children } = await host.fork({ id });
      await host.close({ id: children[0]!.id });
      most = Math.max(most, world.host.openFiles.size);
    }
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(LIMITS.layerDepth);
    await world.end(engine);
    expect([...world.host.openFiles]).toEqual([]);
  });
});

describe("Engine.pause", () => {
  test("stops a sandbox, which then refuses calls until it is resumed; twice is fine; its time goes on", async () => {
    const time = clock();
    const world = new World(time);
    const engine = world.engine();
    const host = engine.as("local");
    const { id } = await host.create({ ttlSeconds: 100 });
    await host.pause({ id });
    await host.pause({ id });
    expect((await host.get({ id })).state).toBe("paused");
    expect((await refusal(host.processes({ id }))).message).toContain("resume it first");
    expect((await host.fork({ id })).children[0]!.state).toBe("running");
    expect((await host.get({ id })).state).toBe("paused");
    await host.resume({ id });
    await host.resume({ id });
    expect(await host.processes({ id })).toEqual([]);
    const moves = engine.moves.of(id).map(({ to }) => to);
    expect(moves).toEqual(["creating", "running", "paused", "running"]);
    await host.pause({ id });
    await time.advance(100_000);
    expect((await host.get({ id })).state).toBe("deleted");
    await world.end(engine);
    world.expectNothingLeft();
  });
});
