/** The books are settled by every server again and again: whoever comes second finds nothing to do. */
import type { BillingStore } from "../../api/billing.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { LIMITS } from "../../limits.ts";
import type { HealthBoard } from "../health.ts";
import type { Figures } from "./figures.ts";

export interface BooksParts {
  readonly store: Pick<BillingStore, "settleBooks">;
  readonly health: HealthBoard;
  readonly figures: Figures;
  readonly clock: Clock;
  readonly log: Log;
}

/** At once and every {@link LIMITS.settleMs} until the signal. Never fails: what fails is tried again, and told. */
export async function settleAlways(
  { store, health, figures, clock, log }: BooksParts,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    const startMs = clock.monotonicMs();
    try {
      const done = await untilEnd(store.settleBooks(clock.wallMs()), clock, signal);
      if (done === null) return; // whoever settles next finds what is left
      const ms = clock.monotonicMs() - startMs;
      figures.settled(ms);
      if (failures > 0) log.info("the books are settled again", { afterFailures: failures });
      failures = 0;
      health.note("books", null);
      if (done.closed > 0 || done.issued > 0) log.info("the books were settled", { ...done, ms: Math.round(ms) });
    } catch (cause) {
      failures += 1;
      if (failures === 1) log.error("the books could not be settled; it is tried again", { cause: String(cause) });
      health.note("books", `the books could not be settled ${failures} times; see the log`);
    }
    await clock.sleep(LIMITS.settleMs, signal).catch(() => undefined); // ends with the server
  }
}

/** What the job comes to; null when the server ends and it still takes {@link LIMITS.drainRowsMs}: much may have to be settled. */
async function untilEnd<T>(job: Promise<T>, clock: Clock, signal: AbortSignal): Promise<T | null> {
  const over = Promise.withResolvers<null>();
  let cancel = (): void => undefined;
  const end = (): void => {
    cancel = clock.after(LIMITS.drainRowsMs, () => over.resolve(null));
  };
  if (signal.aborted) end();
  signal.addEventListener("abort", end, { once: true });
  try {
    return await Promise.race([job, over.promise]);
  } finally {
    signal.removeEventListener("abort", end);
    cancel();
    job.catch(() => undefined); // nobody waits for it any more: it fails with the store, which closes
  }
}
