/**
 * A folder → a point that VMMs restore from. Everyone who stands on it holds it; the last one's end closes it. Its lowest own
 * layer is locked shared, and every VMM that maps that file keeps the lock: that is how other processes know it is in use.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../base/assert.ts";
import type { OpenTemplate } from "../engine/templates.ts";
import { lockOpened } from "../host/home/lock.ts";
import type { Layer, Snapshot } from "../host/host.ts";
import { HeldLayer, imageOf } from "../host/layers.ts";
import { digestSparse } from "../host/memory.ts";
import type { Bases } from "./bases.ts";
import { failsWith } from "./files.ts";
import { damaged, decodeRuns, type Ground, MANIFEST, type Manifest, parseManifest, refuseMisfit } from "./manifest.ts";
import { diskFacts, memoryFile, sha256 } from "./write.ts";

export interface OpenParts {
  readonly bases: Bases;
  readonly ground: Ground;
  /** Digests of snapshots whose files were read and found good by this process. */
  readonly verified: Set<string>;
}

/** Counts who stands on a point. Nobody does at first; after the last one it is closed, and cannot be held again. */
export class OpenPoint implements OpenTemplate {
  readonly size: OpenTemplate["size"];
  readonly machine: OpenTemplate["machine"];
  readonly snapshot: Snapshot;
  readonly digest: string;
  readonly workingSetMib: number;
  readonly warm: boolean;
  readonly base?: NonNullable<OpenTemplate["base"]>;
  readonly #close: () => void;
  #holds = 0;
  #closed = false;

  constructor({ cpu, memoryMib, meta, ground, ...manifest }: Manifest, snapshot: Snapshot, close: () => void) {
    this.size = { name: meta.template, cpu, memoryMib };
    this.machine = { cpu, memoryMib, accel: { kind: ground.accel } };
    this.snapshot = snapshot;
    this.digest = manifest.digest;
    this.workingSetMib = manifest.workingSetMib;
    this.warm = manifest.warm;
    if (manifest.base !== null) this.base = manifest.base;
    this.#close = close;
  }

  get closed(): boolean {
    return this.#closed;
  }

  hold(): () => void {
    assert(!this.#closed, "a snapshot was held after its end");
    this.#holds += 1;
    let holds = true;
    return () => {
      if (!holds) return;
      holds = false;
      this.#holds -= 1;
      if (this.#holds > 0) return;
      this.#closed = true;
      this.#close();
    };
  }
}

/** Null when there is no such snapshot. @throws {WarrenError} `snapshot_invalid` */
export function readManifest(dir: string, id: string): Manifest | null {
  try {
    return parseManifest(readFileSync(join(dir, MANIFEST), "utf8"), id);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** The lock of a snapshot, or null when someone excludes it, or when there is no such snapshot any more. */
export function lockPoint(dir: string, how: "shared" | "exclusive"): number | null {
  const path = join(dir, memoryFile(1));
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  // Whoever removes a snapshot has the lock first and moves the folder then: the name must still be this file's.
  if (lockOpened(fd, how) && statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
  closeSync(fd);
  return null;
}

function isMissing(error: unknown): boolean {
  return failsWith(error, "ENOENT", "ENOTDIR");
}

/**
 * Null when there is no such snapshot, or it is being removed.
 * @throws {WarrenError} `snapshot_invalid`, `capacity_exhausted`
 */
export async function openPoint(
  parts: OpenParts,
  dir: string,
  id: string,
  signal?: AbortSignal,
): Promise<OpenPoint | null> {
  const lock = lockPoint(dir, "shared");
  if (lock === null) return null;
  using undo = new DisposableStack();
  const files = openFiles(undo, dir, lock, id);
  if (files === null) return null;
  const { manifest } = files;
  refuseMisfit(id, manifest.ground, parts.ground);
  if (!parts.verified.has(manifest.digest)) await verify(files, id, signal);
  parts.verified.add(manifest.digest);
  const base = await parts.bases.open(join(dir, memoryFile(0)), files.sizeBytes, files.baseXxh3, id);
  undo.defer(() => base.release());
  const layers: Layer[] = [base, ...files.layers];
  const memory = imageOf(layers);
  undo.defer(() => closeSync(memory.tableFd));
  const openState = () => openSync(`/proc/self/fd/${files.stateFd}`, constants.O_RDONLY);
  const held = undo.move();
  return new OpenPoint(manifest, { memory, layers, openState, diskFd: files.diskFd }, () => held.dispose());
}

interface Files {
  readonly manifest: Manifest;
  readonly sizeBytes: number;
  readonly baseXxh3: string;
  /** Above the base. The lowest is the lock. */
  readonly layers: readonly HeldLayer[];
  readonly stateFd: number;
  readonly diskFd: number;
}

/** All that a snapshot has but its base, closed by `undo`; the lock is given to it. */
function openFiles(undo: DisposableStack, dir: string, lock: number, id: string): Files | null {
  let free: number | null = lock;
  undo.defer(() => {
    if (free !== null) closeSync(free);
  });
  const manifest = readManifest(dir, id);
  if (manifest === null) return null;
  const sizeBytes = manifest.memoryMib * 2 ** 20;
  const [base, ...above] = manifest.memory.map(({ runs }) => decodeRuns(runs, sizeBytes, id));
  assert(base !== undefined && above.length > 0, "a manifest names memory");
  const open = (name: string): number => {
    try {
      return openSync(join(dir, name), constants.O_RDONLY);
    } catch (error) {
      throw isMissing(error) ? damaged(id, `its file ${name} is missing`) : error;
    }
  };
  const layers: HeldLayer[] = [];
  undo.defer(() => {
    for (const layer of layers) layer.release();
  });
  for (const [i, runs] of above.entries()) layers.push(new HeldLayer(i === 0 ? lock : open(memoryFile(i + 1)), runs));
  free = null;
  const stateFd = undo.adopt(open("state"), closeSync);
  const diskFd = undo.adopt(open("disk"), closeSync);
  return { manifest, sizeBytes, baseXxh3: manifest.memory[0]?.xxh3 ?? "", layers, stateFd, diskFd };
}

/** Reads all of it but the disk, which takes what its memory takes. @throws {WarrenError} `snapshot_invalid` */
async function verify({ manifest, sizeBytes, layers, stateFd, diskFd }: Files, id: string, signal?: AbortSignal) {
  for (const [i, layer] of layers.entries()) {
    signal?.throwIfAborted();
    const name = memoryFile(i + 1);
    if (fstatSync(layer.fd).size !== sizeBytes) throw damaged(id, `its file ${name} has another size`);
    if ((await digestSparse(layer.fd, sizeBytes)) !== manifest.memory[i + 1]?.xxh3) {
      throw damaged(id, `its file ${name} is not the one that was written`);
    }
  }
  if (sha256(readFileSync(`/proc/self/fd/${stateFd}`)) !== manifest.state.sha256) {
    throw damaged(id, "its device state is not the one that was written");
  }
  if (!Bun.deepEquals(diskFacts(diskFd), manifest.disk)) throw damaged(id, "its disk is not the one that was written");
}
