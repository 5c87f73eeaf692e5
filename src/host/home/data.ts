/**
 * `WARREN_HOME` and the place in it where disks are cloned. Clones need a file system that reflinks; where the home's does
 * not, `data.xfs` is made, a sparse XFS image mounted at `data` through a loop device, grown when it fills, and found again
 * by every later process and after a reboot. Where even that is refused, clones are copied, and doctor says so.
 *
 *     HOME/bin     compiled programs by digest     HOME/slots   who holds which slot (slots.ts)
 *     HOME/run     one directory a live sandbox    HOME/data    templates and clones
 */
import { mkdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { hasCode, NativeError } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { availableIn, canReflink, locked, removeProbes } from "./disk.ts";
import { growImage, hasImage, isMounted, mountImage } from "./image.ts";

/** Where things are in a home. */
export interface Folders {
  readonly home: string;
  /** Templates and clones; one file system. */
  readonly dir: string;
  readonly run: string;
  readonly slots: string;
}

export function foldersOf(home: string): Folders {
  return { home, dir: join(home, "data"), run: join(home, "run"), slots: join(home, "slots") };
}

/** Where volumes are, below the place of templates and clones; one folder an account. */
export function volumesIn(dir: string): string {
  return join(dir, "volumes");
}

export interface Data extends Folders {
  /** How a disk is cloned: by the home's own reflinks, those of the image, or by copying all data. */
  readonly kind: "reflink" | "image" | "copy";
  /** Why clones are copied; null when they are not. */
  readonly degraded: string | null;
  /** Free bytes for clones, never more than the host can really hold. */
  freeBytes(): number;
  /**
   * Grows the image when less than `LIMITS.dataLowBytes`, or than is needed, is free and the host has room. Cheap when there
   * is enough.
   * @param bytes default `LIMITS.diskReserveBytes`
   * @throws {WarrenError} `storage_exhausted` – less than that can be had
   */
  ensureRoom(bytes?: number): Promise<void>;
}

export interface Ground {
  readonly clock: Clock;
  readonly log: Log;
}

function makeDirectories(home: string): void {
  try {
    for (const name of ["bin", "run", "slots", "data"]) mkdirSync(join(home, name), { recursive: true, mode: 0o700 });
  } catch (error) {
    const code = hasCode(error, "EACCES", "EPERM", "EROFS") ? "permission_denied" : "host_unsupported";
    const why = error instanceof Error ? error.message : String(error);
    throw new WarrenError(code, `the data folder ${home} (WARREN_HOME) cannot be written: ${why}`, { cause: error });
  }
}

/**
 * How disks are cloned here, the image being mounted where it is needed, and made first where there is none. Under the lock
 * from the look for reflinks on: the files of that look are in `data`, which is in use to one who makes the image.
 * @throws {WarrenError} `host_unsupported`, `permission_denied` – there is an image and it cannot be mounted: beside it
 * nothing may be written, or the next mount would hide that
 */
async function settled(home: string, ground: Ground): Promise<Pick<Data, "kind" | "degraded">> {
  if (isMounted(home)) return { kind: "image", degraded: null };
  const { dir } = foldersOf(home);
  try {
    return await locked(join(home, "data.lock"), ground.clock, async () => {
      if (isMounted(home)) return { kind: "image", degraded: null }; // by another process, meanwhile
      removeProbes(dir);
      if (!hasImage(home) && canReflink(dir)) return { kind: "reflink", degraded: null };
      await mountImage(home);
      return { kind: "image", degraded: null };
    });
  } catch (error) {
    if (!isWarrenError(error) && !(error instanceof NativeError)) throw error;
    if (hasImage(home)) {
      const code = hasCode(error, "EPERM", "EACCES") ? "permission_denied" : "host_unsupported";
      const says = `the data image of ${home} cannot be mounted: ${error.message}`;
      throw new WarrenError(code, `${says}; mend it with xfs_repair, or start anew with \`warren clean\``, {
        cause: error,
      });
    }
    ground.log.warn("no reflinks: clones are copied", { why: error.message });
    return { kind: "copy", degraded: error.message };
  }
}

/**
 * Opens a home, making what is missing.
 * @throws {WarrenError} `permission_denied`, `host_unsupported` – it cannot be written, or its image not be mounted
 */
export async function openData(homePath: string, ground: Ground): Promise<Data> {
  makeDirectories(homePath);
  const home = realpathSync(homePath);
  const folders = foldersOf(home);
  const { dir } = folders;
  const { kind, degraded } = await settled(home, ground);
  mkdirSync(volumesIn(dir), { recursive: true, mode: 0o700 });
  const freeBytes = (): number => {
    const free = availableIn(dir);
    return kind === "image" ? Math.min(free, availableIn(home) - LIMITS.hostDiskReserveBytes) : free;
  };
  return {
    ...folders,
    kind,
    degraded,
    freeBytes,
    async ensureRoom(bytes = LIMITS.diskReserveBytes) {
      const low = Math.max(LIMITS.dataLowBytes, bytes);
      if (kind === "image" && availableIn(dir) < low) {
        await locked(join(home, "data.lock"), ground.clock, () => growImage(home, low));
      }
      const free = freeBytes();
      if (free >= bytes) return;
      const [mib, neededMib] = [Math.max(0, Math.floor(free / 2 ** 20)), Math.ceil(bytes / 2 ** 20)];
      const says = `only ${mib} MiB are left for templates and disks in ${home}, and ${neededMib} MiB are needed`;
      throw new WarrenError("storage_exhausted", says, {
        details: { freeBytes: free, neededBytes: bytes, path: home },
      });
    },
  };
}
