/** Several engines on one home, as several processes are: detached sandboxes belong to all of them. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { LIMITS } from "../../src/limits.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { fails } from "../suites/sandbox/subject.ts";

let clock: FakeClock;
let world: World;
let engines: Engine[];
/** Sandboxes whose maker was gone when they ended. */
let outlived: number;

/** Another process of the home, as its one account sees it. */
function another(): SandboxHost {
  const engine = world.engine();
  engines.push(engine);
  return engine.as("local");
}

beforeEach(() => {
  clock = new FakeClock();
  world = new World(clock);
  engines = [];
  outlived = 0;
});

afterEach(async () => {
  for (const engine of engines) await engine.close();
  await settle();
  world.expectNothingLeft({ reclaimed: outlived });
});

test("A detached sandbox is listed, read, used and closed by another process", async () => {
  const [maker, other] = [another(), another()];
  const made = await maker.create({ detached: true, env: { FROM: "maker" }, workdir: "/tmp", metadata: { a: "b" } });
  expect(await other.list({})).toMatchObject([{ id: made.id, state: "running", metadata: { a: "b" } }]);
  const box = await Sandbox.connect(made.id, other);
  expect((await box.exec("echo $FROM; pwd")).stdout).toBe("maker\n/tmp\n");
  await box.files.write("/tmp/x", "from the other");
  expect(await new Sandbox(maker, made.id).files.readText("/tmp/x")).toBe("from the other");
  await box.close();
  await settle();
  expect(await maker.get({ id: made.id })).toMatchObject({ state: "deleted", reason: "closed by another process" });
  await fails("not_found", box.exec("true"));
  await other.close({ id: made.id }); // twice is no error
  await fails("not_found", another().close({ id: made.id }));
});

test("A detached sandbox outlives its maker's engine, any other ends with it", async () => {
  const maker = another();
  outlived = 1;
  const detached = await maker.create({ detached: true });
  const bound = await maker.create({});
  await world.end(engines[0] as Engine);
  const other = another();
  expect((await other.list({})).map((info) => info.id)).toEqual([detached.id]);
  await fails("not_found", other.get({ id: bound.id }));
  expect((await new Sandbox(other, detached.id).exec("echo still")).stdout).toBe("still\n");
  await other.close({ id: detached.id });
});

test("A detached sandbox serves as many processes as it has spare ports, and one more when one leaves", async () => {
  const maker = another();
  const { id } = await maker.create({ detached: true });
  const others = Array.from({ length: LIMITS.agentPorts }, another);
  const run = (host: SandboxHost) => new Sandbox(host, id).exec("echo ok").then((r) => r.stdout);
  for (const host of others.slice(0, -1)) expect(await run(host)).toBe("ok\n");
  const late = others.at(-1) as SandboxHost;
  const tooLate = fails("capacity_exhausted", run(late));
  await clock.advance(LIMITS.portWaitMs);
  expect((await tooLate).message).toContain("as many processes");
  const waiting = run(late);
  await clock.advance(LIMITS.portWaitMs / 2);
  await engines[1]?.close();
  await clock.advance(LIMITS.portRetryMs);
  expect(await waiting).toBe("ok\n");
  await maker.close({ id });
});

test("A sandbox that dies is told as lost to the process that uses it, and is gone from the list", async () => {
  const [maker, other] = [another(), another()];
  const { id } = await maker.create({ detached: true });
  const running = new Sandbox(other, id).exec("sleep 1000");
  await settle();
  world.driver.machines.get(id)?.die({ reason: "vmm_exit", signal: 9 });
  expect((await fails("sandbox_lost", running)).message).toContain("ended during the call");
  expect(await other.list({})).toEqual([]);
  expect((await maker.get({ id })).state).toBe("failed");
});

test("A broken connection to another's sandbox is made anew at the next call", async () => {
  const [maker, other] = [another(), another()];
  const { id } = await maker.create({ detached: true });
  const box = new Sandbox(other, id);
  await box.exec("true");
  world.driver.machines.get(id)?.hangUp(1);
  await settle();
  expect((await box.exec("echo again")).stdout).toBe("again\n");
  await maker.close({ id });
});

test("A sandbox still being made is not usable by others, and one of another account not visible", async () => {
  const [maker, other] = [another(), another()];
  world.driver.hooks = { guest: (step) => (step === "identity" ? "silence" : "answer") };
  const abort = new AbortController();
  const creating = maker.create({ detached: true }, { signal: abort.signal });
  await settle();
  const [info] = await other.list({});
  expect(info?.state).toBe("creating");
  await fails("wrong_state", new Sandbox(other, info?.id ?? "").exec("true"));
  const stranger = (engines[1] as Engine).as("stranger");
  expect(await stranger.list({})).toEqual([]);
  await fails("not_found", stranger.close({ id: info?.id ?? "" }));
  abort.abort();
  await fails("cancelled", creating);
});

test("A close of another's sandbox that nobody owns any more leaves nothing", async () => {
  const maker = another();
  outlived = 1;
  const { id } = await maker.create({ detached: true, ttlSeconds: 60 });
  await world.end(engines[0] as Engine);
  await clock.advance(60_000);
  const other = another();
  expect(await other.list({})).toEqual([]);
  await fails("not_found", other.close({ id }));
});
