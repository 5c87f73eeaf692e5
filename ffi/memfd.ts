/** Memory as a file: created, filled sparsely, sealed. A sealed memfd is what all clones of a template map privately. */
import { C } from "./layout.ts";
import { call, hasCode, memory } from "./native.ts";

/** An empty, sealable memory file of `sizeBytes`, all hole. `name` shows in /proc only. @throws {NativeError} */
export function createMemfd(name: string, sizeBytes: number): number {
  const fd = call("memfd_create", name, C.MFD_CLOEXEC | C.MFD_ALLOW_SEALING);
  try {
    call("ftruncate", fd, sizeBytes);
    return fd;
  } catch (error) {
    call("close", fd);
    throw error;
  }
}

const FOREVER = C.F_SEAL_WRITE | C.F_SEAL_GROW | C.F_SEAL_SHRINK | C.F_SEAL_SEAL;

/**
 * No one can ever write, grow, shrink or unseal it again, whoever holds a descriptor.
 * @throws {NativeError} `EBUSY` – someone has it mapped shared and writable
 */
export function sealForever(fd: number): void {
  call("fcntl", fd, C.F_ADD_SEALS, FOREVER);
}

export function isSealed(fd: number): boolean {
  return (call("fcntl", fd, C.F_GET_SEALS, 0) & FOREVER) === FOREVER;
}

const STEP = 256 * 1024 * 1024; // far below the 2 GiB that one call moves at most

interface Copier {
  copy(from: number, to: number, offset: number, length: number): number;
}

/** In the kernel, and shares blocks where the file system can. */
const byRange: Copier = {
  copy(from, to, offset, length) {
    const at = memory(8);
    const into = memory(8);
    new DataView(at.buffer).setBigInt64(0, BigInt(offset), true);
    new DataView(into.buffer).setBigInt64(0, BigInt(offset), true);
    return call("copy_file_range", from, at, to, into, length, 0);
  },
};

/** In the kernel, between any two files. */
const bySendfile: Copier = {
  copy(from, to, offset, length) {
    const at = memory(8);
    new DataView(at.buffer).setBigInt64(0, BigInt(offset), true);
    call("lseek", to, offset, C.SEEK_SET);
    return call("sendfile", to, from, at, length);
  },
};

function seek(fd: number, offset: number, what: number): number | null {
  try {
    return call("lseek", fd, offset, what);
  } catch (error) {
    if (hasCode(error, "ENXIO")) return null; // nothing but hole from here to the end
    throw error;
  }
}

function copyExtent(copier: Copier, from: number, to: number, offset: number, end: number): Copier {
  let used = copier;
  for (let at = offset; at < end; ) {
    try {
      const n = used.copy(from, to, at, Math.min(STEP, end - at));
      if (n === 0) throw new Error(`the source ended at ${at}, before ${end}`);
      at += n;
    } catch (error) {
      if (hasCode(error, "EINTR")) continue;
      // Across file systems before Linux 5.19, and between some kinds of file in every version, only sendfile works.
      if (used !== byRange || !hasCode(error, "EXDEV", "EINVAL", "EOPNOTSUPP", "ENOSYS", "EBADF")) throw error;
      used = bySendfile;
    }
  }
  return used;
}

/** [start, end) of each stretch that is not hole, within the first `sizeBytes`; none longer than `stepBytes`. */
export function* extents(fd: number, sizeBytes: number, stepBytes: number): Generator<readonly [number, number]> {
  for (let at = 0; at < sizeBytes; ) {
    const data = seek(fd, at, C.SEEK_DATA);
    if (data === null || data >= sizeBytes) return;
    const hole = Math.min(seek(fd, data, C.SEEK_HOLE) ?? sizeBytes, sizeBytes);
    for (let from = data; from < hole; from += stepBytes) yield [from, Math.min(from + stepBytes, hole)];
    at = hole;
  }
}

/** [start, end) of each piece of data in the first `sizeBytes`, at most 64 MiB a piece. Moves the file's offset. @throws {NativeError} */
export function* dataExtents(fd: number, sizeBytes: number): Generator<readonly [number, number]> {
  for (let at = 0; at < sizeBytes; ) {
    const data = seek(fd, at, C.SEEK_DATA);
    if (data === null || data >= sizeBytes) return;
    at = Math.min(seek(fd, data, C.SEEK_HOLE) ?? sizeBytes, sizeBytes, data + STEP);
    yield [data, at];
  }
}

/**
 * Copies the first `sizeBytes`, skipping holes, so the copy is as sparse as the source; `to` must be all hole there.
 * File offsets of both descriptors move. Stops this thread for 0.5 ms per MiB of data.
 * @returns bytes of data copied @throws {NativeError}
 */
export function copySparse(from: number, to: number, sizeBytes: number): number {
  let copier = byRange;
  let copied = 0;
  for (const [start, end] of extents(from, sizeBytes, STEP)) {
    copier = copyExtent(copier, from, to, start, end);
    copied += end - start;
  }
  return copied;
}

/** Copies [start, end) between two files, in the kernel. Stops this thread for 0.5 ms per MiB. @throws {NativeError} */
export function copyRange(from: number, to: number, start: number, end: number): void {
  copyExtent(byRange, from, to, start, end);
}

/** Reads exactly `into.length` bytes at `offset`. @throws {NativeError}, or {Error} when the file ends before */
export function readExactly(fd: number, into: Uint8Array<ArrayBuffer>, offset: number): void {
  for (let done = 0; done < into.length; ) {
    const n = call("pread", fd, into.subarray(done), into.length - done, offset + done);
    if (n === 0) throw new Error(`the file ends before ${offset + into.length}`);
    done += n;
  }
}
