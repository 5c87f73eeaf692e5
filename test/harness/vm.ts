/**
 * Real VMs for tests: one home for the whole run (`WARREN_HOME`, else `.warren` in the checkout), so that templates are
 * baked once; and what a test may wait for a guest under software emulation.
 */
import { join } from "node:path";
import { openWarren, type Warren, type WarrenOptions } from "../../src/compose.ts";

export const TEST_HOME = process.env["WARREN_HOME"] ?? join(import.meta.dir, "../../.warren");

/** For one test over a few guests. Emulated guests are 15 times slower than the host, and the host may be busy. */
export const VM_TEST_MS = 120_000;
/** For the first use of a template: packages from the mirror, a boot, warm imports. */
export const VM_BAKE_MS = 600_000;

/** Without networks that are kept ready, whose descriptors would look like leaks; a test about them says otherwise. */
export function openTestWarren(options: WarrenOptions = {}): Promise<Warren> {
  return openWarren({ networkReserve: 0, ...options, config: { home: TEST_HOME, log: "error", ...options.config } });
}
