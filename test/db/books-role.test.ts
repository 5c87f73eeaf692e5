/** A database of somebody who may not make roles: it is brought up to date all the same, without the one for BI. */
import { expect, test } from "bun:test";
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
}
