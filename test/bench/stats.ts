/** What a benchmark says of its samples: medians and 99th percentiles, never a single run. */

export interface Summary {
  readonly n: number;
  readonly min: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export function summary(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  return { n: sorted.length, min: at(sorted, 0), p50: at(sorted, 0.5), p99: at(sorted, 0.99), max: at(sorted, 1) };
}

/** Median of the ratios pair by pair: what two interleaved series say of each other on a machine whose speed drifts. */
export function pairRatio(of: readonly number[], to: readonly number[]): number {
  return summary(of.map((value, i) => value / (to[i] ?? Number.NaN))).p50;
}

export function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}
