/** Memory images as the layers above see them: memfds and files, sparse, sealed, digested. Descriptors are plain numbers; whoever makes one closes it. */
import { readSync } from "node:fs";
import { reflink as cloneBlocks } from "../../ffi/files.ts";
import { copySparse as copy, copyRange, createMemfd, dataExtents, sealForever } from "../../ffi/memfd.ts";
import { hasCode } from "../../ffi/native.ts";
import { WarrenError } from "../errors.ts";

const PIECE = 8 * 1024 * 1024;

/** An error of the kernel in a caller's words; what is no lack of room stays a bug of ours. */
function explained(error: unknown, doing: string): unknown {
  if (hasCode(error, "ENOSPC", "EDQUOT")) {
    return new WarrenError(
      "storage_exhausted",
      `no room left on the disk while ${doing}; free some, or run \`warren doctor\``,
      { cause: error },
    );
  }
  if (hasCode(error, "ENOMEM", "EFBIG")) {
    return new WarrenError("capacity_exhausted", `the host has no memory left for ${doing}`, { cause: error });
  }
  return error;
}

/** An empty, sealable memory file, all hole. @throws {WarrenError} `capacity_exhausted` */
export function createMemory(name: string, sizeBytes: number): number {
  try {
    return createMemfd(name, sizeBytes);
  } catch (error) {
    throw explained(error, "a memory image");
  }
}

/** No one can write, resize or unseal it again. */
export function sealMemory(fd: number): void {
  sealForever(fd);
}

/** Copies what is data of the first `sizeBytes`, leaving holes. @throws {WarrenError} `storage_exhausted` */
export async function copySparse(from: number, to: number, sizeBytes: number): Promise<number> {
  try {
    return await copy(from, to, sizeBytes);
  } catch (error) {
    throw explained(error, "copying a memory image");
  }
}

/** Copies [start, end) to the same place of another file. @throws {WarrenError} `storage_exhausted`, `capacity_exhausted` */
export function copyPart(from: number, to: number, start: number, end: number): void {
  try {
    copyRange(from, to, start, end);
  } catch (error) {
    throw explained(error, "copying a memory image");
  }
}

/** Makes `to` share all blocks of `from`. @throws {WarrenError} `storage_exhausted` */
export function reflink(from: number, to: number): void {
  try {
    cloneBlocks(from, to);
  } catch (error) {
    throw explained(error, "cloning a disk");
  }
}

/**
 * XXH3 (64 bits, hex) over the data of a sparse file and where it lies: finds damage, not malice; the folder is root's alone.
 * All-zero pieces count as holes, so a copy that is sparser has the same digest.
 */
export async function digestSparse(fd: number, sizeBytes: number): Promise<string> {
  const buffer = new Uint8Array(PIECE);
  const zero = new Uint8Array(4096);
  let digest = BigInt(sizeBytes);
  let sinceYield = 0;
  for (const [start, end] of dataExtents(fd, sizeBytes)) {
    for (let at = start; at < end; ) {
      const n = readSync(fd, buffer, 0, Math.min(PIECE, end - at), at);
      if (n === 0) throw new WarrenError("template_invalid", "a memory image ends early");
      digest = digestPages(buffer.subarray(0, n), at, digest, zero);
      at += n;
      sinceYield += n;
    }
    if (sinceYield > 8 * PIECE) {
      sinceYield = 0;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return digest.toString(16).padStart(16, "0");
}

/** Runs of pages that are not zero, each with its offset, so that extents may be cut anywhere between pages. */
function digestPages(bytes: Uint8Array, offset: number, seed: bigint, zero: Uint8Array): bigint {
  let digest = seed;
  for (let at = 0; at < bytes.length; at += 4096) {
    const page = bytes.subarray(at, at + 4096);
    if (Buffer.compare(page, zero) === 0) continue;
    digest = Bun.hash.xxHash3(page, digest ^ BigInt(offset + at)) as bigint;
  }
  return digest;
}
