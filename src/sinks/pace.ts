/** When something is tried again: later each time, never all at once, and no sooner than a receiver asks for. Pure. */

const FIRST_MS = 5_000;
const LONGEST_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** An hour apart in the end, so for a month: what is older than that, no receiver here promises to count once. */
const TRIES = 24 * 30;
/** Of a wait, so that what failed together does not come again together. */
const SPREAD = 0.2;

const PAUSE_MS = 1_000;
const PAUSE_LONGEST_MS = 300_000;

/** Milliseconds until the try after `tries` that failed; null: no more. `seed` spreads, 0 to 1; `asked`: by the receiver. */
export function retryMs(tries: number, seed: number, asked: number | null): number | null {
  if (tries >= TRIES) return null;
  const ownMs = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(tries - 1, 20));
  return Math.max(ownMs * (1 + SPREAD * seed), bounded(asked));
}

/** Milliseconds for which a receiver that failed so often in a row is left alone. */
export function pauseMs(failures: number, asked: number | null): number {
  return Math.max(Math.min(PAUSE_LONGEST_MS, PAUSE_MS * 2 ** Math.min(failures - 1, 20)), bounded(asked));
}

/** Nobody is left alone for longer than a day because it asks for that. */
function bounded(asked: number | null): number {
  return Math.min(DAY_MS, asked ?? 0);
}

/** RFC 9110, 10.2.3: seconds, or a date. Null: it is neither. */
export function retryAfterMs(text: string | undefined, nowMs: number): number | null {
  if (text === undefined) return null;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const atMs = /^[A-Z][a-z]{2}, /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(atMs) ? null : Math.max(0, atMs - nowMs);
}
