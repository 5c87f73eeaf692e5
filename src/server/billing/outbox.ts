/** Usage on its way out: what is new is queued for every sink, and what is queued is sent. */
import type { BillingStore } from "../../api/billing.ts";
import { systemResolve } from "../../api/edge/webhooks/address.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { LIMITS } from "../../limits.ts";
import { SinkSender } from "../../sinks/sender.ts";
import type { HealthBoard } from "../health.ts";
import type { Figures } from "./figures.ts";

export interface OutboxParts {
  readonly store: Pick<BillingStore, "fillOutbox" | "outboxWaiting" | "dueEvents" | "settleEvents">;
  readonly allowPrivate: boolean;
  readonly health: HealthBoard;
  readonly figures: Figures;
  readonly clock: Clock;
  readonly log: Log;
}

/** Until the signal; what is being sent then is cut off, and sent again by whoever goes on. Never fails. */
export async function sendUsage(parts: OutboxParts, signal: AbortSignal): Promise<void> {
  const { figures, clock, log } = parts;
  const sender = new SinkSender({
    ...{ store: parts.store, clock, log, resolve: systemResolve, allowPrivate: parts.allowPrivate },
    told: (kind, outcome, events) => figures.sent(kind, outcome, events),
  });
  let isAway = false;
  while (!signal.aborted) {
    try {
      await fill(parts, signal);
      isAway = false;
    } catch (cause) {
      if (!isAway) log.warn("usage could not be queued for sinks; it is tried again", { cause: String(cause) });
      isAway = true;
    }
    if (!signal.aborted) await sender.wake();
    await clock.sleep(LIMITS.outboxMs, signal).catch(() => undefined); // ends with the server
  }
  await sender.close();
}

async function fill({ store, health, figures, clock }: OutboxParts, signal: AbortSignal): Promise<void> {
  let waiting = await store.outboxWaiting();
  if (waiting.size > 0) {
    while (!signal.aborted && (await store.fillOutbox(LIMITS.outboxEvents, clock.wallMs())) > 0);
    waiting = await store.outboxWaiting();
  }
  figures.waits(waiting);
  const late = [...waiting].filter(([, count]) => count >= LIMITS.outboxEvents).map(([sink]) => sink);
  health.note("sinks", late.length === 0 ? null : `usage waits for sinks that take none or little: ${late.join(", ")}`);
}
