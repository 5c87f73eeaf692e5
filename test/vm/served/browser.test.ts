/** The published client in a browser, on a page of another origin, against a server over real microVMs. */
import { expect, test } from "bun:test";
import { Browser } from "../../api/browser/chromium.ts";
import { elsewhere, useSandbox } from "../../api/browser/elsewhere.ts";
import { gate } from "../../harness/gates.ts";
import { startServerProcess } from "../../harness/server.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

if (gate("root", "vm", "chromium", "postgres")) {
  test(
    "A page of another origin creates a microVM, streams, writes, reads and closes, where WARREN_CORS names it",
    async () => {
      {
        await using warren = await openTestWarren({ prepared: 0 });
        await warren.engine.prepare();
      }
      await using database = await PrivatePostgres.open();
      await using other = await elsewhere();
      await using browser = await Browser.launch();
      const env = { WARREN_CORS: other.origin };
      await using server = await startServerProcess({
        ...{ home: TEST_HOME, databaseUrl: await database.database(), env, readyMs: VM_BAKE_MS },
      });
      const page = await browser.page(other.origin);
      expect(await useSandbox(page, server.url, server.key)).toEqual({
        ...{ kinds: ["started", "stdout", "exit"], out: "one\n", left: "started" },
        ...{ read: [0, 255, 10, 13], piecewise: 200_000, missing: true, account: "admin", listed: 0 },
      });
    },
    VM_BAKE_MS + VM_TEST_MS,
  );
}
