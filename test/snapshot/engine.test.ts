/** Snapshots through the engine, over fakes: taken of a running sandbox, restored, in use while something stands on them. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { WarrenError } from "../../src/errors.ts";
import { World } from "../harness/fakes.ts";
import { fails } from "../suites/sandbox/subject.ts";

let world: World;
let engine: Engine;
let host: SandboxHost;
beforeEach(() => {
  world = new World();
  engine = world.engine();
  host = engine.as("local");
});
afterEach(async () => {
  await engine.close();
  world.expectNothingLeft();
});

test("Engine.snapshot keeps a running sandbox, which goes on, and create restores it with its environment", async () => {
  const parent = await host.create({ env: { A: "1", B: "1" }, workdir: "/srv", cpu: 2, memoryMb: 256 });
  const taken = await host.snapshot({ id: parent.id, name: "first", metadata: { why: "test" } });
  expect(taken).toMatchObject({ name: "first", sandboxId: parent.id, template: "base", cpu: 2, memoryMb: 256 });
  expect((await host.get({ id: parent.id })).state).toBe("running");
  expect(await host.snapshots({})).toEqual([taken]);
  expect(await host.getSnapshot({ id: taken.id })).toEqual(taken);
  expect(await host.snapshots({ sandboxId: "sb_other" })).toEqual([]);
  await host.close({ id: parent.id });
  const child = await host.create({ snapshot: "first", env: { B: "2" }, template: "code-interpreter" });
  expect(child).toMatchObject({ snapshotId: taken.id, template: "base", cpu: 2, memoryMb: 256, parentId: null });
  const again = await host.snapshot({ id: child.id });
  expect(again).toMatchObject({ parentSnapshotId: taken.id, name: null });
  await fails("snapshot_in_use", host.removeSnapshot({ id: taken.id }));
  await host.close({ id: child.id });
  await host.removeSnapshot({ id: taken.id });
  await host.removeSnapshot({ id: again.id });
  await fails("not_found", host.getSnapshot({ id: taken.id }));
});

test("Engine.create from a snapshot that is unknown, another's, or of another size names the field", async () => {
  const parent = await host.create({});
  const { id } = await host.snapshot({ id: parent.id });
  for (const [on, snapshot] of [
    [host, "nope"],
    [engine.as("another"), id],
  ] as const) {
    const refused = await fails("invalid_request", on.create({ snapshot }));
    expect(refused.details).toMatchObject({ field: "snapshot", got: snapshot });
  }
  expect((await fails("invalid_request", host.create({ snapshot: id, cpu: 7 }))).details).toMatchObject({
    field: "cpu",
  });
  const other = await fails("invalid_request", host.create({ snapshot: id, memoryMb: 1024 }));
  expect(other.details).toMatchObject({ field: "memoryMb", got: 1024, allowed: 512 });
  await fails("not_found", engine.as("another").getSnapshot({ id }));
  await fails("not_found", engine.as("another").removeSnapshot({ id }));
  expect(await engine.as("another").snapshots({})).toEqual([]);
  await host.removeSnapshot({ id });
});

test("Engine.snapshot that cannot be written leaves the sandbox running and nothing listed", async () => {
  const { id } = await host.create({});
  world.snapshots.saving = () => {
    throw new WarrenError("storage_exhausted", "no room");
  };
  await fails("storage_exhausted", host.snapshot({ id }));
  expect(await host.snapshots({})).toEqual([]);
  expect((await host.get({ id })).state).toBe("running");
  world.snapshots.saving = () => undefined;
  const { id: snapshot } = await host.snapshot({ id });
  await host.removeSnapshot({ id: snapshot });
});

test("Engine.create from a snapshot that cannot be opened, or whose clone fails, holds nothing of it afterwards", async () => {
  const parent = await host.create({});
  const { id: snapshot } = await host.snapshot({ id: parent.id });
  world.snapshots.opening = () => {
    throw new WarrenError("snapshot_invalid", "damaged");
  };
  await fails("snapshot_invalid", host.create({ snapshot }));
  world.snapshots.opening = () => undefined;
  world.host.hooks = {
    lease: () => {
      throw new WarrenError("storage_exhausted", "no room");
    },
  };
  await fails("storage_exhausted", host.create({ snapshot }));
  world.host.hooks = {};
  await host.removeSnapshot({ id: snapshot });
});

test("Engine.snapshot of a closed sandbox says so", async () => {
  const { id } = await host.create({});
  await host.close({ id });
  await fails("wrong_state", host.snapshot({ id }));
  await fails("not_found", host.snapshot({ id: "sb_none" }));
});
