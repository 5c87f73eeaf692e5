/** What a file system can do and hold, and a lock between processes on a path of it. */
import { closeSync, constants, fstatSync, openSync, readdirSync, rmSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { closeFd, fileSystemOf, openFd, reflink, unsharedBytes } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";
import { nonce } from "../../base/id.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { lockFile } from "./lock.ts";

const PROBE = ".probe-";

/** Removes what is left in `dir` of {@link canReflink} that was killed; nobody may be in it meanwhile. */
export function removeProbes(dir: string): void {
  for (const name of readdirSync(dir)) if (name.startsWith(PROBE)) rmSync(join(dir, name), { force: true });
}

/** True when a file in `dir` can be reflinked to another there. @throws when not even a file can be made */
export function canReflink(dir: string): boolean {
  const fds: number[] = [];
  try {
    for (let i = 0; i < 2; i++) {
      const path = join(dir, PROBE + nonce());
      fds.push(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600));
      unlinkSync(path);
    }
    writeSync(fds[0]!, new Uint8Array(4096).fill(1));
    reflink(fds[0]!, fds[1]!);
    return true;
  } catch (error) {
    if (hasCode(error, "EOPNOTSUPP", "ENOTSUP", "EXDEV", "EINVAL", "ENOTTY", "ENOSYS")) return false;
    throw error;
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

/** Bytes free to an unprivileged writer where `dir` lies. @throws {NativeError} */
export function availableIn(dir: string): number {
  const fd = openFd(dir, "directory");
  try {
    return fileSystemOf(fd).availableBytes;
  } finally {
    closeFd(fd);
  }
}

/** Bytes of a file that no other shares; where the file system does not tell, all that are allocated. */
export function ownBytes(path: string): number {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    return unsharedBytes(fd) ?? fstatSync(fd).blocks * 512;
  } finally {
    closeSync(fd);
  }
}

/**
 * Runs `job` while no other process runs one under the same lock file.
 * @throws {WarrenError} `host_unsupported` – another process holds it for too long
 */
export async function locked<T>(path: string, clock: Clock, job: () => Promise<T>): Promise<T> {
  const patience = new AbortController();
  const cancel = clock.after(LIMITS.dataLockMs, () => {
    const says = `another process holds ${path} for more than ${LIMITS.dataLockMs} ms`;
    patience.abort(new WarrenError("host_unsupported", says));
  });
  try {
    using _ = await lockFile(path, { clock, signal: patience.signal });
    return await job();
  } finally {
    cancel();
  }
}
