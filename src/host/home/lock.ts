/** A lock between processes: a file that one of them has locked. It frees itself when its holder ends, however that happens. */
import { closeFd, openFd, tryLock } from "../../../ffi/files.ts";
import { type Clock, systemClock } from "../../base/clock.ts";

/** How often a waiting process looks again: flock has no wait that an event loop could take part in. */
const LOOK_MS = 100;

export interface LockOptions {
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  /** Called at once when the lock is taken by another, and every two seconds that it still is. */
  readonly waits?: () => void;
}

/** The lock, or null when another process or another call of this one has it. */
export function tryLockFile(path: string): Disposable | null {
  const fd = openFd(path, "lock");
  if (tryLock(fd, "exclusive")) return { [Symbol.dispose]: () => closeFd(fd) };
  closeFd(fd);
  return null;
}

/** Locks an open file; every process that has it from this one keeps the lock. False when someone excludes it. */
export function lockOpened(fd: number, how: "shared" | "exclusive"): boolean {
  return tryLock(fd, how);
}

/** Waits for the lock for as long as `signal` lets it. @throws the signal's reason */
export async function lockFile(path: string, options: LockOptions = {}): Promise<Disposable> {
  const clock = options.clock ?? systemClock;
  for (let looks = 0; ; looks++) {
    const lock = tryLockFile(path);
    if (lock !== null) return lock;
    if (looks % (2000 / LOOK_MS) === 0) options.waits?.();
    await clock.sleep(LOOK_MS, options.signal);
  }
}
