/**
 * What the engine needs of durable snapshots: a point in a sandbox's life kept on disk and opened again, by this process or
 * a later one. A snapshot is immutable and may be restored any number of times; the image of a hibernated sandbox belongs to
 * that sandbox alone, and waking uses it up.
 */
import type { Clock } from "../base/clock.ts";
import type { Egress, Secret } from "../contract/routes/network.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { SnapshotInfo } from "../contract/routes/snapshots.ts";
import type { OpenTemplate, TemplateSize } from "./templates.ts";

export interface SnapshotMeta {
  readonly id: string;
  readonly account: string;
  readonly name: string | null;
  /** The sandbox that it is of. */
  readonly sandboxId: string;
  /** The template that this sandbox came from in the first place. */
  readonly template: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Defaults of every exec in what is restored from it. */
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string | null;
  /** What may leave it; secrets are in the file that only root can read. */
  readonly egress: Egress;
  readonly secrets: readonly Secret[];
  /** Milliseconds for which the sandbox stood still. */
  readonly pauseMs: number;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  /** The snapshot that its sandbox was restored from. */
  readonly parentSnapshotId: string | null;
  /** Of a hibernated one: what it was, so that another process can be its engine. */
  readonly sandbox: SandboxInfo | null;
  /** Of a hibernated one: its axis of time, so that it goes on with it. */
  readonly axis?: SavedAxis;
}

export interface SavedAxis {
  /** `Live.axisMs`, of the boot that it hibernated in. */
  readonly axisMs: number;
  readonly hostBootId: string;
  /** When it hibernated, on that axis. */
  readonly atMs: number;
}

/** In the boot that it hibernated in the same axis; in a later one by the wall clock, and not before it hibernated. */
export function axisNow(
  saved: SavedAxis | undefined,
  { clock, host }: { readonly clock: Clock; readonly host: { readonly bootId: string } },
): number {
  if (saved !== undefined && saved.hostBootId === host.bootId) return saved.axisMs;
  return Math.max(clock.wallMs(), saved?.atMs ?? 0) - clock.monotonicMs();
}

/** What is known of a snapshot without opening it. */
export interface SavedSnapshot {
  readonly meta: SnapshotMeta;
  readonly size: TemplateSize;
  readonly info: SnapshotInfo;
}

/** An open snapshot with one hold that is the caller's; disposing gives it back. Closed when nobody holds it any more. */
export interface HeldPoint extends OpenTemplate, Disposable {}

/** The image of a hibernated sandbox in the hands of one process: nobody else can take it. */
export interface TakenImage {
  readonly saved: SavedSnapshot;
  /** @throws {WarrenError} `snapshot_invalid`, `storage_exhausted`, `capacity_exhausted` */
  open(signal?: AbortSignal): Promise<HeldPoint>;
  /** The wake failed before its guest ran: the image is there again. */
  putBack(): Promise<void>;
  /** Gone for good. To be called before the guest's first instruction: its disk is the newer one from there on. */
  consume(): Promise<void>;
}

export interface SnapshotStore {
  /**
   * Writes a point to disk; it is listed whole or not at all. The point may be released right after.
   * @throws {WarrenError} `storage_exhausted`, `already_exists` – the id; the signal's reason
   */
  save(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal): Promise<SnapshotInfo>;
  /** By id or, the newest first, by name. @throws {WarrenError} `not_found`, also for another account's */
  find(account: string, idOrName: string): Promise<SavedSnapshot>;
  /** Newest first. */
  list(account: string, sandboxId?: string): Promise<SavedSnapshot[]>;
  /**
   * Verified once in a process's life. While the point, or a VMM restored from it, is there, the snapshot cannot be removed.
   * @throws {WarrenError} `not_found`, `snapshot_invalid` – damaged, or of another host
   */
  open(account: string, idOrName: string, signal?: AbortSignal): Promise<HeldPoint>;
  /** @throws {WarrenError} `not_found`, `snapshot_in_use` */
  remove(account: string, id: string): Promise<void>;
  /** Makes a template of it, which stays when the snapshot is removed. @throws {WarrenError} `not_found`, `already_exists` */
  promote(account: string, id: string, name: string): Promise<void>;
  /** Removes what crashes left and what nobody refers to; puts back images whose takers ended. @returns how many were removed */
  collect(): Promise<number>;

  /** Keeps a sandbox that hibernates, under its id. @throws {WarrenError} `storage_exhausted`, `already_exists` */
  saveImage(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal): Promise<SnapshotInfo>;
  /** Null when there is none, or someone has taken it. */
  findImage(sandboxId: string): Promise<SavedSnapshot | null>;
  listImages(account: string): Promise<SavedSnapshot[]>;
  /** Null when there is none, or someone else has taken it: of two that try, one gets it. */
  takeImage(sandboxId: string): Promise<TakenImage | null>;
  /** Of a sandbox that is closed while it hibernates; none is fine. */
  removeImage(sandboxId: string): Promise<void>;
}
