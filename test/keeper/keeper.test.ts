/** What a keeper does with sandboxes that come, change and end, on a clock that stands still. */
import { describe, expect, test } from "bun:test";
import { Keeper } from "../../src/keeper/keeper.ts";
import { LIMITS } from "../../src/limits.ts";
import { KeeperWorld, OPEN, PYPI, recordFor } from "./ground.ts";

async function keeperOf(world: KeeperWorld): Promise<{ keeper: Keeper; ended: () => boolean }> {
  const keeper = new Keeper(world.parts);
  let ended = false;
  void keeper.done.then(() => {
    ended = true;
  });
  await keeper.start();
  return { keeper, ended: () => ended };
}

describe("Keeper.start", () => {
  test("takes up detached sandboxes that live and whose network is not none, and no others", async () => {
    const world = new KeeperWorld();
    await world.run(recordFor("a", 1, OPEN));
    await world.run(recordFor("none", 2, { mode: "none" }));
    await world.run(recordFor("owned", 3, PYPI, false));
    await world.registry.put(recordFor("dead", 4));
    const { keeper } = await keeperOf(world);
    expect([...world.opened.keys()]).toEqual(["a"]);
    expect([keeper.size, world.said]).toEqual([1, []]);
  });

  test("passes over one whose egress cannot be opened, and says so", async () => {
    const world = new KeeperWorld();
    await world.run(recordFor("bad", 1, { mode: "allowlist", allow: ["10.1.2.3"] })); // no range of this keeper's operator
    await world.run(recordFor("good", 2));
    await keeperOf(world);
    expect([...world.opened.keys()]).toEqual(["good"]);
    expect(world.said).toEqual([expect.stringContaining("10.1.2.3")]);
  });
});

describe("Keeper.answer", () => {
  test("opens a sandbox once, however often and however fast it is asked", async () => {
    const world = new KeeperWorld();
    const { keeper } = await keeperOf(world);
    const sandbox = await world.run(recordFor("a", 1));
    const all = await Promise.all([1, 2, 3].map(() => keeper.answer({ kind: "open", sandbox: kept(sandbox) })));
    expect(all).toEqual([{ certificatePem: "pem" }, { certificatePem: "pem" }, { certificatePem: "pem" }]);
    expect(world.opened.get("a")?.length).toBe(1);
  });

  test("opens anew for the same sandbox in another VMM, after closing what was", async () => {
    const world = new KeeperWorld();
    const { keeper } = await keeperOf(world);
    await keeper.answer({ kind: "open", sandbox: kept(await world.run(recordFor("a", 1))) });
    await keeper.answer({ kind: "open", sandbox: kept(await world.run(recordFor("a", 2))) });
    expect(world.opened.get("a")?.map(({ closed }) => closed)).toEqual([1, 0]);
    expect(keeper.size).toBe(1);
  });

  test("needs no record to open, as a sandbox that wakes has none, and refuses a VMM that has ended", async () => {
    const world = new KeeperWorld();
    const { keeper } = await keeperOf(world);
    world.running.add(1);
    await keeper.answer({ kind: "open", sandbox: kept(recordFor("a", 1)) });
    const gone = keeper.answer({ kind: "open", sandbox: kept(recordFor("b", 2)) });
    await expect(gone).rejects.toMatchObject({ code: "driver_failed", details: { id: "b" } });
    expect(keeper.size).toBe(1);
  });

  test("changes a policy here and in the register, keeps the secrets, and tells what was used", async () => {
    const world = new KeeperWorld();
    const secrets = [{ host: "pypi.org", header: "x-key", value: "v" }];
    await world.run({ ...recordFor("a", 1, OPEN), secrets });
    const { keeper } = await keeperOf(world);
    const answer = await keeper.answer({ kind: "change", id: "a", egress: PYPI });
    expect(answer).toEqual({ usage: { bytesOut: 1, bytesIn: 2, connections: 3, refused: 4 } });
    expect([world.of("a").shown, world.opened.get("a")?.length]).toEqual([PYPI, 1]);
    expect(world.of("a").policies.at(-1)?.secrets).toEqual(secrets);
    expect(await world.registry.get("a")).toMatchObject({ egress: PYPI, secrets, info: { egress: PYPI } });
  });

  test("puts the record back when the policy could not be changed, and refuses what is no policy", async () => {
    const world = new KeeperWorld();
    await world.run(recordFor("a", 1, OPEN));
    const { keeper } = await keeperOf(world);
    world.of("a").failing = true;
    const failed = keeper.answer({ kind: "change", id: "a", egress: PYPI });
    await expect(failed).rejects.toMatchObject({ code: "driver_failed" });
    const wrong = keeper.answer({ kind: "change", id: "a", egress: { mode: "allowlist", allow: ["127.0.0.1"] } });
    await expect(wrong).rejects.toMatchObject({ code: "invalid_request" });
    expect(await world.registry.get("a")).toMatchObject({ egress: OPEN, info: { egress: OPEN } });
  });

  test("gives a network to one that had none so far, and tells of one what it tried", async () => {
    const world = new KeeperWorld();
    await world.run(recordFor("a", 1, { mode: "none" }));
    const { keeper } = await keeperOf(world);
    expect(keeper.size).toBe(0);
    expect(await keeper.answer({ kind: "log", id: "a" })).toMatchObject({ lost: 7 });
    expect(world.of("a").shown).toEqual({ mode: "none" });
    await keeper.answer({ kind: "change", id: "a", egress: OPEN });
    expect([world.of("a").shown, keeper.size]).toEqual([OPEN, 1]);
  });

  test("knows nothing of sandboxes that have no record or are their maker's own", async () => {
    const world = new KeeperWorld();
    await world.run(recordFor("owned", 1, OPEN, false));
    const { keeper } = await keeperOf(world);
    for (const id of ["owned", "unknown", "../../etc"]) {
      const refused = keeper.answer({ kind: "change", id, egress: OPEN });
      await expect(refused).rejects.toMatchObject({ code: "not_found", details: { id } });
    }
    expect(world.opened.size).toBe(0);
  });
});

