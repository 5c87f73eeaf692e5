/** What a server does now and then beside requests: looks whether its database answers, and forgets what is old. */
import type { Store } from "../api/store.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { LIMITS } from "../limits.ts";
import type { HealthBoard } from "./health.ts";
import type { WriteBehind } from "./write-behind.ts";

const DAY_MS = 86_400_000;

interface Chore {
  readonly store: Pick<Store, "ping" | "forget">;
  readonly clock: Clock;
  readonly log: Log;
}

/** Until the signal. Never fails. */
export async function watchStore(
  { store, health, behind, clock, log }: Chore & { readonly health: HealthBoard; readonly behind: WriteBehind },
  signal: AbortSignal,
): Promise<void> {
  let isAway = false;
  while (!signal.aborted) {
    try {
      await store.ping();
      if (isAway) log.info("the database answers again");
      isAway = false;
      health.trouble("store", null);
    } catch (cause) {
      if (!isAway) log.error("the database does not answer", { cause: String(cause), rows: behind.waiting });
      isAway = true;
      health.trouble("store", `the database does not answer; ${behind.waiting} rows wait for it`);
    }
    if (behind.lost > 0) health.note("lost", `${behind.lost} rows could not be written and were given up; see the log`);
    await clock.sleep(LIMITS.storeLookMs, signal).catch(() => undefined); // ends with the server
  }
}

/** Forgets what is older than `keepDays`, at once and every hour until the signal. Never fails. */
export async function forgetOld({ store, clock, log }: Chore, keepDays: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const rows = await store.forget(clock.wallMs() - keepDays * DAY_MS);
      if (rows > 0) log.info("what is old was forgotten", { rows, keepDays });
    } catch (cause) {
      log.warn("what is old could not be forgotten; it is tried again", { cause: String(cause) });
    }
    await clock.sleep(LIMITS.retentionMs, signal).catch(() => undefined); // ends with the server
  }
}
