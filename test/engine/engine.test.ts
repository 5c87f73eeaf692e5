/** The engine over fakes on a clock that only moves when told: creates, ends, and everything given back. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { EngineOptions } from "../../src/engine/create/options.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { LIMITS } from "../../src/limits.ts";
import { fold, NOTHING } from "../../src/meter/fold.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { fails } from "../suites/sandbox/subject.ts";

let clock: FakeClock;
let world: World;
let engine: Engine;
let host: SandboxHost;

function start(options: EngineOptions = {}): void {
  engine = world.engine(options);
  host = engine.as("local");
}

beforeEach(() => {
  clock = new FakeClock();
  world = new World(clock);
  start();
});

afterEach(async () => {
  const closing = engine.close();
  await clock.advance(LIMITS.lostGraceMs);
  await closing;
  expect(clock.waiting).toBe(0);
  world.expectNothingLeft();
});

const moves = (id: string) => engine.moves.of(id).map((m) => `${m.to}:${m.event}`);

describe("Engine.create", () => {
  test("runs 200 at once on two cores, and never promises more than it has", async () => {
    let most = 0;
    world.driver.hooks = {
      vmm: () => {
        most = Math.max(most, world.driver.machines.size);
      },
    };
    const all = Array.from({ length: 200 }, async () => {
      const { id } = await host.create({});
      await host.close({ id });
      return id;
    });
    expect(new Set(await Promise.all(all)).size).toBe(200);
    expect(most).toBeLessThanOrEqual(2 * LIMITS.vcpusPerCore);
    expect(most).toBeGreaterThan(1);
  });

  test("lets those beyond the room wait in order, and fails none", async () => {
    const order: number[] = [];
    const ids: string[] = [];
    const creates = Array.from({ length: 40 }, (_, i) =>
      host.create({}).then(({ id }) => {
        order.push(i);
        ids.push(id);
      }),
    );
    await settle();
    expect(order.length).toBe(32);
    expect(engine.load().waiting).toBe(8);
    for (const id of ids.slice(0, 8)) await host.close({ id });
    await Promise.all(creates);
    expect(order).toEqual(Array.from({ length: 40 }, (_, i) => i));
  });

  test("lets a waiting one be aborted, and the others go on", async () => {
    const first = await host.create({ cpu: 32 });
    const abort = new AbortController();
    const waiting = host.create({}, { signal: abort.signal });
    const behind = host.create({});
    await settle();
    expect(engine.load().waiting).toBe(2);
    abort.abort();
    await fails("cancelled", waiting);
    expect(engine.load().waiting).toBe(1);
    await host.close({ id: first.id });
    expect((await behind).state).toBe("running");
  });

  test("gives up after the wait is too long", async () => {
    start({ createWaitMs: 5000 });
    await host.create({ cpu: 32 });
    const waiting = fails("create_timeout", host.create({}));
    await clock.advance(5000);
    expect((await waiting).message).toContain("5 s");
  });

  test("refuses when the queue is full, counting those whose template is not open yet", async () => {
    start({ queue: 3 });
    const opening = Promise.withResolvers<void>();
    world.templates.opening = () => opening.promise;
    const waiting = Array.from({ length: 3 }, () => host.create({}));
    await fails("queue_full", host.create({}));
    opening.resolve();
    for (const created of waiting) expect((await created).state).toBe("running");
  });

  test("notes that more vCPUs than cores were granted", async () => {
    expect((await host.create({ cpu: 8 })).notes).toEqual(["8 vCPUs share the host's 2 cores"]);
    expect((await host.create({ cpu: 2 })).notes).toEqual([]);
  });

  test("tells about a bake that it has to wait for", async () => {
    const steps: string[] = [];
    start({ onBake: ({ says }) => steps.push(says) });
    await host.create({});
    await host.create({});
    expect(steps).toEqual(["bake"]);
  });

  test("is charged from the resume that first lets the guest run", async () => {
    world.driver.hooks = {
      vmm: (step) => clock.sleep(step === "load" ? 100 : 0),
      guest: () => clock.sleep(30).then(() => "answer" as const),
    };
    const creating = host.create({});
    await clock.advance(1000);
    const { id, createMs } = await creating;
    const [created, running] = engine.moves.of(id);
    expect((running?.monotonicMs ?? 0) - (created?.monotonicMs ?? 0)).toBe(100);
    expect(createMs).toBe(160);
    await host.close({ id });
    const startMs = running?.monotonicMs ?? 0;
    expect(fold(engine.moves.of(id)).vcpu_ms).toBe(BigInt(clock.monotonicMs() - startMs));
  });

  test("gives every clone an identity of its own before it is running", async () => {
    const { id } = await host.create({});
    expect(world.driver.machines.get(id)?.guest.hostname).toBe(id.replace("_", "-"));
  });

  test("gives the deadline to the machine itself", async () => {
    const { id } = await host.create({ ttlSeconds: 10 });
    const deadlineNs = world.driver.machines.get(id)?.deadlineNs ?? 0n;
    expect(deadlineNs - world.host.bootTimeNs()).toBe(10_000_000_000n);
  });

  test("is refused after the engine was closed", async () => {
    await engine.close();
    await fails("wrong_state", host.create({}));
  });
});

describe("Engine.close", () => {
  test("ends what lives and cancels what is being made or waits", async () => {
    const { id } = await host.create({ cpu: 31 });
    world.driver.hooks = { guest: () => "silence" };
    const creating = fails("cancelled", host.create({}));
    const waiting = fails("cancelled", host.create({}));
    await settle();
    await engine.close();
    await Promise.all([creating, waiting]);
    expect((await host.get({ id })).state).toBe("deleted");
  });
});

describe("A sandbox", () => {
  test("moves creating, running, stopping, deleted, with both clocks and a gapless sequence", async () => {
    const { id } = await host.create({ template: "base", cpu: 2, memoryMb: 256 });
    await clock.advance(5000);
    await host.close({ id });
    expect(moves(id)).toEqual(["creating:created", "running:booted", "stopping:close", "deleted:reaped"]);
    const rows = engine.moves.of(id);
    expect(rows.map((m) => m.sequence)).toEqual([1, 2, 3, 4]);
    for (const row of rows) {
      expect(row).toMatchObject({ account: "local", template: "base", cpu: 2, memoryMib: 256 });
      expect(row.wallMs - row.monotonicMs).toBe(clock.wallMs() - clock.monotonicMs());
    }
    expect(fold(rows)).toEqual({ ...NOTHING, vcpu_ms: 10_000n, memory_mib_ms: 1_280_000n, creates: 1n });
  });

  test("is deleted when its time to live runs out", async () => {
    const { id } = await host.create({ ttlSeconds: 3 });
    await clock.advance(2999);
    expect((await host.get({ id })).state).toBe("running");
    await clock.advance(1);
    expect(await host.get({ id })).toMatchObject({ state: "deleted", reason: "its time to live of 3 s ran out" });
    expect(moves(id)).toEqual(["creating:created", "running:booted", "stopping:expire", "deleted:reaped"]);
  });

  test("is deleted when its machine says that the deadline has come", async () => {
    const { id } = await host.create({ ttlSeconds: 3 });
    world.driver.machines.get(id)?.die({ reason: "deadline" });
    await settle();
    expect(await host.get({ id })).toMatchObject({ state: "deleted", reason: "its time to live of 3 s ran out" });
  });

  test("fails when its VMM exits, and calls then say why", async () => {
    const { id } = await host.create({});
    world.driver.machines.get(id)?.die({ reason: "vmm_exit", code: 1, stderr: "\u001b[31mguest words" });
    await settle();
    const info = await host.get({ id });
    expect(info).toMatchObject({ state: "failed", reason: "its VMM exited with 1" });
    expect((await fails("sandbox_lost", host.exec({ id, cmd: "true" }))).message).toContain("its VMM exited with 1");
    await host.close({ id });
    expect((await host.get({ id })).state).toBe("failed");
  });

  test("fails when its agent breaks the protocol, and its VMM is killed", async () => {
    const { id } = await host.create({});
    await world.driver.machines.get(id)?.speak(new Uint8Array(100).fill(0xff));
    await settle();
    expect(world.driver.machines.has(id)).toBe(false);
    const { state, reason } = await host.get({ id });
    expect(state).toBe("failed");
    expect(reason).toContain("broke the protocol");
  });

  test("fails when its agent hangs up and the machine goes on", async () => {
    const { id } = await host.create({});
    world.driver.machines.get(id)?.hangUp();
    await clock.advance(LIMITS.lostGraceMs - 1);
    expect((await host.get({ id })).state).toBe("running");
    await clock.advance(1);
    expect(await host.get({ id })).toMatchObject({ state: "failed", reason: "its agent hung up" });
  });

  test("tells a command under way what ended it", async () => {
    const { id } = await host.create({});
    const events = await host.exec({ id, cmd: "sleep 1000" });
    const reading = (async () => {
      for await (const _ of events);
    })();
    world.driver.machines.get(id)?.die({ reason: "vmm_exit", signal: 9 });
    const error = await fails("sandbox_lost", reading);
    expect(error.message).toBe(`sandbox ${id} ended during the call: its VMM was ended by signal 9`);
  });

  test("of another account does not exist", async () => {
    const { id } = await host.create({});
    const other = engine.as("other");
    await fails("not_found", other.get({ id }));
    await fails("not_found", other.close({ id }));
    await fails("not_found", other.exec({ id, cmd: "true" }));
    expect(await other.list({})).toEqual([]);
  });

  test("that was closed while it is made leaves nothing, and its create says so", async () => {
    const loading = Promise.withResolvers<void>();
    world.driver.hooks = { vmm: (step) => (step === "load" ? loading.promise : undefined) };
    const creating = host.create({});
    await settle();
    const id = [...world.driver.machines.keys()][0] as string;
    expect((await host.get({ id })).state).toBe("creating");
    await fails("wrong_state", host.exec({ id, cmd: "true" }));
    const closing = host.close({ id });
    loading.resolve();
    await fails("cancelled", creating);
    await closing;
    expect(moves(id)).toEqual(["creating:created", "stopping:close", "deleted:reaped"]);
    expect(fold(engine.moves.of(id), { toMs: 1e9 })).toEqual(NOTHING);
  });

  test("whose lease cannot be given back is reported as a leak, and ends all the same", async () => {
    const { id } = await host.create({});
    world.host.hooks = { give: () => Promise.reject(new Error("busy")) };
    await host.close({ id });
    expect((await host.get({ id })).state).toBe("deleted");
    expect(world.errors.splice(0).join()).toContain("could not give back");
    world.host.hooks = {};
    expect([...world.host.lent.keys()]).toEqual([id]);
    world.host.lent.clear();
    world.host.given += 1;
  });
});

describe("Engine.as", () => {
  test("streams a bake's steps, and ends the bake of a reader that leaves", async () => {
    const seen: string[] = [];
    for await (const { says } of await host.bake({ name: "base", force: true })) seen.push(says);
    expect(seen).toEqual(["build again", "build again"]);
    for await (const { step } of await host.bake({ name: "base" })) {
      expect(step).toBe(1);
      break;
    }
    await fails("template_not_found", host.bake({ name: "nope" }));
    await fails("template_not_found", host.removeTemplate({ name: "nope" }));
    expect((await host.templates({})).map((t) => t.name)).toEqual(["base", "code-interpreter"]);
  });
});
