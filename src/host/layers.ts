/**
 * A guest's memory as layers of files, one over the other: the lowest is a template's sealed RAM, each above holds what a
 * guest changed before one pause. `flatten` says which file every byte comes from; `imageOf` puts that into a table that
 * ffi/preload reads in the VMM. What no layer holds is no file's: zeros, private to the guest that touches them.
 */
import { closeSync, writeSync } from "node:fs";
import { dataExtents } from "../../ffi/memfd.ts";
import { assert } from "../base/assert.ts";
import type { MemoryImage, Run } from "../driver/driver.ts";
import type { Layer } from "./host.ts";
import { copyPart, createMemory, sealMemory } from "./memory.ts";

/** One stretch of memory and the layer that it comes from, at the same offset there. */
export interface Stretch extends Run {
  readonly layer: number;
}

/** Held as often as someone stands on it; the last release closes it. Starts with one hold. */
export class HeldLayer implements Layer {
  readonly fd: number;
  readonly runs: readonly Run[];
  #holds = 1;

  constructor(fd: number, runs: readonly Run[]) {
    this.fd = fd;
    this.runs = runs;
  }

  hold(): void {
    assert(this.#holds > 0, "a layer was held after its end");
    this.#holds += 1;
  }

  release(): void {
    assert(this.#holds > 0, "a layer was released once too often");
    this.#holds -= 1;
    if (this.#holds === 0) closeSync(this.fd);
  }
}

/** Clean pages between two stretches of data that are taken along rather than mapped apart: 64 KiB. */
const GAP_BYTES = 16 * 4096;
/** As `struct stretch` in ffi/preload/preload.h. */
const STRETCH_BYTES = 32;

/** Where a sparse file has data; stretches with little between them are one. Moves the file's offset. */
export function runsOf(fd: number, sizeBytes: number): Run[] {
  const runs: { offset: number; length: number }[] = [];
  for (const [start, end] of dataExtents(fd, sizeBytes)) {
    const last = runs.at(-1);
    if (last !== undefined && start - (last.offset + last.length) <= GAP_BYTES) last.length = end - last.offset;
    else runs.push({ offset: start, length: end - start });
  }
  return runs;
}

/** Which layer each byte comes from, the highest that holds it; sorted, apart, neighbours of one layer joined. Pure. */
export function flatten(layers: readonly (readonly Run[])[]): Stretch[] {
  let below: Stretch[] = [];
  for (const [layer, runs] of layers.entries()) below = over(below, runs, layer);
  return below;
}

function over(below: readonly Stretch[], runs: readonly Run[], layer: number): Stretch[] {
  const result: Stretch[] = [];
  const add = (offset: number, end: number, from: number): void => {
    if (end <= offset) return;
    const last = result.at(-1);
    if (last !== undefined && last.layer === from && last.offset + last.length === offset) {
      result[result.length - 1] = { ...last, length: end - last.offset };
    } else result.push({ offset, length: end - offset, layer: from });
  };
  let at = 0; // next stretch below
  let done = 0; // all of memory before this is in the result
  const belowUntil = (end: number): void => {
    for (; at < below.length; at++) {
      const stretch = below[at]!;
      const stop = stretch.offset + stretch.length;
      add(Math.max(stretch.offset, done), Math.min(stop, end), stretch.layer);
      if (stop > end) return;
    }
  };
  for (const { offset, length } of runs) {
    belowUntil(offset);
    add(offset, offset + length, layer);
    done = offset + length;
  }
  belowUntil(Number.POSITIVE_INFINITY);
  return result;
}

/** Bytes copied before others get a turn. */
const TURN_BYTES = 16 * 1024 * 1024;

/** One layer with what a guest sees of these, lowest first; the caller holds it. @throws {WarrenError} `capacity_exhausted` */
export async function mergeLayers(
  memoryMib: number,
  layers: readonly Pick<Layer, "fd" | "runs">[],
): Promise<HeldLayer> {
  const stretches = flatten(layers.map(({ runs }) => runs));
  const fd = createMemory("warren-layer", memoryMib * 2 ** 20);
  try {
    let sinceTurn = 0;
    for (const { offset, length, layer } of stretches) {
      for (let at = offset; at < offset + length; at += TURN_BYTES) {
        copyPart(layers[layer]!.fd, fd, at, Math.min(at + TURN_BYTES, offset + length));
        sinceTurn += TURN_BYTES;
        if (sinceTurn < 4 * TURN_BYTES && length < TURN_BYTES) continue;
        sinceTurn = 0;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    sealMemory(fd);
    return new HeldLayer(fd, joined(stretches));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The same stretches, whichever layer they came from. */
function joined(stretches: readonly Stretch[]): Run[] {
  const runs: { offset: number; length: number }[] = [];
  for (const { offset, length } of stretches) {
    const last = runs.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else runs.push({ offset, length });
  }
  return runs;
}

/**
 * The image of these layers, lowest first; it keeps their descriptors but does not own them. The caller closes `tableFd`.
 * @throws {WarrenError} `capacity_exhausted`
 */
export function imageOf(layers: readonly Pick<Layer, "fd" | "runs">[]): MemoryImage {
  const stretches = flatten(layers.map(({ runs }) => runs));
  const bytes = new DataView(new ArrayBuffer(stretches.length * STRETCH_BYTES));
  for (const [i, { offset, length, layer }] of stretches.entries()) {
    for (const [field, value] of [offset, length, offset, layer].entries()) {
      bytes.setBigUint64(i * STRETCH_BYTES + 8 * field, BigInt(value), true);
    }
  }
  const tableFd = createMemory("warren-table", bytes.byteLength);
  try {
    writeSync(tableFd, new Uint8Array(bytes.buffer), 0, bytes.byteLength, 0);
    sealMemory(tableFd);
    return { layerFds: layers.map(({ fd }) => fd), tableFd };
  } catch (error) {
    closeSync(tableFd);
    throw error;
  }
}
