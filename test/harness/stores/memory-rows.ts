/** What the store in memory holds, row by row. */
import type { Beat } from "../../../src/api/billing.ts";
import type { Delivery, NewKey } from "../../../src/api/store.ts";
import type { Move } from "../../../src/contract/move.ts";
import type { SandboxEventInfo } from "../../../src/contract/routes/api/calls.ts";
import type { WebhookInfo } from "../../../src/contract/routes/api/webhooks.ts";
import type { SandboxInfo } from "../../../src/contract/routes/sandboxes.ts";
import { WarrenError } from "../../../src/errors.ts";

/** As much as a float can tell. */
export function creditWith(creditUsd: string | null, addUsd: string): string {
  const sum = Number(creditUsd) + Number(addUsd);
  if (creditUsd !== null && Math.abs(sum) < 1e12) return String(sum);
  throw new WarrenError("invalid_request", "addCreditUsd: it is not prepaid, or that is too much");
}

export interface Row {
  readonly account: string;
  cpu: number;
  memoryMib: number;
  readonly createdAtMs: number;
  booked: boolean;
  endedAtMs: number | null;
  info: SandboxInfo | null;
  readonly moves: Map<number, Move>;
  /** The last proof of life that is not a move. */
  beat: Beat | null;
  /** As reconciled, on the sandbox's axis. */
  ranToMs: number | null;
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

export function newRow(account: string, cpu: number, memoryMib: number, createdAtMs: number): Row {
  const open = { booked: false, endedAtMs: null, info: null, moves: new Map(), beat: null, ranToMs: null };
  return { account, cpu, memoryMib, createdAtMs, ...open };
}

/** A proof of life only grows; what is unknown or over has none. */
export function beaten(row: Row | undefined, beat: Beat): void {
  if (row === undefined || row.endedAtMs !== null || (row.beat?.seenMs ?? Number.NEGATIVE_INFINITY) > beat.seenMs)
    return;
  row.beat = beat;
}

/** Its last proof of life, on its axis. */
export function seenMs(row: Row): number {
  return Math.max(row.beat?.seenMs ?? 0, last(row)?.monotonicMs ?? 0);
}

export function eventsOf(row: Row, tail: number): SandboxEventInfo[] {
  return sorted(row)
    .slice(-tail)
    .map(({ sequence, wallMs, event, from, to, reason }) => ({
      ...{ sequence, at: new Date(wallMs).toISOString(), type: event, from, to, reason },
    }));
}

/** Null when it has not ended, or was never described. */
export function endedInfo(row: Row): SandboxInfo | null {
  if (row.endedAtMs === null || row.info === null) return null;
  const end = last(row);
  if (end === undefined || !/^(deleted|failed)$/.test(end.to)) {
    return { ...row.info, state: "failed", reason: "its end was not seen" };
  }
  return { ...row.info, state: end.to, reason: end.reason };
}
