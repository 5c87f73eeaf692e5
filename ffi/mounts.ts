/** Mounting, and loop devices: how a file becomes the file system that data lives on. */
import { closeFd, openFd } from "./files.ts";
import { C, LAYOUTS } from "./layout.ts";
import { address, call, callOn, cText, hasCode, holding, memory } from "./native.ts";

/** Without set-uid programs and devices. @throws {NativeError} `EBUSY`, `EINVAL` – no such file system on it; `EPERM` */
export function mountAt(source: string, target: string, type: string, options: string): void {
  const data = memory(Buffer.byteLength(options) + 1);
  new TextEncoder().encodeInto(options, data);
  // SAFETY: `data` ends in a zero byte.
  callOn(target, "mount", source, target, type, C.MS_NOSUID | C.MS_NODEV | C.MS_NOATIME, data);
}

/** @param how "now" fails while it is in use; "detach" takes it from the tree and frees it after its last user. @throws {NativeError} `EBUSY` */
export function unmountAt(target: string, how: "now" | "detach"): void {
  callOn(target, "umount2", target, how === "detach" ? C.MNT_DETACH : 0);
}

/**
 * A mount that is at no path: it lives as long as its descriptor and nothing of it can stay behind.
 * @param options name → value, or null for a bare word
 * @throws {NativeError} `EINVAL` – an option that this kernel does not know; `ENODEV`, `EPERM`
 */
export function detachedMount(type: string, options: Readonly<Record<string, string | null>>): number {
  const settings = Object.entries(options).map(([key, value]) => ({
    how: value === null ? C.FSCONFIG_SET_FLAG : C.FSCONFIG_SET_STRING,
    key: cText(key),
    value: value === null ? null : cText(value),
  }));
  const name = cText(type);
  const texts = [name, ...settings.flatMap((s) => (s.value === null ? [s.key] : [s.key, s.value]))];
  const at = (text: Uint8Array<ArrayBuffer> | null) => (text === null ? 0 : Number(address(text)));
  return holding(texts, () => {
    // SAFETY: every text whose address crosses as a number is held for all of these calls.
    const fs = call("syscall", C.SYS_fsopen, at(name), C.FSOPEN_CLOEXEC, 0, 0, 0);
    try {
      for (const { how, key, value } of settings) call("syscall", C.SYS_fsconfig, fs, how, at(key), at(value), 0);
      call("syscall", C.SYS_fsconfig, fs, C.FSCONFIG_CMD_CREATE, 0, 0, 0);
      return call("syscall", C.SYS_fsmount, fs, C.FSMOUNT_CLOEXEC, 0, 0, 0);
    } finally {
      closeFd(fs);
    }
  });
}

const LO = LAYOUTS.loop_info64;
const DIRECT_IO = 16; // without it every block would be cached twice, once in each file system

function configure(loopFd: number, fileFd: number, name: string): boolean {
  const config = memory(LAYOUTS.loop_config[""][1]);
  const view = new DataView(config.buffer);
  view.setUint32(LAYOUTS.loop_config.fd[0], fileFd, true);
  const info = LAYOUTS.loop_config.info[0];
  view.setUint32(info + LO.lo_flags[0], C.LO_FLAGS_AUTOCLEAR | DIRECT_IO, true);
  new TextEncoder().encodeInto(name, config.subarray(info + LO.lo_file_name[0], info + LO.lo_file_name[0] + 63));
  try {
    call("ioctl", loopFd, C.LOOP_CONFIGURE, config);
    return true;
  } catch (error) {
    if (hasCode(error, "EBUSY")) return false;
    throw error;
  }
}

export interface LoopDevice {
  readonly path: string;
  /** Held open until it is mounted: the device frees itself with its last user. */
  readonly fd: number;
}

/**
 * Attaches an open file to a free loop device, which detaches itself when it is closed and unmounted.
 * @param makeNode makes a missing /dev node, which happens where no udev runs
 * @throws {NativeError} `ENOENT` – no loop driver here; `EPERM`
 */
export async function attachLoop(
  fileFd: number,
  name: string,
  makeNode: (n: number) => Promise<void>,
): Promise<LoopDevice> {
  const control = openFd("/dev/loop-control", "write");
  try {
    for (;;) {
      const n = call("ioctl", control, C.LOOP_CTL_GET_FREE, null);
      const path = `/dev/loop${n}`;
      await makeNode(n);
      const fd = openFd(path, "write");
      try {
        if (configure(fd, fileFd, name)) return { path, fd };
      } catch (error) {
        closeFd(fd);
        throw error;
      }
      closeFd(fd); // another process was faster: ask for the next free one
    }
  } finally {
    closeFd(control);
  }
}

/** Device and inode of the file behind a loop device; null when it is free. @throws {NativeError} */
export function loopFile(loopFd: number): { readonly device: number; readonly inode: number } | null {
  const info = memory(LO[""][1]);
  try {
    call("ioctl", loopFd, C.LOOP_GET_STATUS64, info);
  } catch (error) {
    if (hasCode(error, "ENXIO")) return null;
    throw error;
  }
  const view = new DataView(info.buffer);
  const at = (field: "lo_device" | "lo_inode") => Number(view.getBigUint64(LO[field][0], true));
  return { device: at("lo_device"), inode: at("lo_inode") };
}

/** Tells the device that its file has grown. @throws {NativeError} */
export function growLoop(loopFd: number): void {
  call("ioctl", loopFd, C.LOOP_SET_CAPACITY, null);
}

/** Takes the file away from a device; at once, or with its last user. @throws {NativeError} */
export function detachLoop(loopFd: number): void {
  call("ioctl", loopFd, C.LOOP_CLR_FD, null);
}
