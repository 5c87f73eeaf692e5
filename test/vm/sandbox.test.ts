/** The behaviour suite against real microVMs. */
import { gate } from "../harness/gates.ts";
import { openTestWarren, VM_BAKE_MS, VM_TEST_MS } from "../harness/vm.ts";
import { sandboxSuite } from "../suites/sandbox.ts";

if (gate("vm")) {
  sandboxSuite(
    "a real microVM",
    async () => {
      const warren = await openTestWarren();
      return { host: warren.sandboxes, close: async () => await warren[Symbol.asyncDispose]() };
    },
    { timeoutMs: VM_TEST_MS, setUpMs: VM_BAKE_MS },
  );
}
