/** Databases as they are outside: of somebody who may not make roles, and with a clock of their own. */
import { expect, test } from "bun:test";
import { systemClock } from "../../src/base/clock.ts";
import { openStore } from "../../src/db/store.ts";
import { gate } from "../harness/gates.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { account } from "../suites/store/world.ts";
import { parts } from "./world.ts";

if (gate("postgres")) {
  test("openStore by an owner who may not make roles goes on without warren_reports; one who may has it beside it, and both work", async () => {
    await using server = await PrivatePostgres.open();
    await server.run("create role plain login nosuperuser nocreaterole");
    await server.run("create database mine owner plain");
    const roles = async () => (await server.run("select 1 from pg_roles where rolname = 'warren_reports'")).length;
    const url = server.url("mine").replace("warren@", "plain@");
    await using store = await openStore({ ...parts, url, dir: "/nonexistent" });
    expect(await roles()).toBe(0);
    expect((await store.account(await account(store)))?.name).toBe("An account");
    await using other = await openStore({ ...parts, url: await server.database(), dir: "/nonexistent" });
    expect(await roles()).toBe(1);
    await using third = await openStore({ ...parts, url: await server.database(), dir: "/nonexistent" });
    expect([other.kind, third.kind]).toEqual(["postgres", "postgres"]);
  }, 120_000);

  test("Store.settleBooks by a server whose clock is weeks ahead of the database's closes no day and issues nothing", async () => {
    await using server = await PrivatePostgres.open();
    await using store = await openStore({ ...parts, url: await server.database(), dir: "/nonexistent" });
    const nowMs = systemClock.wallMs();
    await store.settleBooks(nowMs);
    expect(await store.settleBooks(nowMs + 40 * 86_400_000)).toEqual({ cut: 0, charged: 0, closed: 0, issued: 0 });
  }, 120_000);
}
