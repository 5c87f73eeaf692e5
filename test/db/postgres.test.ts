/** PostgreSQL that fails: connections that end, a server that is away or stands still; what is told of it, and that it is used again. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Store } from "../../src/api/store.ts";
import { systemClock } from "../../src/base/clock.ts";
import { openPostgres } from "../../src/db/postgres.ts";
import { openStore } from "../../src/db/store.ts";
import { isWarrenError } from "../../src/errors.ts";
import { FakeClock } from "../harness/clock.ts";
import { gate } from "../harness/gates.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { until } from "../harness/until.ts";
import { account, booking, codeOf, LIFE, movesOf, newId, newKey, sandboxInfo, webhook } from "../suites/store/world.ts";
import { parts } from "./world.ts";

const SLOW_MS = 120_000;

if (gate("postgres")) {
  describe("PostgreSQL that fails", () => {
    let opened: { readonly server: PrivatePostgres; readonly url: string; readonly store: Store } | null = null;
    beforeAll(async () => {
      const server = await PrivatePostgres.open();
      const url = await server.database();
      opened = { server, url, store: await openStore({ ...parts, url, dir: "/nonexistent" }) };
    }, SLOW_MS);
    afterAll(async () => {
      await opened?.store[Symbol.asyncDispose]();
      await opened?.server[Symbol.asyncDispose]();
    }, SLOW_MS);
    const world = () => {
      if (opened === null) throw new Error("not open");
      return opened;
    };

    test("Store.admit fails as store_unavailable when its connection is cut, and the next one is answered", async () => {
      const { server, url, store } = world();
      const mine = await account(store);
      // Something holds the account, so that the booking is under way when it is cut.
      const holds = openPostgres(url, parts);
      const held = codeOf(holds.script(`select from accounts where id = '${mine}' for update; select pg_sleep(600)`));
      const sleeps = "select count(*)::integer as n from pg_stat_activity where wait_event = 'PgSleep'";
      await until("the account is held", async () => (await server.run(sleeps, url))[0]?.["n"] === 1);
      const waiting =
        "select count(*)::integer as n from pg_stat_activity where wait_event_type = 'Lock' and query like '%warren_admit%'";
      const cut = store.admit(mine, [booking()], null).then(String, (thrown: unknown) => thrown);
      await until("the booking waits", async () => (await server.run(waiting, url))[0]?.["n"] === 1);
      const others = "pid <> pg_backend_pid() and datname = current_database()";
      await server.run(`select pg_terminate_backend(pid) from pg_stat_activity where ${others}`, url);
      expect(isWarrenError(await cut, "store_unavailable")).toBe(true);
      expect(await held).toBe("store_unavailable");
      await holds[Symbol.asyncDispose]();
      expect(await store.admit(mine, [booking()], null)).toEqual({ kind: "booked" });
      expect((await store.inUse(mine)).sandboxes).toBe(1);
    });

    test("Store.cancel gives back what is booked by an admit that was still under way", async () => {
      const { server, url, store } = world();
      const mine = await account(store);
      await using holds = openPostgres(url, parts);
      const held = holds.script(`select from accounts where id = '${mine}' for update; select pg_sleep(600)`);
      const gone = codeOf(held);
      const asleep = "from pg_stat_activity where wait_event = 'PgSleep'";
      await until("the account is held", async () => (await server.run(`select 1 ${asleep}`, url)).length === 1);
      const waiting = async () =>
        (await server.run("select 1 from pg_stat_activity where wait_event_type = 'Lock'", url)).length;
      const [one, key] = [booking(), { key: "k", requestHash: "h" }];
      const admitted = store.admit(mine, [one], key);
      await until("the booking waits", async () => (await waiting()) === 1);
      let isCancelled = false;
      const cancelled = store.cancel(mine, [one.id]).then(() => (isCancelled = true));
      await until("so does what gives it back", async () => isCancelled || (await waiting()) === 2);
      await server.run(`select pg_cancel_backend(pid) ${asleep}`, url);
      expect(await admitted).toEqual({ kind: "booked" });
      await cancelled;
      await gone;
      expect((await store.inUse(mine)).sandboxes).toBe(0);
      expect(await store.admit(mine, [booking()], key)).toEqual({ kind: "booked" });
    });

    test("Store.onKeysChanged tells when its connection is cut, and hears of changes again", async () => {
      const { server, url, store } = world();
      const mine = await account(store);
      await using other = await openStore({ ...parts, url, dir: "/nonexistent" });
      let told = 0;
      const off = other.onKeysChanged(() => {
        told += 1;
      });
      const listens = "datname = current_database() and query = 'listen warren_keys'";
      await server.run(`select pg_terminate_backend(pid) from pg_stat_activity where ${listens}`, url);
      await until("it is told that something may have been missed, and again when it listens", () => told >= 2);
      told = 0;
      await store.createKey(mine, newKey());
      await until("it hears of a change", () => told > 0);
      off();
    });

    test(
      "Store: every call fails fast while the server is away, and is answered when it is back",
      async () => {
        const { server, url, store } = world();
        const mine = await account(store);
        const [key, id] = [{ key: "k", requestHash: "h" }, newId()];
        await server.stop();
        const startMs = systemClock.monotonicMs();
        const calls = () => [
          store.ping(),
          store.account(mine),
          store.keyByHash("0".repeat(64)),
          store.admit(mine, [booking({ id })], key),
          store.record(movesOf(mine, id, LIFE)),
          store.events(mine, id, 10),
          store.due(0, 10, 10),
        ];
        for (let round = 0; round < 3; round++) {
          expect(await Promise.all(calls().map(codeOf))).toEqual(Array(7).fill("store_unavailable"));
        }
        expect(systemClock.monotonicMs() - startMs).toBeLessThan(30_000);
        await server.start();
        await until("it answers again", async () => (await codeOf(store.ping())) === "none");
        expect(await store.admit(mine, [booking({ id })], key)).toEqual({ kind: "booked" });
        expect(await store.admit(mine, [booking()], key)).toEqual({ kind: "replayed", sandbox: id });
        await store.record(movesOf(mine, id, LIFE));
        expect((await store.events(mine, id, 10))?.length).toBe(4);
        await using other = await openStore({ ...parts, url, dir: "/nonexistent" });
        let told = 0;
        const off = store.onKeysChanged(() => {
          told += 1;
        });
        await until("it hears of changes again", async () => {
          await other.updateAccount(mine, { name: "another" });
          return told > 0;
        });
        off();
      },
      SLOW_MS,
    );

    test("Store.ping gives up on a server that stands still", async () => {
      const { server, url } = world();
      const clock = new FakeClock();
      await using store = await openStore({ ...parts, clock, url, dir: "/nonexistent" });
      await store.ping();
      const goOn = await server.freeze();
      try {
        const pinged = codeOf(store.ping());
        await until("it waits with a deadline", () => clock.waiting > 0);
        await clock.advance(15_000);
        expect(await pinged).toBe("store_unavailable");
      } finally {
        goOn();
      }
      expect(await codeOf(store.ping())).toBe("none");
    });

    test("Store errors tell nothing of what was asked with", async () => {
      const { store } = world();
      const mine = await account(store);
      const secret = "do-not-tell-anyone";
      const failures = [
        store.createKey(mine, newKey({ hash: secret })),
        store.createWebhook("no-account", webhook({ url: `https://example.com/${secret}` }), secret),
        store.describe(mine, [sandboxInfo(newId(), { createdAt: secret })]),
      ].map((job) =>
        job.then(
          () => null,
          (thrown: unknown) => thrown,
        ),
      );
      for (const failure of await Promise.all(failures)) {
        expect(isWarrenError(failure, "internal")).toBe(true);
        expect(Bun.inspect(failure, { depth: 10 })).not.toContain(secret);
        expect(JSON.stringify(failure)).not.toContain(secret);
      }
    });

    test("openStore fails as store_unavailable where nothing listens, and as invalid_request of another URL", async () => {
      const open = (url: string) => openStore({ ...parts, url, dir: "/nonexistent" });
      expect(await codeOf(open("postgres://warren:hunter2@127.0.0.1:1/x"))).toBe("store_unavailable");
      const refused = await open("mysql://warren:hunter2@127.0.0.1/x").then(
        () => null,
        (thrown: unknown) => thrown,
      );
      expect(isWarrenError(refused, "invalid_request")).toBe(true);
      expect(Bun.inspect(refused)).not.toContain("hunter2");
    });
  });
}
