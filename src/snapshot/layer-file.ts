/**
 * One layer of memory as a sparse file: the pages in which a guest differs from what lies below, at their offsets. Between
 * files of one file system stretches are shared, not copied; what comes from a memfd is compared with what lies below first,
 * since a guest that wrote a page may have written what was there. Pages of zeros stay holes.
 */
import { closeSync, constants, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import type { Run } from "../driver/driver.ts";
import type { Layer } from "../host/host.ts";
import { flatten } from "../host/layers.ts";
import { copyPart, digestSparse } from "../host/memory.ts";
import { PAGE } from "./manifest.ts";

/** A stretch of memory and the open file that holds it, at the same offset. */
export interface Source extends Run {
  readonly fd: number;
}

export interface WrittenLayer {
  readonly runs: readonly Run[];
  readonly xxh3: string;
}

/** Read at a time; others get a turn after each. */
const PIECE = 4 * 1024 * 1024;
/** Equal pages in a row before they are left out: each gap is a map more in every VMM that stands on the layer. */
const GAP_PAGES = 16;
/** More runs than that are not made by leaving pages out: a process has 65530 maps. */
const RUNS_MAX = 8192;

/** What a guest sees of these layers, lowest first. */
export function sourcesOf(layers: readonly Pick<Layer, "fd" | "runs">[]): Source[] {
  const flat = flatten(layers.map(({ runs }) => runs));
  return flat.map(({ offset, length, layer }) => ({ offset, length, fd: layers[layer]!.fd }));
}

/** @throws what the file system says; the file is then of no use */
export async function writeLayer(
  path: string,
  sizeBytes: number,
  sources: readonly Source[],
  below: readonly Source[],
  signal?: AbortSignal,
): Promise<WrittenLayer> {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    ftruncateSync(fd, sizeBytes);
    const { dev } = fstatSync(fd);
    const found = new Runs();
    const reader = new Below(below);
    for (const source of sources) {
      const shares = fstatSync(source.fd).dev === dev;
      for (const piece of pieces(source)) {
        signal?.throwIfAborted();
        if (shares) copyPart(piece.fd, fd, piece.offset, piece.offset + piece.length);
        if (shares) found.add(piece.offset, piece.length);
        else copyDifferent(piece, fd, reader, found);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    fsyncSync(fd);
    return { runs: found.all, xxh3: await digestSparse(fd, sizeBytes) };
  } finally {
    closeSync(fd);
  }
}

function* pieces({ offset, length, fd }: Source): Generator<Source> {
  for (let at = offset; at < offset + length; at += PIECE) {
    yield { fd, offset: at, length: Math.min(PIECE, offset + length - at) };
  }
}

/** Stretches in order; neighbours are joined. */
class Runs {
  readonly all: { offset: number; length: number }[] = [];

  add(offset: number, length: number): void {
    const last = this.all.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else this.all.push({ offset, length });
  }
}

/** Memory as it is without the layer that is being written. */
class Below {
  readonly #sources: readonly Source[];
  #at = 0;

  constructor(sources: readonly Source[]) {
    this.#sources = sources;
  }

  /** Bytes from `offset` on; asked for in ascending order. */
  read(into: Uint8Array, offset: number): void {
    into.fill(0);
    const end = offset + into.length;
    while (this.#at < this.#sources.length && endOf(this.#sources[this.#at]!) <= offset) this.#at += 1;
    for (let i = this.#at; i < this.#sources.length && this.#sources[i]!.offset < end; i++) {
      const source = this.#sources[i]!;
      const from = Math.max(source.offset, offset);
      readFully(source.fd, into.subarray(from - offset, Math.min(endOf(source), end) - offset), from);
    }
  }
}

function endOf({ offset, length }: Run): number {
  return offset + length;
}

function readFully(fd: number, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.length; ) {
    const n = readSync(fd, into, done, into.length - done, offset + done);
    if (n === 0) throw new Error(`a layer of memory ends before ${offset + into.length}`);
    done += n;
  }
}

const ZERO = new Uint8Array(PAGE);

function copyDifferent(piece: Source, fd: number, below: Below, found: Runs): void {
  const bytes = new Uint8Array(piece.length);
  const was = new Uint8Array(piece.length);
  readFully(piece.fd, bytes, piece.offset);
  below.read(was, piece.offset);
  for (const [start, end] of differing(bytes, was, found.all.length < RUNS_MAX)) {
    found.add(piece.offset + start, end - start);
    for (const [from, to] of filled(bytes, start, end)) {
      for (let at = from; at < to; ) at += writeSync(fd, bytes, at, to - at, piece.offset + at);
    }
  }
}

/** [start, end) of what differs, short stretches of equal pages taken along; all of it unless `mayLeaveOut`. */
function* differing(bytes: Uint8Array, was: Uint8Array, mayLeaveOut: boolean): Generator<readonly [number, number]> {
  if (!mayLeaveOut) return yield [0, bytes.length];
  let start = -1;
  let end = 0;
  for (let at = 0; at < bytes.length; at += PAGE) {
    if (Buffer.compare(bytes.subarray(at, at + PAGE), was.subarray(at, at + PAGE)) === 0) continue;
    if (start >= 0 && at - end >= GAP_PAGES * PAGE) {
      yield [start, end];
      start = at;
    }
    if (start < 0) start = at;
    end = at + PAGE;
  }
  if (start >= 0) yield [start, end];
}

/** [start, end) of what is not zeros, page by page. */
function* filled(bytes: Uint8Array, from: number, to: number): Generator<readonly [number, number]> {
  let start = -1;
  for (let at = from; at < to; at += PAGE) {
    const empty = Buffer.compare(bytes.subarray(at, at + PAGE), ZERO) === 0;
    if (!empty && start < 0) start = at;
    if (empty && start >= 0) yield [start, at];
    if (empty) start = -1;
  }
  if (start >= 0) yield [start, to];
}
