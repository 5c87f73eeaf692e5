/** Listening Unix sockets for VMMs, connected pairs, and abstract names as locks that end with their last holder. */
import { C, LAYOUTS } from "./layout.ts";
import { call, callOn, hasCode, memory } from "./native.ts";

/** `path` starting with a zero byte is an abstract name, which is as long as it is given. */
function address(path: string): Uint8Array<ArrayBuffer> {
  const room = LAYOUTS.sockaddr_un.sun_path[1];
  const text = new TextEncoder().encode(path);
  if (text.length >= room) throw new TypeError(`a socket's path has at most ${room - 1} bytes: ${path}`);
  const abstract = text[0] === 0;
  const bytes = memory(2 + text.length + (abstract ? 0 : 1));
  new DataView(bytes.buffer).setUint16(0, C.AF_UNIX, true);
  bytes.set(text, 2);
  return bytes;
}

function bound(path: string, shown: string): number {
  const fd = call("socket", C.AF_UNIX, C.SOCK_STREAM | C.SOCK_CLOEXEC, 0);
  try {
    const to = address(path);
    // SAFETY: the length given is that of the memory given.
    callOn(shown, "bind", fd, to, to.length);
    return fd;
  } catch (error) {
    call("close", fd);
    throw error;
  }
}

/**
 * A listening socket `name` in the directory `dirFd`; reached through /proc, so the directory's own path may be of any length.
 * @throws {NativeError} `EADDRINUSE` – the name exists
 */
export function listenUnix(dirFd: number, name: string, backlog: number): number {
  const fd = bound(`/proc/self/fd/${dirFd}/${name}`, name);
  try {
    call("listen", fd, backlog);
    return fd;
  } catch (error) {
    call("close", fd);
    throw error;
  }
}

/** Two connected ends: what a pipe is, but the runtime can read it without being kept alive by it. */
export function socketPair(): readonly [number, number] {
  const ends = memory(8);
  // SAFETY: the kernel writes two 32-bit descriptors.
  call("socketpair", C.AF_UNIX, C.SOCK_STREAM | C.SOCK_CLOEXEC, 0, ends);
  const view = new DataView(ends.buffer);
  return [view.getInt32(0, true), view.getInt32(4, true)];
}

/**
 * Takes a name of this host's network namespace. It is free again when the last process that inherited the descriptor is
 * gone, however it ended: no file remains, nothing has to be cleaned.
 * @returns null when it is taken
 */
export function takeName(name: string): number | null {
  try {
    return bound(`\0${name}`, name);
  } catch (error) {
    if (hasCode(error, "EADDRINUSE")) return null;
    throw error;
  }
}

/** True when a socket of this family and protocol can be opened: a probe. */
export function canOpenNetlink(protocol: number): boolean {
  try {
    call("close", call("socket", C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC, protocol));
    return true;
  } catch (error) {
    if (hasCode(error, "EPROTONOSUPPORT", "EAFNOSUPPORT", "EPERM", "EACCES")) return false;
    throw error;
  }
}
