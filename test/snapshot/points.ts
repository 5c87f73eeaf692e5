/** Points made by hand: memory of random pages in layers, a device state, a disk; and what a guest would see of them. */
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { SnapshotMeta } from "../../src/engine/snapshots.ts";
import type { OpenTemplate } from "../../src/engine/templates.ts";
import { HeldLayer, imageOf } from "../../src/host/layers.ts";
import { createMemory, sealMemory } from "../../src/host/memory.ts";
import type { Ground } from "../../src/snapshot/manifest.ts";
import { Snapshots } from "../../src/snapshot/store.ts";

export const PAGE = 4096;
export const MIB = 2 ** 20;

/** Page number → what fills it: 0 is a page of zeros that the guest wrote. */
export type Pages = ReadonlyMap<number, number>;

export const GROUND: Ground = {
  accel: "tcg",
  cpuModel: "max",
  tscKhz: 2_000_000,
  devices: "d/1",
  vmm: { version: "7" },
};

export function snapshotsIn(
  dataDir: string,
  change: Partial<ConstructorParameters<typeof Snapshots>[0]> = {},
): Snapshots {
  const templates = { memories: [], ground: async () => GROUND, has: (name: string) => name === "base" };
  return new Snapshots({ dataDir, shares: false, templates, ...change });
}

export function metaOf(id: string, change: Partial<SnapshotMeta> = {}): SnapshotMeta {
  return {
    ...{ id, account: "local", name: null, sandboxId: "sb_x", template: "base", metadata: {}, env: { A: "1" } },
    ...{
      egress: { mode: "none" },
      secrets: [],
      workdir: null,
      pauseMs: 3,
      createdAt: "2031-02-03T00:00:00.000Z",
      parentSnapshotId: null,
      sandbox: null,
      ...change,
    },
  };
}

function layerOf(pages: Pages, memoryMib: number, gapPages: number): HeldLayer {
  const fd = createMemory("test-layer", memoryMib * MIB);
  const runs: { offset: number; length: number }[] = [];
  for (const [page, fill] of [...pages].sort(([a], [b]) => a - b)) {
    writeSync(fd, new Uint8Array(PAGE).fill(fill), 0, PAGE, page * PAGE);
    const last = runs.at(-1);
    const end = last === undefined ? 0 : last.offset + last.length;
    if (last !== undefined && page * PAGE - end <= gapPages * PAGE) last.length = (page + 1) * PAGE - last.offset;
    else runs.push({ offset: page * PAGE, length: PAGE });
  }
  sealMemory(fd);
  return new HeldLayer(fd, runs);
}

export interface MadePoint extends OpenTemplate, Disposable {
  /** How many hold it. */
  readonly holds: () => number;
}

/** The lowest of `layers` is the base; `dir` takes the disk. */
export function makePoint(dir: string, memoryMib: number, layers: readonly Pages[], text = "state"): MadePoint {
  const made = layers.map((pages) => layerOf(pages, memoryMib, 0));
  const state = createMemory("test-state", 0);
  writeSync(state, Buffer.from(text));
  const disk = join(dir, `a-disk-${process.pid}`); // others make theirs in the same place at the same time
  writeFileSync(disk, Buffer.concat([Buffer.from(`disk of ${text}`), Buffer.alloc(2 * MIB, 7)]));
  const diskFd = openSync(disk, constants.O_RDONLY);
  unlinkSync(disk);
  const memory = imageOf(made);
  let holds = 0;
  return {
    size: { name: "base", cpu: 1, memoryMib },
    machine: { cpu: 1, memoryMib, accel: { kind: "tcg" } },
    snapshot: {
      memory,
      layers: made,
      openState: () => openSync(`/proc/self/fd/${state}`, constants.O_RDONLY),
      diskFd,
    },
    digest: "made by hand",
    workingSetMib: 12,
    warm: true,
    base: { name: "base", cpu: 1, memoryMib, digest: "its template's" },
    holds: () => holds,
    hold: () => {
      holds += 1;
      return () => {
        holds -= 1;
      };
    },
    [Symbol.dispose]: () => {
      for (const fd of [memory.tableFd, state, diskFd]) closeSync(fd);
      for (const layer of made) layer.release();
    },
  };
}

function bytesOf(fd: number): Buffer {
  const again = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY);
  try {
    const chunks: Buffer[] = [];
    for (let at = 0; ; ) {
      const chunk = Buffer.alloc(MIB);
      const n = readSync(again, chunk, 0, MIB, at);
      if (n === 0) return Buffer.concat(chunks);
      chunks.push(chunk.subarray(0, n));
      at += n;
    }
  } finally {
    closeSync(again);
  }
}

/** What a guest that is restored from it has: read through the table that its VMM gets. */
export function seen({ snapshot, size }: OpenTemplate) {
  const memory = Buffer.alloc(size.memoryMib * MIB);
  const table = bytesOf(snapshot.memory.tableFd);
  for (let at = 0; at < table.length; at += 32) {
    const [guest, length, offset, layer] = [0, 8, 16, 24].map((field) => Number(table.readBigUInt64LE(at + field)));
    readSync(snapshot.memory.layerFds[layer!]!, memory, guest!, length!, offset!);
  }
  const stateFd = snapshot.openState?.() ?? -1;
  try {
    return { memory, state: bytesOf(stateFd), disk: bytesOf(snapshot.diskFd) };
  } finally {
    closeSync(stateFd);
  }
}

/** Descriptors of memory files and of files in a folder; others of this process come and go. */
export function openFiles(dir: string): number {
  const names = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ""; // the one that lists them
    }
  });
  return names.filter((name) => name.startsWith("/memfd:") || name.startsWith(dir)).length;
}
