/** The largest value of something that is looked at now and then. */
import type { Clock } from "../../base/clock.ts";

const SAMPLE_MS = 500;

/** Looks at a number twice a second; the result ends that and tells the largest, or null when there never was one. */
export function peakOf(clock: Clock, sample: () => number | null): () => number | null {
  let peak = sample();
  let stopped = false;
  const look = () => {
    if (stopped) return;
    const now = sample();
    if (now !== null) peak = Math.max(peak ?? 0, now);
    clock.after(SAMPLE_MS, look, { background: true });
  };
  look();
  return () => {
    stopped = true;
    return peak;
  };
}
