/** What the engine tells of what it holds for somebody: ready clones, builds, templates. */
import { expect, test } from "bun:test";
import { REFILL_AFTER_MS } from "../../../src/engine/create/pool.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";

test("A ready clone is held from when it waits until somebody takes it, by its nominal memory", async () => {
  const clock = new FakeClock();
  const world = new World(clock);
  await using engine = world.engine({ ready: 1, poolAccount: "ops" });
  const rows = () => engine.storage.all().filter(({ kind }) => kind === "ready");
  await engine.prepare({ template: "base", memoryMb: 256 });
  expect(rows().map(({ account, sizeBytes }) => [account, sizeBytes])).toEqual([["ops", 256 * 2 ** 20]]);
  const { id, createPath } = await engine.as("acme").create({ template: "base", memoryMb: 256 });
  expect(createPath).toBe("ready");
  expect(rows().at(-1)).toMatchObject({ id, account: "ops", sizeBytes: 0 });
  await clock.advance(REFILL_AFTER_MS);
  const next = rows().at(-1)?.id;
  expect(next).not.toBe(id);
  world.driver.machines.get(next ?? "")?.die({});
  await clock.advance(0);
  expect(rows().at(-1)).toMatchObject({ id: next, sizeBytes: 0 });
  await engine.close();
  const held = new Map(rows().map((row) => [row.id, row.sizeBytes]));
  expect([...held.values()].every((bytes) => bytes === 0)).toBe(true);
});

test("A build is told of while it lasts, and its template with its size until it is removed, for who asked", async () => {
  const clock = new FakeClock();
  const world = new World(clock);
  await using engine = world.engine();
  const told = world.templates.list.bind(world.templates);
  world.templates.list = async () => (await told()).map((info) => ({ ...info, diskBytes: 7 }));
  const host = engine.as("acme");
  for await (const step of await host.bake({ name: "base" })) expect(step.steps).toBe(2);
  const all = () => engine.storage.all().map(({ kind, account, sizeBytes }) => [kind, account, sizeBytes]);
  expect(all()).toEqual([
    ["build", "acme", 1],
    ["build", "acme", 0],
    ["template", "acme", 7],
  ]);
  await host.removeTemplate({ name: "base" });
  expect(all().at(-1)).toEqual(["template", "acme", 0]);

  world.templates.bake = async () => undefined; // it is there already
  for await (const _ of await host.bake({ name: "base" })) expect(true).toBe(false);
  expect(all()).toHaveLength(4);
});

test("A build that fails is over all the same, and leaves no template", async () => {
  const world = new World(new FakeClock());
  await using engine = world.engine();
  world.templates.bake = async (_, __, onStep) => {
    onStep({ step: 1, steps: 2, says: "build", elapsedMs: 0 });
    throw new Error("no space");
  };
  const bake = async () => {
    for await (const _ of await engine.as("acme").bake({ name: "base" })) expect(_.step).toBe(1);
  };
  await expect(bake()).rejects.toThrow("no space");
  expect(engine.storage.all().map(({ kind, sizeBytes }) => [kind, sizeBytes])).toEqual([
    ["build", 1],
    ["build", 0],
  ]);
});
