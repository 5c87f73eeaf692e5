/** Forks, snapshots and sleep asked for wrongly: a typed error that names what is wrong, and nothing is made or changed. */
import { expect, test } from "bun:test";
import { type ErrorCode, isWarrenError, type WarrenError } from "../../../src/errors.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";

async function refused(code: ErrorCode, job: Promise<unknown>): Promise<WarrenError> {
  const cause = await job.then(
    () => null,
    (error: unknown) => error,
  );
  expect(isWarrenError(cause) ? cause.code : cause).toBe(code);
  return cause as WarrenError;
}

test("Wrong forks, snapshots and ids are refused by name, and leave everything as it is", async () => {
  const world = new World(new FakeClock());
  const engine = world.engine();
  const host = engine.as("local");
  const { id } = await host.create({});
  const { made } = world.driver;
  for (const count of [0, -1, 1.5, 17, 1000, Number.NaN]) {
    expect((await refused("invalid_request", host.fork({ id, count }))).message).toContain("count");
    expect((await refused("invalid_request", host.forkTree({ id, count }))).message).toContain("count");
  }
  for (const name of ["", "a/b", "../x", "x".repeat(64)]) {
    expect((await refused("invalid_request", host.snapshot({ id, name }))).message).toContain("name");
  }
  const kept = await host.snapshot({ id, name: "mine" });
  const other = engine.as("other");
  for (const [asker, snapshot] of [
    [host, "nope"],
    [host, "../etc"],
    [other, kept.id],
    [other, "mine"],
  ] as const) {
    const unknown = await refused("invalid_request", asker.create({ snapshot }));
    expect(unknown.details).toMatchObject({ field: "snapshot", got: snapshot });
    await refused("not_found", asker.getSnapshot({ id: snapshot }));
    await refused("not_found", asker.removeSnapshot({ id: snapshot }));
    await refused("not_found", asker.promoteSnapshot({ id: snapshot, name: "t" }));
  }
  for (const job of ["fork", "snapshot", "pause", "resume", "hibernate", "wake"] as const) {
    await refused("not_found", other[job]({ id }));
    await refused("not_found", host[job]({ id: "sb_none" }));
  }
  expect([world.driver.made, (await host.get({ id })).state]).toEqual([made, "running"]);
  await host.close({ id });
  for (const job of ["fork", "snapshot", "pause", "resume", "hibernate", "wake"] as const) {
    expect((await refused("wrong_state", host[job]({ id }))).message).toContain("deleted");
  }
  await host.removeSnapshot({ id: kept.id });
  await world.end(engine);
  world.expectNothingLeft();
});
