/** How long the last creates of this server took, exactly: every sample is kept, and counted when somebody asks. */
import type { RowCalls } from "../../parts.ts";
import { BOUNDS } from "../bounds.ts";

interface Sample {
  readonly path: string;
  readonly ms: number;
}

/** The smallest sample that at least `share` of all are not above; of a list in order that is not empty. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}

export class BootTimes {
  readonly #samples: Sample[] = [];

  add(path: string, ms: number): void {
    this.#samples.push({ path, ms });
    if (this.#samples.length > BOUNDS.bootSamples) this.#samples.shift();
  }

  readonly rows: RowCalls<"bootStats"> = {
    bootStats: async () =>
      [...Map.groupBy(this.#samples, ({ path }) => path)]
        .map(([path, samples]) => {
          const sorted = samples.map(({ ms }) => ms).sort((a, b) => a - b);
          const [p50Ms, p90Ms, p99Ms, maxMs] = [0.5, 0.9, 0.99, 1].map((share) => percentile(sorted, share));
          return {
            path,
            count: sorted.length,
            p50Ms: p50Ms ?? 0,
            p90Ms: p90Ms ?? 0,
            p99Ms: p99Ms ?? 0,
            maxMs: maxMs ?? 0,
          };
        })
        .sort((a, b) => a.path.localeCompare(b.path)),
  };
}
