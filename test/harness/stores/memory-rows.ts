/** What the store in memory holds, row by row. */
import type { Delivery, NewKey } from "../../../src/api/store.ts";
import type { Move } from "../../../src/contract/move.ts";
import type { WebhookInfo } from "../../../src/contract/routes/api/webhooks.ts";
import type { SandboxInfo } from "../../../src/contract/routes/sandboxes.ts";

export interface Row {
  readonly account: string;
  cpu: number;
  memoryMib: number;
  readonly createdAtMs: number;
  booked: boolean;
  endedAtMs: number | null;
  info: SandboxInfo | null;
  readonly moves: Map<number, Move>;
}
export interface HeldKey extends NewKey {
  readonly account: string;
  lastUsedAtMs: number | null;
  revoked: boolean;
}
export interface HeldWebhook {
  readonly account: string;
  readonly secret: string;
  info: WebhookInfo;
}
export interface Waiting extends Delivery {
  nextAtMs: number;
  leasedUntilMs: number;
  tries: number;
}

export function sorted(row: Row): Move[] {
  return [...row.moves.values()].sort((a, b) => a.sequence - b.sequence);
}

export function last(row: Row): Move | undefined {
  return sorted(row).at(-1);
}
