/** The behaviour suite over HTTP against real microVMs: the server's own process, with each database; by the client on Bun and on Node. */
import { expect, test } from "bun:test";
import { connect } from "../../../src/client.ts";
import { gate } from "../../harness/gates.ts";
import { startServerProcess } from "../../harness/server.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { bundled, run } from "../../sdk/node/build.ts";
import { sandboxSuite } from "../../suites/sandbox.ts";

const NODE_MS = 1_200_000;

/** A server as people start it, but for sandboxes that have no end of their own. */
async function started(databaseUrl?: string) {
  {
    await using warren = await openTestWarren({ prepared: 0 });
    await warren.engine.prepare();
  }
  const env = { WARREN_DEFAULT_TTL: "none" };
  const database = databaseUrl === undefined ? {} : { databaseUrl };
  return startServerProcess({ home: TEST_HOME, env, readyMs: VM_BAKE_MS, ...database });
}

const skips = { direct: "connections hold megabytes that nobody has read, so that a watch has none too many" };
const options = { skips, detached: true, timeoutMs: VM_TEST_MS, setUpMs: VM_BAKE_MS };

if (gate("root", "vm")) {
  sandboxSuite(
    "a real microVM over HTTP, PGlite",
    async () => {
      const server = await started();
      const { host } = connect({ url: server.url, key: server.key });
      return { host, close: async () => await server[Symbol.asyncDispose]() };
    },
    options,
  );

  if (gate("postgres")) {
    sandboxSuite(
      "a real microVM over HTTP, PostgreSQL",
      async () => {
        const database = await PrivatePostgres.open();
        const server = await started(await database.database());
        const { host } = connect({ url: server.url, key: server.key });
        const close = async () => {
          await server[Symbol.asyncDispose]();
          await database[Symbol.asyncDispose]();
        };
        return { host, close };
      },
      options,
    );
  }

  if (gate("node", "postgres")) {
    test(
      "a real microVM over HTTP, by the client on Node, passes the suite",
      async () => {
        await using program = await bundled("suite.ts");
        await using database = await PrivatePostgres.open();
        await using server = await started(await database.database());
        const lacks = JSON.stringify({ ...skips, sockets: "forwards and WebSockets to ports need Bun" });
        const argv = [program.path, server.url, server.key, lacks, String(VM_TEST_MS)];
        const { exitCode, output } = await run(["node", "--test-reporter=tap", ...argv]);
        if (exitCode !== 0) throw new Error(output);
        expect(Number(/^# pass (\d+)$/m.exec(output)?.[1])).toBeGreaterThan(80);
      },
      NODE_MS,
    );
  }
}
