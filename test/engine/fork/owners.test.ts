/** Sandboxes that sleep in one process and run in another, over fakes: each is one machine, whoever calls it. */
import { expect, test } from "bun:test";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";

test("A sandbox that another process woke is that one's, for the process too that had put it to sleep", async () => {
  const world = new World(new FakeClock());
  const [first, second] = [world.engine(), world.engine()];
  const [one, two] = [first.as("local"), second.as("local")];
  const { id } = await one.create({ detached: true });
  await one.hibernate({ id });
  await two.wake({ id });
  const { made } = world.driver;
  expect(await one.processes({ id })).toEqual([]);
  expect(await two.processes({ id })).toEqual([]);
  expect(world.driver.made).toBe(made);
  expect((await one.list({})).map((info) => [info.id, info.state])).toEqual([[id, "running"]]);
  await world.end(first);
  expect((await two.get({ id })).state).toBe("running");
  await two.close({ id });
  await world.end(second);
  world.expectNothingLeft();
});

test("A machine whose image is there already, as its process ended in between, is ended before the image is woken", async () => {
  const world = new World(new FakeClock());
  const [first, second] = [world.engine(), world.engine()];
  const { id } = await first.as("local").create({ detached: true });
  const record = (await world.registry.get(id))!;
  const { plan } = world.driver.machines.get(id)!;
  await first.as("local").hibernate({ id });
  // As if SIGKILL had come when the image was whole.
  const left = await world.driver.prepare(plan);
  await world.registry.put({ ...record, ref: left.ref });
  expect(await second.as("local").list({})).toMatchObject([{ id, state: "hibernated" }]);
  expect((await second.as("local").get({ id })).state).toBe("hibernated");
  expect(await second.as("local").processes({ id })).toEqual([]);
  expect((await left.exited).reason).toBe("killed");
  await second.as("local").close({ id });
  await world.end(first);
  await world.end(second);
  expect([...world.driver.machines.keys()]).toEqual([]);
});

test("What slept past its time while nobody was there is removed by whoever lists", async () => {
  const time = new FakeClock();
  const world = new World(time);
  const first = world.engine();
  const { id } = await first.as("local").create({ detached: true, ttlSeconds: 60 });
  await first.as("local").hibernate({ id });
  await world.end(first);
  await time.advance(60_000);
  expect(await world.snapshots.listImages("local")).toHaveLength(1);
  const second = world.engine();
  expect(await second.as("local").list({})).toEqual([]);
  expect(await world.snapshots.listImages("local")).toEqual([]);
  await world.end(second);
});

test("What its last owner left standing still, as it ended in the middle of a pause, goes on at the first contact", async () => {
  const world = new World(new FakeClock());
  const [first, second] = [world.engine(), world.engine()];
  const { id } = await first.as("local").create({ detached: true });
  await world.driver.machines.get(id)!.pause();
  expect(await second.as("local").processes({ id })).toEqual([]);
  // Asked for, it stays as it is.
  await second.as("local").pause({ id });
  const third = world.engine();
  expect((await third.as("local").get({ id })).state).toBe("paused");
  await third.as("local").close({ id });
  for (const engine of [first, second, third]) await world.end(engine);
});
