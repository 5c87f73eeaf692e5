/** A file larger than the memory that a server may need passes through it, with PostgreSQL behind. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "../../../src/client.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { throughServer } from "../../bench/serve/large.ts";
import { gate } from "../../harness/gates.ts";
import { type ServerProcess, startServerProcess } from "../../harness/server.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS } from "../../harness/vm.ts";

/** Resident, at its highest: what a server holds of itself and a window of what passes. */
const MOST_MIB = 256;
/** More than that, so that a server which held the file would be seen; the recorded run moves 2 GiB where the channel can. */
const FILE_MIB = Number(process.env["LARGE_MIB"] ?? 320);

if (gate("root", "vm", "postgres")) {
  let database: PrivatePostgres;
  let server: ServerProcess;
  beforeAll(async () => {
    await using warren = await openTestWarren();
    for (const template of ["base", "code-interpreter"]) await warren.engine.prepare({ template });
    database = await PrivatePostgres.open();
    server = await startServerProcess({ home: TEST_HOME, databaseUrl: await database.database(), readyMs: VM_BAKE_MS });
  }, VM_BAKE_MS);
  afterAll(async () => {
    await server?.end("SIGTERM");
    await database?.[Symbol.asyncDispose]();
  }, 60_000);

  test(`A file of ${FILE_MIB} MiB passes a server up and down, which never has ${MOST_MIB} MiB resident`, async () => {
    await using box = await Sandbox.create({ ttlSeconds: 900 }, connect({ url: server.url, key: server.key }).host);
    const moved = await throughServer(server, box.id, FILE_MIB);
    console.log(JSON.stringify(moved));
    expect(moved.peakMib).toBeLessThan(MOST_MIB);
  }, 600_000);
}
