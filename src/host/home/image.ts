/**
 * The XFS image of a home: `data.xfs`, sparse, mounted at `data`. Whoever changes anything holds `data.lock`.
 * The file gives blocks back to the host as soon as they are freed inside (mount option discard).
 */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { closeFd, openFd, setSize } from "../../../ffi/files.ts";
import { attachLoop, detachLoop, growLoop, loopFile, mountAt, unmountAt } from "../../../ffi/mounts.ts";
import { nonce } from "../../base/id.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { run, runOk } from "../run.ts";
import { availableIn } from "./disk.ts";
import { readMounts } from "./mountinfo.ts";

const IMAGE = "data.xfs";
const PARTIAL = "data.xfs.partial-";

export function hasImage(home: string): boolean {
  return existsSync(join(home, IMAGE));
}

/** True when something is mounted at `data`. */
export function isMounted(home: string): boolean {
  const at = join(home, "data");
  return readMounts().some((mount) => mount.at === at);
}

/** The loop device that has the image, opened; null when none has. One image on two devices would destroy it. */
function attachedLoop(home: string): { readonly path: string; readonly fd: number } | null {
  const { dev, ino } = statSync(join(home, IMAGE));
  for (const name of readdirSync("/sys/block")) {
    if (!name.startsWith("loop") || !existsSync(`/sys/block/${name}/loop`)) continue;
    const path = `/dev/${name}`;
    const fd = openFd(path, "write");
    const file = loopFile(fd);
    if (file?.inode === ino && file.device === dev) return { path, fd };
    closeFd(fd);
  }
  return null;
}

async function makeImage(home: string): Promise<void> {
  if (readdirSync(join(home, "data")).length > 0) {
    throw new WarrenError(
      "host_unsupported",
      `${join(home, "data")} is in use without reflinks; \`warren clean\` starts anew`,
    );
  }
  const room = availableIn(home) - LIMITS.hostDiskReserveBytes;
  if (room < LIMITS.imageBytesMin) {
    throw new WarrenError(
      "storage_exhausted",
      `too little space in ${home} for a data image: ${Math.floor(room / 2 ** 20)} MiB`,
    );
  }
  const bytes = Math.max(LIMITS.imageBytesMin, Math.min(Math.floor(room / 2), LIMITS.imageBytesMax));
  const partial = join(home, PARTIAL + nonce());
  try {
    const fd = openFd(partial, "lock"); // creates it, readable by its owner alone
    setSize(fd, bytes);
    closeFd(fd);
    const made = await run(["mkfs.xfs", "-q", "-m", "reflink=1", "-L", "warren", partial], {
      deadlineMs: LIMITS.dataLockMs,
    });
    if (made.kind === "missing") {
      throw new WarrenError("host_unsupported", "mkfs.xfs is not installed: apt-get install xfsprogs");
    }
    if (made.exitCode !== 0) {
      throw new WarrenError("host_unsupported", `mkfs.xfs failed: ${made.stderr.slice(-500).trim()}`);
    }
    renameSync(partial, join(home, IMAGE));
  } finally {
    rmSync(partial, { force: true });
  }
}

/** Where no udev runs, as in containers, a device that was never used has no node. */
async function makeNode(n: number): Promise<void> {
  if (!existsSync(`/dev/loop${n}`))
    await runOk(["mknod", `/dev/loop${n}`, "b", "7", String(n)], { deadlineMs: 10_000 });
}

/**
 * Mounts the image, which is not, making it when there is none. Under the lock.
 * @throws {WarrenError} `host_unsupported`, `storage_exhausted`; {NativeError} `EPERM` – no right to mount
 */
export async function mountImage(home: string): Promise<void> {
  for (const name of readdirSync(home)) if (name.startsWith(PARTIAL)) rmSync(join(home, name), { force: true });
  if (!hasImage(home)) await makeImage(home);
  const fileFd = openFd(join(home, IMAGE), "write");
  try {
    const loop = attachedLoop(home) ?? (await attachLoop(fileFd, join(home, IMAGE), makeNode));
    try {
      // nouuid: a home that was copied as a whole may be mounted beside its original.
      mountAt(loop.path, join(home, "data"), "xfs", "discard,nouuid");
    } finally {
      closeFd(loop.fd); // the mount holds it now; without one it frees itself
    }
  } finally {
    closeFd(fileFd);
  }
}

/** Grows an image with less than `lowBytes` free as far as sensible; under the lock. Does nothing when another process just has, or there is no room. */
export async function growImage(home: string, lowBytes: number = LIMITS.dataLowBytes): Promise<void> {
  const data = join(home, "data");
  if (availableIn(data) >= lowBytes) return;
  const { size, blocks } = statSync(join(home, IMAGE));
  const holds = blocks * 512 + availableIn(home) - LIMITS.hostDiskReserveBytes;
  const wanted = Math.min(size + Math.max(Math.floor(size / 2), 4 * LIMITS.dataLowBytes), holds);
  if (wanted - size < LIMITS.diskReserveBytes) return;
  const fd = openFd(join(home, IMAGE), "write");
  try {
    setSize(fd, wanted - (wanted % 2 ** 20));
  } finally {
    closeFd(fd);
  }
  const loop = attachedLoop(home);
  if (loop === null) throw new WarrenError("internal", `${IMAGE} is mounted but no loop device has it`);
  try {
    growLoop(loop.fd);
  } finally {
    closeFd(loop.fd);
  }
  await runOk(["xfs_growfs", data], { deadlineMs: LIMITS.dataLockMs });
}

/**
 * Unmounts the image and frees its device; under the lock. The image itself stays.
 * @throws {NativeError} `EBUSY` – something of it is open
 */
export function unmountImage(home: string): void {
  while (isMounted(home)) unmountAt(join(home, "data"), "now");
  if (!hasImage(home)) return;
  const loop = attachedLoop(home);
  if (loop === null) return;
  try {
    detachLoop(loop.fd);
  } finally {
    closeFd(loop.fd);
  }
}
