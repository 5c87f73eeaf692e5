/** A server over fakes: what it does from its start to its end. */
import { afterEach, describe, expect, test } from "bun:test";
import { ADMIN } from "../../src/api/access/admin.ts";
import { newAccount } from "../../src/api/access/tokens.ts";
import type { Health } from "../../src/api/parts.ts";
import type { BakeEvent } from "../../src/contract/routes/templates.ts";
import { WarrenError } from "../../src/errors.ts";
import { isLoopback, listenOf, refusePublic, urlOf } from "../../src/server/listen.ts";
import { type RunningServer, startServer } from "../../src/server/start.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";
import { until } from "../harness/until.ts";
import { type Fake, fake, slow } from "./parts.ts";

const running: RunningServer[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.close()));
});

async function start(of: Fake): Promise<RunningServer> {
  const server = await startServer(of.options);
  running.push(server);
  return server;
}

const health = async (url: string) => {
  const answer = await fetch(`${url}/healthz`);
  return { status: answer.status, body: (await answer.json()) as Health };
};

describe("startServer", () => {
  test("startServer tells a first administrator's key once, and none when it is preset", async () => {
    const first = fake();
    await (await start(first)).close();
    const keys = first.news.filter(({ kind }) => kind === "admin-key");
    expect(keys).toEqual([{ kind: "admin-key", key: expect.stringMatching(/^wrn_[\w-]{43}$/) }]);
    const again = fake({ store: first.store });
    await start(again);
    expect(again.news.filter(({ kind }) => kind === "admin-key")).toEqual([]);

    const preset = fake({ adminKey: `wrn_${"a".repeat(43)}` });
    await start(preset);
    expect(preset.news.filter(({ kind }) => kind === "admin-key")).toEqual([]);
    expect((await preset.store.keys(ADMIN)).map(({ scopes }) => scopes)).toEqual([["admin"]]);
  });

  test("startServer tells the key before anything else may fail, as it is kept nowhere", async () => {
    const of = fake();
    const ground = {
      ...of.options.ground,
      as: () => {
        throw new Error("no engine");
      },
    };
    await of.store.createAccount(newAccount({ id: "acme", name: "acme" }, {}, 0));
    await of.store.admit("acme", [{ id: "sb_1", cpu: 1, memoryMib: 512, template: "base", atMs: 0 }], null);
    await expect(startServer({ ...of.options, ground })).rejects.toThrow("no engine");
    expect(of.news.map(({ kind }) => kind)).toEqual(["admin-key"]);
  });

  test("startServer answers 503 with the step of a bake until all templates are there", async () => {
    const of = fake();
    const go = Promise.withResolvers<void>();
    const base = of.options.ground.as;
    const bake = async function* (): AsyncGenerator<BakeEvent> {
      yield { step: 3, steps: 9, says: "unpacking", elapsedMs: 1 };
      await go.promise;
    };
    const ground = { ...of.options.ground, as: (a: string) => ({ ...base(a), bake: async () => bake() }) };
    const server = await startServer({ ...of.options, ground });
    running.push(server);
    await until("a step is told", async () => (await health(server.url)).body.baking !== undefined);
    expect(await health(server.url)).toMatchObject({
      status: 503,
      body: { ready: false, baking: { template: "base", step: 3, steps: 9, says: "unpacking" } },
    });
    go.resolve();
    await server.ready;
    expect(await health(server.url)).toEqual({ status: 200, body: { ready: true, reasons: ["memory of a test"] } });
    expect(of.news.at(-1)).toEqual({ kind: "ready" });
  });

  test("startServer says which template could not be baked, and tries it again", async () => {
    const of = fake();
    let broken = true;
    of.world.templates.bake = async () => {
      if (broken) throw new WarrenError("bake_failed", "the mirror is away");
    };
    const clock = new FakeClock();
    const server = await startServer({ ...of.options, clock });
    running.push(server);
    await clock.advance(10);
    expect(server.health().reasons.join()).toContain("template base could not be made ready");
    expect(server.health().reasons.join()).toContain("the mirror is away");
    broken = false;
    await clock.advance(60_000);
    expect(server.health().ready).toBe(true);
    const closing = server.close();
    await clock.advance(1000);
    await closing;
  });

  test("startServer is not ready while its database is away, and says so", async () => {
    const clock = new FakeClock();
    const of = fake({ clock });
    const server = await start(of);
    await clock.advance(10);
    expect(server.health().ready).toBe(true);
    of.store.away = new WarrenError("store_unavailable", "gone");
    await clock.advance(6000);
    expect(server.health()).toMatchObject({ ready: false });
    expect(server.health().reasons.join()).toContain("the database does not answer");
    of.store.away = null;
    await clock.advance(6000);
    expect(server.health().ready).toBe(true);
    const closing = server.close();
    await clock.advance(1000);
    await closing;
  });

  test("startServer writes moves, descriptions and what is stored into its database, after the call", async () => {
    const of = fake();
    await start(of);
    await of.store.createAccount(newAccount({ id: "acme", name: "acme" }, {}, 0));
    const host = of.parts().hostFor("acme");
    const { id } = await host.create({ detached: true });
    await host.createVolume({ name: "data", sizeMb: 64 });
    await host.close({ id });
    await until("all is written", async () => (await of.store.events("acme", id, 100))?.at(-1)?.to === "deleted");
    const events = (await of.store.events("acme", id, 100)) ?? [];
    expect(events.map(({ sequence, to }) => [sequence, to])).toEqual([
      [1, "creating"],
      [2, "running"],
      [3, "stopping"],
      [4, "deleted"],
    ]);
    await until("it is described", async () => (await of.store.endedSandbox("acme", id))?.state === "deleted");
  });

  test("startServer drains: a request under way is answered, new ones are refused, rows are written", async () => {
    const of = fake();
    const server = await start(of);
    await of.store.createAccount(newAccount({ id: "acme", name: "acme" }, {}, 0));
    const under = fetch(`${server.url}/slow`);
    await until("it is under way", () => slow.waiting === 1);
    of.store.away = new WarrenError("store_unavailable", "gone");
    const { id } = await of.parts().hostFor("acme").create({ detached: true });
    const closing = server.close();
    await until("nobody listens any more", async () =>
      fetch(`${server.url}/healthz`).then(
        () => false,
        () => true,
      ),
    );
    of.store.away = null;
    slow.finish();
    expect((await under).status).toBe(200);
    expect(await closing).toBe(0);
    expect((await of.store.events("acme", id, 10))?.map(({ to }) => to)).toEqual(["creating", "running"]);
    expect(await of.world.registry.get(id)).not.toBeNull(); // a detached sandbox stays
  });

  test("startServer takes over what an earlier one left, and closes what did not survive it", async () => {
    const [world, store] = [new World(), new MemoryStore()];
    const first = fake({ world, store });
    await start(first);
    await store.createAccount(newAccount({ id: "acme", name: "acme" }, {}, 0));
    const host = first.parts().hostFor("acme");
    const [stays, asleep] = [await host.create({ detached: true }), await host.create({ detached: true })];
    await host.hibernate({ id: asleep.id });
    const booking = { id: "sb_lost", cpu: 1, memoryMib: 512, template: "base", atMs: 0 };
    await store.admit("acme", [booking], null);
    await running[0]?.close();
    running.splice(0);

    const second = fake({ world, store });
    await start(second);
    expect((await store.inUse("acme")).sandboxes).toBe(2); // what was booked and never made is gone
    const again = second.parts().hostFor("acme");
    await again.wake({ id: asleep.id });
    await again.close({ id: asleep.id });
    await again.close({ id: stays.id });
    const steps = async (id: string) =>
      (await store.events("acme", id, 100))?.map(({ sequence, to }) => `${sequence} ${to}`);
    await until("both ends are written", async () =>
      [await steps(stays.id), await steps(asleep.id)].every((all) => all?.at(-1)?.endsWith("deleted")),
    );
    expect(await steps(stays.id)).toEqual(["1 creating", "2 running", "3 stopping", "4 deleted"]);
    const slept = (await steps(asleep.id)) ?? [];
    expect(slept.map((step) => Number(step.split(" ")[0]))).toEqual(slept.map((_, i) => i + 1));
    expect(slept.slice(0, 3)).toEqual(["1 creating", "2 running", "3 hibernated"]);
  });

  test("startServer refuses several accounts without KVM, and makes no second one, unless it is allowed", async () => {
    const store = new MemoryStore();
    const alone = fake({ store, emulated: true });
    await start(alone);
    const through = alone.parts().store;
    await through.createAccount(newAccount({ id: "one", name: "one" }, {}, 0));
    const second = newAccount({ id: "two", name: "two" }, {}, 0);
    expect(through.createAccount(second)).rejects.toMatchObject({ code: "host_unsupported" });
    await expect(through.createAccount(second)).rejects.toThrow("--allow-emulation");
    await store.createAccount(second);
    await expect(startServer(fake({ store, emulated: true }).options)).rejects.toThrow("--allow-emulation");
    await start(fake({ store, emulated: true, allowEmulation: true }));
    await start(fake({ store, emulated: false }));
  });

  test("startServer says what emulation means", async () => {
    const of = fake({ emulated: true });
    const server = await start(of);
    await server.ready;
    expect(server.health()).toMatchObject({ ready: true });
    expect(server.health().reasons.join()).toContain("QEMU promises no isolation");
  });
});

describe("where a server listens", () => {
  test("refusePublic lets nobody but this machine in without TLS, unless told to", () => {
    for (const address of ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1"]) {
      expect(() => refusePublic(listenOf(address), false, false)).not.toThrow();
    }
    for (const address of ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "127.evil.test:80", "localhost.test:80"]) {
      expect(() => refusePublic(listenOf(address), false, false)).toThrow(/--tls-cert.*--insecure-http/);
      expect(() => refusePublic(listenOf(address), true, false)).not.toThrow();
      expect(() => refusePublic(listenOf(address), false, true)).not.toThrow();
    }
    expect(isLoopback("127.0.0.1.test")).toBe(false);
  });

  test("listenOf refuses what is no address and port", () => {
    for (const text of ["8080", "a:b", "a:70000", "::1:80", ""]) expect(() => listenOf(text)).toThrow("ADDRESS:PORT");
    expect(urlOf(listenOf("[::]:443"), true)).toBe("https://[::1]:443");
    expect(urlOf(listenOf("0.0.0.0:80"), false)).toBe("http://127.0.0.1:80");
  });
});
