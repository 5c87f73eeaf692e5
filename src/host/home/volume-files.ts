/**
 * Images of volumes, as files. Their content is a guest's: nothing here reads it, mounts it or checks it. Who may use an
 * image is decided by flock on the very open file that a VMM is given, so the lock lives exactly as long as its user.
 */
import { fstatSync, statSync } from "node:fs";
import { closeFd, openFd, openUnnamed, setSize, tryLock } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { run } from "../run.ts";

/**
 * A journal, as a guest may be killed at any time. No feature that an older resize2fs does not know. The file is all hole, so
 * a journal need not be written to be empty; inode tables are left to no guest to clear.
 */
const EXT4 = [
  ...["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "has_journal,^orphan_file,^metadata_csum_seed"],
  ...["-E", "lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0"],
];
const SECTOR_BYTES = 512;

/** An empty file system in a new file. @throws {WarrenError} `storage_exhausted`, `host_unsupported` */
export async function makeVolumeImage(path: string, sizeBytes: number): Promise<void> {
  const fd = openFd(path, "lock"); // creates it, readable by its owner alone
  setSize(fd, sizeBytes);
  closeFd(fd);
  const made = await run(["mke2fs", ...EXT4, path], { deadlineMs: LIMITS.volumeFormatMs });
  if (made.exitCode === 0) return;
  if (made.kind === "missing") {
    throw new WarrenError("host_unsupported", "mke2fs is not installed: apt-get install e2fsprogs");
  }
  if (/no space left/i.test(made.stderr)) throw new WarrenError("storage_exhausted", "no space for another volume");
  throw new WarrenError("host_unsupported", `mke2fs failed: ${made.stderr.slice(-500).trim()}`);
}

/**
 * An image, locked for one writer or for a reader beside others, as long as anyone holds the open file.
 * @returns null while another's lock excludes this one @throws {NativeError} `ENOENT`
 */
export function openVolumeImage(path: string, how: "read" | "write"): number | null {
  for (;;) {
    const fd = openFd(path, how);
    if (!tryLock(fd, how === "read" ? "shared" : "exclusive")) {
      closeFd(fd);
      return null;
    }
    // Removed, and perhaps made anew, before the lock was ours: what has the name now is what is asked for.
    if (isAt(fd, path)) return fd;
    closeFd(fd);
  }
}

function isAt(fd: number, path: string): boolean {
  const { dev, ino } = fstatSync(fd);
  try {
    const now = statSync(path);
    return now.dev === dev && now.ino === ino;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
}

/** A file without a name beside the images, for what is thrown away. */
export function openScratch(dir: string): number {
  return openUnnamed(dir);
}

/** Grows an image, whoever uses it; the new part is a hole. */
export function growVolumeImage(path: string, sizeBytes: number): void {
  const fd = openFd(path, "write");
  try {
    if (fstatSync(fd).size < sizeBytes) setSize(fd, sizeBytes);
  } finally {
    closeFd(fd);
  }
}

/** Bytes of the host's disk that an image takes. @throws {NodeJS.ErrnoException} `ENOENT` */
export function allocatedBytes(path: string): number {
  return statSync(path).blocks * SECTOR_BYTES;
}

export function closeVolumeImage(fd: number): void {
  closeFd(fd);
}
