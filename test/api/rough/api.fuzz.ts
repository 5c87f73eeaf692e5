/**
 * Every row of the API under generated requests. Run by hand for long:
 * `bun test/api/rough/api.fuzz.ts --runs 100000 --seed 1 [--record]`; a short run is part of the tests.
 *
 * Holds: no answer is a 500, and each that is no success says what, by which code, and under which request id.
 */
import { campaign } from "../../fuzz/campaign.ts";
import { Asked } from "./asked.ts";

if (import.meta.main) {
  await campaign({
    name: "api",
    file: "../api/rough/api.fuzz.ts",
    blockRuns: 5_000,
    async block(runs, seed, tick) {
      await using scene = await Asked.open();
      const seen = await scene.all(runs, seed, tick);
      return Object.fromEntries(Object.entries(seen).map(([status, count]) => [`status${status}`, count]));
    },
  });
}
