/** From rows of what is kept on disk to what was stored for how long: byte-milliseconds, exact, additive over any cut of time. */
import type { Stored, StoredKind } from "../contract/stored.ts";
import type { Window } from "./fold.ts";
import type { MeterName } from "./meters.ts";

/** What each kind is charged by, in the database too. */
export const STORED_METERS = {
  snapshot: "snapshot_mib_s",
  volume: "volume_mib_s",
  image: "hibernated_mib_s",
  template: "template_mib_s",
  ready: "ready_memory_mib_ms",
  build: "build_s",
} as const satisfies Record<StoredKind, MeterName>;

/** Bytes × milliseconds by kind. */
export type StorageUsage = Readonly<Record<StoredKind, bigint>>;

export const NOTHING_STORED: StorageUsage = {
  ...{ snapshot: 0n, image: 0n, volume: 0n },
  ...{ template: 0n, ready: 0n, build: 0n },
};

/** Rows of one thing have to be in order; what is still there counts up to `toMs`, and not beyond its last row without one. */
export function foldStorage(rows: Iterable<Stored>, { fromMs, toMs }: Window = {}): StorageUsage {
  const last = new Map<string, Stored>();
  const sum = { ...NOTHING_STORED };
  const charge = (row: Stored, untilMs: number): void => {
    const start = Math.floor(Math.max(row.monotonicMs, fromMs ?? row.monotonicMs));
    const end = Math.floor(Math.min(untilMs, toMs ?? untilMs));
    if (end > start) sum[row.kind] += BigInt(row.sizeBytes) * BigInt(end - start);
  };
  for (const row of rows) {
    const key = `${row.kind} ${row.account} ${row.id}`;
    const before = last.get(key);
    if (before !== undefined) charge(before, row.monotonicMs);
    last.set(key, row);
  }
  if (toMs !== undefined) for (const row of last.values()) charge(row, toMs);
  return sum;
}
