/**
 * One folder of saved points, each in a folder of its own under its id, with the same rules for what users keep and for
 * hibernated sandboxes: a point appears whole by one rename, is open once in a process however many ask, and is removed by
 * moving it out of sight first.
 */
import { closeSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { SnapshotInfo } from "../contract/routes/snapshots.ts";
import type { HeldPoint, SavedSnapshot, SnapshotMeta } from "../engine/snapshots.ts";
import type { OpenTemplate } from "../engine/templates.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { ownBytes } from "../host/home/disk.ts";
import { partialOf, removePartials } from "../host/home/publish.ts";
import { copyPoint } from "./copy.ts";
import { allocatedBytes, failsWith, namesIn, syncFolder } from "./files.ts";
import type { Manifest } from "./manifest.ts";
import { lockPoint, type OpenParts, type OpenPoint, openPoint, readManifest } from "./point.ts";
import { memoryFile, type WriteParts, writePoint } from "./write.ts";

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
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** @throws {WarrenError} `already_exists`, `storage_exhausted` */
  async save(point: OpenTemplate, meta: SnapshotMeta, signal?: AbortSignal): Promise<SnapshotInfo> {
    const path = this.#path(meta.id);
    if (path === null) throw new WarrenError("internal", `an id of a snapshot cannot be ${JSON.stringify(meta.id)}`);
    if (existsSync(path)) throw new WarrenError("already_exists", `there is a snapshot ${meta.id} already`);
    signal?.throwIfAborted();
    const parts = await this.#parts();
    const letGo = point.hold();
    const partial = partialOf(path);
    let whole = false;
    try {
      await mkdir(partial, { mode: 0o700 });
      await writePoint(parts, partial, point, meta, signal);
      signal?.throwIfAborted();
      renameSync(partial, path);
      whole = true;
      syncFolder(this.#dir);
      parts.step("published");
    } catch (cause) {
      if (whole) await this.#discard(path);
      await rm(partial, { recursive: true, force: true });
      if (!failsWith(cause, "ENOSPC", "EDQUOT")) throw cause;
      throw new WarrenError("storage_exhausted", "there is no room on the disk for the snapshot", { cause });
    } finally {
      letGo();
    }
    const saved = this.find(meta.id) ?? gone(meta.id);
    parts.verified.add(saved.digest); // what this process has just written needs no reading before its first use: 10 ms of a wake
    return saved.info;
  }

  /** Null when there is none. @throws {WarrenError} `snapshot_invalid` */
  find(id: string): Saved | null {
    const path = this.#path(id);
    const manifest = path === null ? null : readManifest(path, id);
    return path === null || manifest === null ? null : savedOf(manifest, path);
  }

  /**
   * The same point once more under another id, on another shelf of this home, where it is a template of that name.
   * @throws {WarrenError} `not_found`, `already_exists`, `storage_exhausted`
   */
  async promoteTo(shelf: Shelf, id: string, name: string): Promise<void> {
    const [from, to] = [this.#path(id), shelf.#path(name)];
    const lock = from === null ? null : lockPoint(from, "shared"); // it is not removed meanwhile
    if (from === null || lock === null) throw gone(id);
    try {
      if (to === null || existsSync(to)) throw taken(name);
      const { shares } = await this.#parts();
      const partial = partialOf(to);
      try {
        await mkdir(partial, { mode: 0o700 });
        await copyPoint(from, partial, id, name, shares);
        renameSync(partial, to);
        syncFolder(shelf.#dir);
      } catch (cause) {
        await rm(partial, { recursive: true, force: true });
        throw failsWith(cause, "ENOTEMPTY", "EEXIST") ? taken(name) : cause;
      }
    } finally {
      closeSync(lock);
    }
  }

  /** All that can be read, newest first; one that is damaged is no reason not to see the others. */
  list(): Saved[] {
    const found: Saved[] = [];
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

  /** Out of sight at once, whoever uses it; they keep what they have. */
  async discard(id: string): Promise<void> {
    const path = this.#path(id);
    this.#open.delete(id);
    if (path !== null && existsSync(path)) await this.#discard(path);
  }

  /** Ids of those that cannot be read. */
  damaged(): string[] {
    return namesIn(this.#dir).filter((id) => {
      try {
        this.find(id);
        return false;
      } catch (error) {
        if (isWarrenError(error, "snapshot_invalid")) return true;
        throw error;
      }
    });
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
  const { size, machine, snapshot, digest, workingSetMib, warm, base } = point;
  const hold = () => point.hold();
  const whole = { size, machine, snapshot, digest, workingSetMib, warm, hold, ...(base && { base }) };
  return { ...whole, [Symbol.dispose]: letGo };
}

function gone(id: string): never {
  throw new WarrenError("not_found", `there is no snapshot ${id}`, { details: { id } });
}

function taken(name: string): WarrenError {
  const says = `there is a template ${name} already`;
  return new WarrenError("already_exists", says, { details: { field: "name", got: name } });
}

/** What is known of a point without opening it, for whoever keeps it as a template too. */
export interface Saved extends SavedSnapshot {
  readonly digest: string;
  readonly accel: "kvm" | "tcg";
}

function savedOf(manifest: Manifest, path: string): Saved {
  const { meta, cpu, memoryMib, memory, state, digest, ground } = manifest;
  const { id, name, sandboxId, template, metadata, createdAt, pauseMs, parentSnapshotId } = meta;
  const layers = memory.slice(1).map((_, i) => join(path, memoryFile(i + 1)));
  const memoryBytes = layers.reduce((sum, file) => sum + allocatedBytes(file), 0);
  const diskBytes = diskBytesOf(join(path, "disk"));
  const sizeBytes = memoryBytes + state.bytes + diskBytes;
  const named = { id, name, sandboxId, template, metadata, createdAt, pauseMs, parentSnapshotId };
  const info = { ...named, cpu, memoryMb: memoryMib, sizeBytes, memoryBytes, diskBytes };
  return { meta, size: { name: meta.template, cpu, memoryMib }, info, digest, accel: ground.accel };
}

/** 0 where there is none: it is damaged, or another process takes it away at this very moment. */
function diskBytesOf(file: string): number {
  try {
    return ownBytes(file);
  } catch (error) {
    if (failsWith(error, "ENOENT")) return 0;
    throw error;
  }
}
