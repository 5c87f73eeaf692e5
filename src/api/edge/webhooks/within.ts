/** Work that somebody else may keep waiting, held to a time. */
import type { Clock } from "../../../base/clock.ts";

/** What `job` comes to. @throws what it throws; `signal`'s reason; an `Error` when it takes longer than `limitMs` milliseconds */
export async function within<T>(
  clock: Clock,
  limitMs: number,
  signal: AbortSignal,
  job: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const says = new Error(`no answer within ${limitMs / 1000} s`);
  const cancel = clock.after(limitMs, () => late.abort(says), { background: true });
  const either = AbortSignal.any([late.signal, signal]);
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = (): void => reject(either.reason);
  if (either.aborted) stop();
  either.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([job(either), promise]);
  } finally {
    cancel();
    either.removeEventListener("abort", stop);
  }
}