describe("Keeper.done", () => {
  test("comes when all sandboxes have ended and nobody has asked for a while, and not before", async () => {
    const world = new KeeperWorld();
    await world.run(recordFor("a", 1));
    const { keeper, ended } = await keeperOf(world);
    await world.clock.advance(20 * LIMITS.keeperIdleMs);
    expect([keeper.size, ended()]).toEqual([1, false]);
    world.running.delete(1);
    await world.clock.advance(LIMITS.keeperLookMs);
    expect([keeper.size, ended(), world.of("a").closed, world.registry.size]).toEqual([0, false, 1, 0]);
    await world.clock.advance(LIMITS.keeperIdleMs - LIMITS.keeperLookMs);
    expect(ended()).toBe(false);
    await world.clock.advance(LIMITS.keeperLookMs);
    expect(ended()).toBe(true);
    expect(world.clock.waiting).toBe(0);
  });

  test("is put off by a sandbox that comes meanwhile", async () => {
    const world = new KeeperWorld();
    const { keeper, ended } = await keeperOf(world);
    await world.clock.advance(LIMITS.keeperIdleMs - 1);
    await keeper.answer({ kind: "open", sandbox: kept(await world.run(recordFor("a", 1))) });
    await world.clock.advance(5 * LIMITS.keeperIdleMs);
    expect(ended()).toBe(false);
  });

  test("does not come while one is being opened, however long that takes", async () => {
    const world = new KeeperWorld();
    const { keeper, ended } = await keeperOf(world);
    const held = Promise.withResolvers<void>();
    world.opening = () => held.promise;
    const opened = keeper.answer({ kind: "open", sandbox: kept(await world.run(recordFor("a", 1))) });
    await world.clock.advance(5 * LIMITS.keeperIdleMs);
    expect([ended(), await keeper.stopIfIdle()]).toEqual([false, false]);
    held.resolve();
    await opened;
    expect(keeper.size).toBe(1);
  });

  test("comes at once by a stop, which leaves the rules of what lives as they are", async () => {
    const world = new KeeperWorld();
    await world.run(recordFor("a", 1));
    const { keeper } = await keeperOf(world);
    keeper.stop();
    await keeper.done;
    expect([world.of("a").closed, world.of("a").policies.length, world.clock.waiting]).toEqual([0, 1, 0]);
  });
});

function kept({ id, ref, egress, secrets }: ReturnType<typeof recordFor>) {
  return { id, ref, egress, secrets: [...secrets] };
}
