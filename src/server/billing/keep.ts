/** All that a server does for the books beside its requests. */
import type { Store } from "../../api/store.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { SandboxHost } from "../../contract/routes.ts";
import type { HealthBoard } from "../health.ts";
import { settleAlways } from "./books.ts";
import { CreditWatch } from "./credit.ts";
import type { Figures } from "./figures.ts";
import { sendUsage } from "./outbox.ts";

export interface KeepParts {
  readonly store: Store;
  hostFor(account: string): SandboxHost;
  /** Sinks may be at private and loopback addresses. */
  readonly allowPrivate: boolean;
  readonly health: HealthBoard;
  readonly figures: Figures;
  readonly clock: Clock;
  readonly log: Log;
}

/** Until the signal. Never fails. */
export async function keepBooks(parts: KeepParts, signal: AbortSignal): Promise<void> {
  await Promise.all([settleAlways(parts, signal), new CreditWatch(parts).watch(signal), sendUsage(parts, signal)]);
}
