/** Volumes over fakes: what fails half-way leaves nothing attached, and whatever ends a sandbox frees what it had. */
import { describe, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { mountPoint, type Placed, placeFor } from "../../src/engine/volumes/places.ts";
import { WarrenError } from "../../src/errors.ts";
import { usersOf } from "../../src/guest/mount/mount.ts";
import { World } from "../harness/fakes.ts";
import { fails } from "../suites/sandbox/subject.ts";

async function withVolume(world: World, account = "me"): Promise<{ host: SandboxHost; id: string }> {
  const host = world.engine().as(account);
  await host.createVolume({ name: "data", sizeMb: 64 });
  return { host, id: (await host.create({})).id };
}

describe("Volumes", () => {
  test("Volumes.attach that fails in the VMM or the guest leaves the volume free and the sandbox as it was", async () => {
    const world = new World();
    const { host, id } = await withVolume(world);
    for (const step of ["insert", "exec"] as const) {
      const fail = (now: string) => {
        if (now === step) throw new WarrenError("driver_failed", `no ${step}`);
      };
      world.driver.hooks = {
        vmm: fail,
        guest: (now) => (now === "exec" && step === "exec" ? "refuse" : "answer"),
      };
      await expect(host.attachVolume({ id, name: "data" })).rejects.toBeInstanceOf(WarrenError);
      world.driver.hooks = {};
      expect((await host.get({ id })).volumes).toEqual([]);
      expect([...world.volumes.opened]).toEqual([]);
      expect([...(world.driver.machines.get(id)?.media ?? [])]).toEqual([]);
      await host.attachVolume({ id, name: "data" });
      await host.detachVolume({ id, name: "data" });
    }
    await host.close({ id });
    await host.removeVolume({ name: "data" });
    world.expectNothingLeft();
  });

  test("Volumes.attach from everywhere at once lets one writer in", async () => {
    const world = new World();
    const { host, id } = await withVolume(world);
    const others = await Promise.all([1, 2, 3, 4].map(() => host.create({})));
    const ids = [id, ...others.map((info) => info.id)];
    const ends = await Promise.allSettled(ids.map((one) => host.attachVolume({ id: one, name: "data" })));
    expect(ends.filter((end) => end.status === "fulfilled")).toHaveLength(1);
    expect((await host.getVolume({ name: "data" })).attachedTo).toHaveLength(1);
    await Promise.all(ids.map((one) => host.close({ id: one })));
    expect((await host.getVolume({ name: "data" })).attachedTo).toEqual([]);
    world.expectNothingLeft();
  });

  test("Volumes of a sandbox that broke, or was closed while one was being attached, are free", async () => {
    const world = new World();
    const { host, id } = await withVolume(world);
    await host.attachVolume({ id, name: "data" });
    world.driver.machines.get(id)?.die({ reason: "vmm_exit", code: 1 });
    const next = await host.create({ volumes: [{ name: "data" }] });
    expect(next.volumes).toHaveLength(1);
    await host.close({ id: next.id });
    const last = await host.create({});
    const inserting = Promise.withResolvers<void>();
    world.driver.hooks = {
      vmm: async (step) => {
        if (step !== "insert") return;
        await host.close({ id: last.id });
        inserting.resolve();
      },
    };
    await expect(host.attachVolume({ id: last.id, name: "data" })).rejects.toBeInstanceOf(WarrenError);
    await inserting.promise;
    world.driver.hooks = {};
    await host.removeVolume({ name: "data" });
    world.expectNothingLeft();
  });

  test("Volumes of one account are unknown to another, and to other processes their sandboxes are only to close", async () => {
    const world = new World();
    const maker = world.engine();
    const mine = maker.as("me");
    await mine.createVolume({ name: "data", sizeMb: 64 });
    const { id } = await mine.create({ detached: true, ttlSeconds: 60, volumes: [{ name: "data", mount: "/w" }] });
    const other = world.engine();
    const yours = other.as("you");
    await fails("not_found", yours.getVolume({ name: "data" }));
    await fails("not_found", yours.attachVolume({ id, name: "data" }));
    expect(await yours.volumes({})).toEqual([]);
    const elsewhere = other.as("me");
    expect(await elsewhere.volumes({})).toMatchObject([{ name: "data", attachedTo: [id] }]);
    expect((await elsewhere.get({ id })).volumes).toMatchObject([{ name: "data", mount: "/w" }]);
    await fails("unsupported", elsewhere.detachVolume({ id, name: "data" }));
    await fails("volume_in_use", elsewhere.removeVolume({ name: "data" }));
    expect((await fails("wrong_state", elsewhere.fork({ id }))).details).toMatchObject({ volumes: ["data"] });
    await elsewhere.close({ id });
    await elsewhere.removeVolume({ name: "data" });
    await Promise.all([maker.close(), other.close()]);
    world.expectNothingLeft();
  });

  test("Volumes.attach wakes a sandbox that hibernates, which it cannot do again until it has none", async () => {
    const world = new World();
    const { host, id } = await withVolume(world);
    await host.hibernate({ id });
    await host.attachVolume({ id, name: "data" });
    expect((await host.get({ id })).state).toBe("running");
    expect((await fails("wrong_state", host.hibernate({ id }))).details).toMatchObject({ volumes: ["data"] });
    await host.detachVolume({ id, name: "data" });
    await host.hibernate({ id });
    await host.close({ id });
    world.expectNothingLeft();
  });

  test("Volumes.resize of one that nobody writes is fitted by the next writer, once", async () => {
    const world = new World();
    const { host, id } = await withVolume(world);
    await host.resizeVolume({ name: "data", sizeMb: 128 });
    const grown = async (readOnly: boolean) => (await world.volumes.open("me", "data", readOnly)).hasGrown;
    const opened = async (readOnly: boolean) => {
      const has = await grown(readOnly);
      world.volumes.opened.clear();
      return has;
    };
    expect(await opened(false)).toBe(true);
    await host.attachVolume({ id, name: "data", readOnly: true });
    await host.detachVolume({ id, name: "data" });
    expect(await opened(false)).toBe(true);
    await host.attachVolume({ id, name: "data" });
    await host.detachVolume({ id, name: "data" });
    expect(await opened(false)).toBe(false);
    await host.close({ id });
    world.expectNothingLeft();
  });
});

describe("placeFor", () => {
  const placed = (name: string, mount: string, drive: number): Placed => ({ name, mount, readOnly: false, drive });

  test("placeFor takes the lowest free drive and the default mount point", () => {
    const attached = [placed("a", "/a", 0), placed("c", "/c", 2)];
    expect(placeFor({ name: "b" }, attached)).toEqual({ ...placed("b", "/volumes/b", 1) });
    expect(placeFor({ name: "b", mount: "/x//y/", readOnly: true }, [])).toEqual({
      ...{ name: "b", mount: "/x/y", readOnly: true, drive: 0 },
    });
  });

  test("mountPoint tells the kernel's places from others that only begin alike", () => {
    expect(["/process", "/device", "/system", "/a..b", "/dev.d"].map(mountPoint)).toHaveLength(5);
    for (const path of ["/dev", "//dev//", "/proc/self", "/sys", "a", "", "/..", "/x/.", "/\0"]) {
      expect(() => mountPoint(path)).toThrow("mount: a volume cannot be mounted");
    }
  });
});

test("usersOf reads pids off links below the mount point alone", () => {
  const listing = `lrwxrwxrwx 1 root root 0 Jan 1 00:00 /proc/7/cwd -> /w/deep
lrwxrwxrwx 1 root root 0 Jan 1 00:00 /proc/8/cwd -> /work
lrwxrwxrwx 1 root root 0 Jan 1 00:00 /proc/9/root -> /
lrwxrwxrwx 1 root root 0 Jan 1 00:00 /proc/evil/cwd -> /w

/proc/10/fd/:
total 0
lrwx------ 1 root root 64 Jan 1 00:00 0 -> /dev/null
l-wx------ 1 root root 64 Jan 1 00:00 3 -> /w/file (deleted)

/proc/11/fd/:
lrwx------ 1 root root 64 Jan 1 00:00 3 -> /other/w
`;
  expect(usersOf(listing, "/w")).toEqual([7, 10]);
  expect(usersOf("", "/w")).toEqual([]);
});
