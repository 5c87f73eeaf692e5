/** A point in a sandbox's life → a folder: memory as sparse files, device state, disk, and the manifest last. */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../base/assert.ts";
import type { SnapshotMeta } from "../engine/snapshots.ts";
import type { OpenTemplate } from "../engine/templates.ts";
import type { Layer } from "../host/host.ts";
import { reflink } from "../host/memory.ts";
import { LIMITS } from "../limits.ts";
import type { Bases } from "./bases.ts";
import { copyWhole, syncFolder } from "./files.ts";
import { sourcesOf, type WrittenLayer, writeLayer } from "./layer-file.ts";
import { chained, encodeRuns, type Ground, MANIFEST, type Manifest } from "./manifest.ts";

export interface WriteParts {
  readonly bases: Bases;
  readonly ground: Ground;
  /** The file system reflinks. */
  readonly shares: boolean;
  /** Told what has just been written; may throw. */
  readonly step: (name: string) => void;
}

export const memoryFile = (layer: number): string => `memory-${layer}`;
const HEAD_BYTES = 1024 * 1024;

/** Fills `dir`, which is empty. @throws what the file system says, or the signal's reason; `dir` is then of no use */
export async function writePoint(
  parts: WriteParts,
  dir: string,
  point: OpenTemplate,
  meta: SnapshotMeta,
  signal?: AbortSignal,
): Promise<void> {
  const { snapshot, size, warm, workingSetMib } = point;
  const memory = await writeMemory(parts, dir, snapshot.layers, size.memoryMib * 2 ** 20, signal);
  const state = writeState(dir, snapshot.openState);
  parts.step("state");
  const disk = await writeDisk(parts, dir, snapshot.diskFd);
  parts.step("disk");
  const body = {
    ...{ format: 1 as const, ground: parts.ground, cpu: size.cpu, memoryMib: size.memoryMib, warm, workingSetMib },
    base: point.base ?? null,
    meta: { ...meta, metadata: { ...meta.metadata }, env: { ...meta.env }, secrets: [...meta.secrets] },
    ...{ memory, state, disk },
  };
  writeManifest(dir, body);
  parts.step("manifest");
  syncFolder(dir);
}

export function writeManifest(dir: string, body: Omit<Manifest, "digest">): void {
  writeSynced(join(dir, MANIFEST), `${JSON.stringify({ ...body, digest: chained(body) })}\n`);
}

async function writeMemory(
  parts: WriteParts,
  dir: string,
  layers: readonly Layer[],
  sizeBytes: number,
  signal?: AbortSignal,
): Promise<Manifest["memory"]> {
  const [base, ...above] = layers;
  assert(base !== undefined, "a point has memory");
  const xxh3 = await parts.bases.link(base, sizeBytes, join(dir, memoryFile(0)));
  parts.step("base");
  const written: WrittenLayer[] = [{ xxh3, runs: base.runs }];
  for (const { sources, below } of plan(base, above)) {
    signal?.throwIfAborted();
    const path = join(dir, memoryFile(written.length));
    written.push(await writeLayer(path, sizeBytes, sources, below, signal));
    parts.step("layer");
  }
  return written.map((layer) => ({ xxh3: layer.xxh3, runs: encodeRuns(layer.runs) }));
}

/**
 * What each file above the base is made of; a single one when there would be too many. There is always one, if an empty
 * one: it is the file that says whether its snapshot is in use.
 */
function plan(base: Layer, above: readonly Layer[]) {
  const isDeep = above.length + 1 > LIMITS.layerDepth;
  if (isDeep || above.length === 0) return [{ sources: sourcesOf(above), below: sourcesOf([base]) }];
  return above.map((layer, i) => ({ sources: sourcesOf([layer]), below: sourcesOf([base, ...above.slice(0, i)]) }));
}

function writeState(dir: string, openState: (() => number) | null): Manifest["state"] {
  assert(openState !== null, "a point has a device state");
  const fd = openState();
  try {
    const bytes = readFileSync(fd);
    writeSynced(join(dir, "state"), bytes);
    return { bytes: bytes.length, sha256: sha256(bytes) };
  } finally {
    closeSync(fd);
  }
}

async function writeDisk(parts: WriteParts, dir: string, diskFd: number): Promise<Manifest["disk"]> {
  const fd = openSync(join(dir, "disk"), constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    if (parts.shares) reflink(diskFd, fd);
    else await copyWhole(diskFd, fd, fstatSync(diskFd).size);
    fsyncSync(fd);
    return diskFacts(fd);
  } finally {
    closeSync(fd);
  }
}

export function diskFacts(fd: number): Manifest["disk"] {
  const head = new Uint8Array(HEAD_BYTES);
  const n = readSync(fd, head, 0, HEAD_BYTES, 0);
  return { bytes: fstatSync(fd).size, head: sha256(head.subarray(0, n)) };
}

export function sha256(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}

function writeSynced(path: string, content: string | Uint8Array): void {
  writeFileSync(path, content, { flag: "wx", mode: 0o600, flush: true });
}
