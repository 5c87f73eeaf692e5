/** Descriptors: opening, pipes, locks, reflinks, space. All are close-on-exec: a child gets only what it is handed. */
import { C, LAYOUTS } from "./layout.ts";
import { address, call, callOn, hasCode, holding, memory } from "./native.ts";

/** Opens an existing path; "write" reads too, "append" only writes. @throws {NativeError} */
export function openFd(
  path: string,
  how: "read" | "write" | "append" | "path" | "directory" | "lock" | "fifo",
): number {
  const flags = {
    read: C.O_RDONLY,
    write: C.O_RDWR,
    append: C.O_WRONLY,
    path: C.O_PATH,
    directory: C.O_RDONLY | C.O_DIRECTORY,
    lock: C.O_RDWR | C.O_CREAT,
    fifo: C.O_RDWR | C.O_NONBLOCK,
  }[how];
  return callOn(path, "open", path, flags | C.O_CLOEXEC, 0o600);
}

/** A new file in `dir` that has no name and never gets one: it is gone with its last descriptor. @throws {NativeError} */
export function openUnnamed(dir: string): number {
  return callOn(dir, "open", dir, C.O_TMPFILE | C.O_RDWR | C.O_CLOEXEC, 0o600);
}

/** The open file behind a descriptor once more, with an offset and a mode of its own. @throws {NativeError} */
export function reopenFd(fd: number, how: "read" | "write" | "append"): number {
  return openFd(`/proc/self/fd/${fd}`, how);
}

/** Closes a descriptor; the number may belong to another file right after. @throws {NativeError} `EBADF` */
export function closeFd(fd: number): void {
  call("close", fd);
}

/** Closes each that is not null, whatever the others do: the undo of a function that opened several. */
export function closeAll(fds: Iterable<number | null>): void {
  for (const fd of fds) if (fd !== null) closeFd(fd);
}

/** Another descriptor of the same open file: offset and locks are shared. @throws {NativeError} */
export function dupFd(fd: number): number {
  return call("fcntl", fd, C.F_DUPFD_CLOEXEC, 0);
}

/** [read end, write end]. @throws {NativeError} */
export function pipe(): readonly [number, number] {
  const ends = memory(8);
  call("pipe2", ends, C.O_CLOEXEC);
  const view = new DataView(ends.buffer);
  return [view.getInt32(0, true), view.getInt32(4, true)];
}

/**
 * Tries to lock an open file; the lock lives as long as the open file does, in every process that holds it.
 * @returns false when another open file holds a lock that excludes this one
 */
export function tryLock(fd: number, how: "shared" | "exclusive"): boolean {
  try {
    call("flock", fd, (how === "shared" ? C.LOCK_SH : C.LOCK_EX) | C.LOCK_NB);
    return true;
  } catch (error) {
    if (hasCode(error, "EAGAIN", "EWOULDBLOCK")) return false;
    throw error;
  }
}

/**
 * Locks one byte of a file, which is made when it is missing, through an open file of its own: the lock belongs to that, and ends
 * with the last descriptor of it, in whichever process, however that ended.
 * @returns its descriptor, or null while another open file has the lock
 * @throws {NativeError}
 */
export function lockByte(path: string, index: number): number | null {
  const fd = openFd(path, "lock");
  const lock = memory(LAYOUTS.flock[""][1]);
  const view = new DataView(lock.buffer);
  view.setInt16(LAYOUTS.flock.l_type[0], C.F_WRLCK, true);
  view.setBigInt64(LAYOUTS.flock.l_start[0], BigInt(index), true);
  view.setBigInt64(LAYOUTS.flock.l_len[0], 1n, true);
  try {
    // SAFETY: the struct has its full size, and is held until the call is over.
    holding([lock], () => call("syscall", C.SYS_fcntl, fd, C.F_OFD_SETLK, Number(address(lock)), 0, 0));
    return fd;
  } catch (error) {
    closeFd(fd);
    if (hasCode(error, "EAGAIN", "EWOULDBLOCK", "EACCES")) return null;
    throw error;
  }
}

