/** A few rounds of the recorded run (crash.ts): whatever is killed, nobody is charged for more than ran, or for anything twice. */
import { expect, test } from "bun:test";
import { LIMITS } from "../../../src/limits.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { sitting } from "./crash.ts";

const ROUNDS = Number(process.env["CRASH_ROUNDS"] ?? 4);
const SEED = Number(process.env["CRASH_SEED"] ?? 1001);

if (gate("root", "vm", "postgres")) {
  guardLeaks("base");

  test(
    `What is billed is what ran, over ${ROUNDS} servers that are killed with their VMMs and their database`,
    async () => {
      const line = await sitting({ from: SEED, rounds: ROUNDS });
      expect(line).toMatchObject({ overMsMax: 0, duplicates: 0, aboveOneTick: 0 });
      expect(line["underMsMaxWithKernel"]).toBeLessThanOrEqual(LIMITS.heartbeatMs);
      expect(line["kills"]).toBeGreaterThan(2 * ROUNDS);
    },
    ROUNDS * 90_000,
  );
}
