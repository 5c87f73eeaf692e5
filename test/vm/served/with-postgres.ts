/** For a file of tests: a server over real VMs, with a PostgreSQL of its own behind, from before its tests to after them. */
import { afterAll, beforeAll } from "bun:test";
import { type ServerProcess, startServerProcess } from "../../harness/server.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS } from "../../harness/vm.ts";

export interface Served {
  readonly database: PrivatePostgres;
  readonly server: ServerProcess;
}

/** Filled before the first test. */
export function withPostgres(): Served {
  const served = {} as { database?: PrivatePostgres; server?: ServerProcess };
  beforeAll(async () => {
    await using warren = await openTestWarren();
    for (const template of ["base", "code-interpreter"]) await warren.engine.prepare({ template });
    const database = await PrivatePostgres.open();
    served.database = database;
    const databaseUrl = await database.database();
    served.server = await startServerProcess({ home: TEST_HOME, databaseUrl, readyMs: VM_BAKE_MS });
  }, VM_BAKE_MS);
  afterAll(async () => {
    await served.server?.end("SIGTERM");
    await served.database?.[Symbol.asyncDispose]();
  }, 60_000);
  return served as Served;
}