/**
 * Makes the file behind `toFd` share all blocks of the one behind `fromFd` (10 µs on XFS, whatever the size).
 * Flushes the source's dirty pages first: fsync it once when it is made.
 * @throws {NativeError} `EOPNOTSUPP`, `EXDEV`, `EINVAL` – this file system does not reflink; `ENOSPC`
 */
export function reflink(fromFd: number, toFd: number): void {
  const range = memory(LAYOUTS.file_clone_range[""][1]);
  new DataView(range.buffer).setBigInt64(LAYOUTS.file_clone_range.src_fd[0], BigInt(fromFd), true);
  // SAFETY: the struct has its full size; FICLONERANGE with a length of 0 means "to the end", which is FICLONE.
  call("ioctl", toFd, C.FICLONERANGE, range);
}

/** Extents asked for at a time: 14 KiB. */
const EXTENTS = 256;

/**
 * Bytes allocated to a file that it shares with no other; null where the file system does not tell. Writes out what is dirty.
 * @throws {NativeError}
 */
export function unsharedBytes(fd: number): number | null {
  const { fiemap, fiemap_extent: extent } = LAYOUTS;
  const [head, each] = [fiemap[""][1], extent[""][1]];
  const buffer = memory(head + EXTENTS * each);
  const view = new DataView(buffer.buffer);
  let sum = 0;
  for (let start = 0; ; ) {
    view.setBigUint64(0, BigInt(start), true);
    view.setBigUint64(fiemap.fm_length[0], 0xffff_ffff_ffff_ffffn - BigInt(start), true);
    view.setUint32(fiemap.fm_flags[0], C.FIEMAP_FLAG_SYNC, true);
    view.setUint32(fiemap.fm_extent_count[0], EXTENTS, true);
    try {
      // SAFETY: the buffer has room for as many extents as fm_extent_count says; the kernel writes no more.
      call("ioctl", fd, C.FS_IOC_FIEMAP, buffer);
    } catch (error) {
      if (hasCode(error, "EOPNOTSUPP", "ENOTTY", "EBADR")) return null;
      throw error;
    }
    const count = view.getUint32(fiemap.fm_mapped_extents[0], true);
    if (count === 0) return sum;
    for (let at = head; at < head + count * each; at += each) {
      const length = Number(view.getBigUint64(at + extent.fe_length[0], true));
      const flags = view.getUint32(at + extent.fe_flags[0], true);
      if ((flags & C.FIEMAP_EXTENT_SHARED) === 0) sum += length;
      if ((flags & C.FIEMAP_EXTENT_LAST) !== 0) return sum;
      start = Number(view.getBigUint64(at + extent.fe_logical[0], true)) + length;
    }
  }
}

export interface FileSystem {
  readonly magic: number;
  readonly sizeBytes: number;
  /** Free to an unprivileged writer. */
  readonly availableBytes: number;
}

/** @throws {NativeError} */
export function fileSystemOf(fd: number): FileSystem {
  const out = memory(LAYOUTS.statfs[""][1]);
  call("fstatfs", fd, out);
  const at = (field: keyof typeof LAYOUTS.statfs) =>
    Number(new DataView(out.buffer).getBigInt64(LAYOUTS.statfs[field][0], true));
  const block = at("f_bsize");
  return { magic: at("f_type"), sizeBytes: at("f_blocks") * block, availableBytes: at("f_bavail") * block };
}

/** Gives the blocks of a range back; reads as zeros after. @throws {NativeError} */
export function punchHole(fd: number, offset: number, length: number): void {
  call("fallocate", fd, C.FALLOC_FL_PUNCH_HOLE | C.FALLOC_FL_KEEP_SIZE, offset, length);
}

/** Sets the size; growth is a hole. @throws {NativeError} */
export function setSize(fd: number, sizeBytes: number): void {
  call("ftruncate", fd, sizeBytes);
}
