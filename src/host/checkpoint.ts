/** What one guest is at one instant: a memory file and a state that its VMM writes, and its disk with all blocks shared. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { closeAll, closeFd, openFd, reopenFd } from "../../ffi/files.ts";
import { assert } from "../base/assert.ts";
import type { Run, VmRef } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import type { Data } from "./home/data.ts";
import type { Checkpoint, CheckpointAsk, Layer, OwnSnapshot } from "./host.ts";
import { HeldLayer, imageOf } from "./layers.ts";
import { createMemory, sealMemory } from "./memory.ts";
import { cloneDisk } from "./slots/leases.ts";

class Files implements Checkpoint {
  readonly memoryFd: number;
  readonly stateFd: number;
  readonly #data: Data;
  readonly #sourceFd: number;
  readonly #state: number;
  /** Closed with this; what was handed on is taken out. */
  readonly #own: Set<number>;
  #diskFd: number | null = null;

  constructor(data: Data, { memoryMib, diskFd }: CheckpointAsk) {
    this.#data = data;
    this.#sourceFd = diskFd;
    this.#own = new Set();
    try {
      this.memoryFd = this.#keep(createMemory("warren-layer", memoryMib * 2 ** 20));
      this.#state = this.#keep(createMemory("warren-state", 0));
      this.stateFd = this.#keep(reopenFd(this.#state, "append"));
    } catch (error) {
      closeAll(this.#own);
      throw error;
    }
  }

  takeDisk(): void {
    assert(this.#diskFd === null, "a disk is taken once");
    const { rwFd, roFd } = cloneDisk(this.#data, this.#sourceFd);
    closeFd(rwFd);
    this.#diskFd = this.#keep(roFd);
  }

  layer(runs: readonly Run[]): Layer {
    sealMemory(this.memoryFd);
    return new HeldLayer(this.#give(this.memoryFd), runs);
  }

  snapshot(layers: readonly Layer[]): OwnSnapshot {
    const disk = this.#diskFd;
    assert(disk !== null, "the disk was not taken");
    sealMemory(this.#state);
    const memory = imageOf(layers);
    const state = this.#give(this.#state);
    const diskFd = this.#give(disk);
    for (const layer of layers) layer.hold();
    let released = false;
    return {
      memory,
      layers,
      diskFd,
      openState: () => reopenFd(state, "read"),
      release() {
        if (released) return;
        released = true;
        closeAll([memory.tableFd, state, diskFd]);
        for (const layer of layers) layer.release();
      },
    };
  }

  [Symbol.dispose](): void {
    closeAll(this.#own);
    this.#own.clear();
  }

  #keep(fd: number): number {
    this.#own.add(fd);
    return fd;
  }

  #give(fd: number): number {
    assert(this.#own.delete(fd), "a file of a checkpoint is handed on once");
    return fd;
  }
}

/**
 * The root disk of a VMM made elsewhere, found among its descriptors: the file of our data folder that has no name, as
 * volumes and layers have. Whatever a VMM that was taken over shows instead is its own.
 * @throws {WarrenError} `sandbox_lost` – it is gone
 */
export function diskOf(data: Data, ref: VmRef): number {
  const { dev } = statSync(data.dir);
  try {
    for (const vmm of readFileSync(`/proc/${ref.pid}/task/${ref.pid}/children`, "utf8").trim().split(" ")) {
      for (const fd of readdirSync(`/proc/${vmm}/fd`)) {
        const path = `/proc/${vmm}/fd/${fd}`;
        const facts = statSync(path);
        if (facts.isFile() && facts.dev === dev && facts.nlink === 0) return openFd(path, "read");
      }
    }
  } catch (cause) {
    throw new WarrenError("sandbox_lost", `sandbox ${ref.id} is gone: its VMM has ended`, { cause });
  }
  throw new WarrenError("sandbox_lost", `sandbox ${ref.id} has no disk any more`);
}

/** @throws {WarrenError} `capacity_exhausted` */
export function checkpoint(data: Data, ask: CheckpointAsk): Checkpoint {
  return new Files(data, ask);
}
