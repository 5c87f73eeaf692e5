/**
 * One folder of saved points, each in a folder of its own under its id, with the same rules for what users keep and for
 * hibernated sandboxes: a point appears whole by one rename, is open once in a process however many ask, and is removed by
 * moving it out of sight first.
 */
import { closeSync, existsSync, renameSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { SnapshotInfo } from "../contract/routes/snapshots.ts";
import type { HeldPoint, SavedSnapshot, SnapshotMeta } from "../engine/snapshots.ts";
import type { OpenTemplate } from "../engine/templates.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { partialOf, removePartials } from "../host/home/publish.ts";
import { namesIn } from "./bases.ts";
import type { Manifest } from "./manifest.ts";
import { lockPoint, type OpenParts, type OpenPoint, openPoint, readManifest } from "./point.ts";
import { syncFolder, type WriteParts, writePoint } from "./write.ts";

export interface ShelfParts extends WriteParts, OpenParts {}

/** Ids become names of folders. */
const ID = /^[a-z0-9][a-z0-9_-]{0,62}$/;

export class Shelf {
  readonly #dir: string;
  readonly #parts: () => Promise<ShelfParts>;
  readonly #open = new Map<string, Promise<OpenPoint | null>>();

  constructor(dir: string, parts: () => Promise<ShelfParts>) {
    this.#dir = dir;
    this.#parts = parts;
  }

  /** @throws {WarrenError} `already_exists`, `storage_exhausted` */
  async save(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal): Promise<SnapshotInfo> {
    const path = this.#path(meta.id);
    if (path === null) throw new WarrenError("internal", `an id of a snapshot cannot be ${JSON.stringify(meta.id)}`);
    if (existsSync(path)) throw new WarrenError("already_exists", `there is a snapshot ${meta.id} already`);
    signal?.throwIfAborted();
    const parts = await this.#parts();
    const letGo = point.hold();
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const partial = partialOf(path);
    try {
      await mkdir(partial, { mode: 0o700 });
      const manifest = await writePoint(parts, partial, point, meta, signal);
      signal?.throwIfAborted();
      renameSync(partial, path);
      syncFolder(this.#dir);
      parts.step("published");
      return infoOf(manifest);
    } catch (cause) {
      await rm(partial, { recursive: true, force: true });
      if (!hasNoRoom(cause)) throw cause;
      throw new WarrenError("storage_exhausted", "there is no room on the disk for the snapshot", { cause });
    } finally {
      letGo();
    }
  }

  /** Null when there is none. @throws {WarrenError} `snapshot_invalid` */
  find(id: string): SavedSnapshot | null {
    const path = this.#path(id);
    const manifest = path === null ? null : readManifest(path, id);
    return manifest === null ? null : savedOf(manifest);
  }

  /** All that can be read, newest first; one that is damaged is no reason not to see the others. */
  list(): SavedSnapshot[] {
    const found: SavedSnapshot[] = [];
    for (const id of namesIn(this.#dir)) {
      try {
        const saved = this.find(id);
        if (saved !== null) found.push(saved);
      } catch (error) {
        if (!isWarrenError(error, "snapshot_invalid")) throw error;
      }
    }
    return found.sort((a, b) => b.meta.createdAt.localeCompare(a.meta.createdAt));
  }

  /** Null when there is none. @throws {WarrenError} `snapshot_invalid`, `capacity_exhausted` */
  async open(id: string, signal?: AbortSignal): Promise<HeldPoint | null> {
    const path = this.#path(id);
    if (path === null) return null;
    for (;;) {
      signal?.throwIfAborted();
      const opening = this.#open.get(id) ?? this.#begin(id, path);
      const point = await opening;
      if (point === null) return null;
      if (!point.closed) return held(point);
      if (this.#open.get(id) === opening) this.#open.delete(id);
    }
  }

  /** @returns false when there is none @throws {WarrenError} `snapshot_in_use` */
  async remove(id: string): Promise<boolean> {
    const path = this.#path(id);
    if (path === null || !existsSync(path)) return false;
    const lock = lockPoint(path, "exclusive");
    if (lock === null && existsSync(path)) {
      const says = `snapshot ${id} is in use: close what was restored from it, then try again`;
      throw new WarrenError("snapshot_in_use", says, { details: { id } });
    }
    if (lock === null) return false;
    try {
      await this.#discard(path);
      return true;
    } finally {
      closeSync(lock);
    }
  }

  /** Removes what ended processes left half-made. */
  collect(): void {
    removePartials(this.#dir);
  }

  #path(id: string): string | null {
    return ID.test(id) ? join(this.#dir, id) : null; // an id may come from a caller
  }

  #begin(id: string, path: string): Promise<OpenPoint | null> {
    // Whoever of several callers gives up leaves the others theirs, so this one has no signal.
    const opening = this.#parts().then((parts) => openPoint(parts, path, id));
    const forget = (): void => {
      if (this.#open.get(id) === opening) this.#open.delete(id);
    };
    this.#open.set(id, opening);
    opening.then((point) => point === null && forget(), forget);
    return opening;
  }

  async #discard(path: string): Promise<void> {
    const gone = partialOf(path);
    renameSync(path, gone);
    syncFolder(this.#dir);
    await rm(gone, { recursive: true, force: true });
  }
}

/** Given to one caller, with a hold of its own. */
export function held(point: OpenPoint): HeldPoint {
  const letGo = point.hold();
  const { size, machine, snapshot, digest, workingSetMib, warm } = point;
  const hold = () => point.hold();
  return { size, machine, snapshot, digest, workingSetMib, warm, hold, [Symbol.dispose]: letGo };
}

export function hasNoRoom(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException).code ?? "");
}

export function infoOf(manifest: Manifest): SnapshotInfo {
  const { meta, own, cpu, memoryMib: memoryMb } = manifest;
  const { id, name, sandboxId, template, createdAt, pauseMs, parentSnapshotId } = meta;
  const sizeBytes = own.memoryBytes + own.stateBytes + own.diskBytes;
  return {
    ...{ id, name, sandboxId, template, cpu, memoryMb, metadata: meta.metadata, createdAt, sizeBytes },
    ...{ memoryBytes: own.memoryBytes, diskBytes: own.diskBytes, pauseMs, parentSnapshotId },
  };
}

function savedOf(manifest: Manifest): SavedSnapshot {
  const { meta, cpu, memoryMib } = manifest;
  return { meta, size: { name: meta.template, cpu, memoryMib }, info: infoOf(manifest) };
}
