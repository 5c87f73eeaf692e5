/** The behaviour suite against real microVMs, on each of the three paths that a create takes. */
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { openTestWarren, VM_BAKE_MS, VM_TEST_MS } from "../harness/vm.ts";
import { sandboxSuite } from "../suites/sandbox.ts";

const PATHS = {
  "nothing prepared": { prepared: 0 },
  "a prepared VMM": { prepared: 2 },
  "a ready clone": { prepared: 0, ready: 2 },
} as const;

if (gate("vm")) {
  guardLeaks("base");
  for (const [path, pool] of Object.entries(PATHS)) {
    sandboxSuite(
      `a real microVM from ${path}`,
      async () => {
        const warren = await openTestWarren(pool);
        await warren.engine.prepare();
        return { host: warren.sandboxes, close: async () => await warren[Symbol.asyncDispose]() };
      },
      { timeoutMs: VM_TEST_MS, setUpMs: VM_BAKE_MS },
    );
  }
}
