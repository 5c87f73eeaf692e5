/** Listening Unix sockets for VMMs, connected pairs, and abstract names as locks that end with their last holder. */
import { C, LAYOUTS } from "./layout.ts";
import { address as addressOf, call, callOn, hasCode, holding, memory } from "./native.ts";

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

/**
 * Connects to the listening socket `name` in the directory `dirFd` and sends `bytes` with a descriptor; nothing more is
 * sent. The caller reads the answer from what is returned, and closes it.
 * @throws {NativeError} `ECONNREFUSED`, `ENOENT` – nobody listens there
 */
export function sendDescriptor(dirFd: number, name: string, bytes: Uint8Array<ArrayBuffer>, fd: number): number {
  const socket = call("socket", C.AF_UNIX, C.SOCK_STREAM | C.SOCK_CLOEXEC, 0);
  try {
    const to = address(`/proc/self/fd/${dirFd}/${name}`);
    // SAFETY: the length given is that of the memory given.
    callOn(name, "connect", socket, to, to.length);
    sendOnce(socket, bytes, fd);
    call("shutdown", socket, C.SHUT_WR);
    return socket;
  } catch (error) {
    call("close", socket);
    throw error;
  }
}

function sendOnce(socket: number, bytes: Uint8Array<ArrayBuffer>, fd: number): void {
  const body = memory(bytes.length);
  body.set(bytes);
  const part = memory(LAYOUTS.iovec[""][1]);
  const control = memory(LAYOUTS.cmsghdr[""][1] + 8); // one descriptor, padded
  const header = memory(LAYOUTS.msghdr[""][1]);
  const set = (on: Uint8Array<ArrayBuffer>, at: readonly [number, number], value: bigint): void =>
    new DataView(on.buffer).setBigUint64(at[0], value, true);
  set(part, LAYOUTS.iovec.iov_len, BigInt(body.length));
  set(control, LAYOUTS.cmsghdr.cmsg_len, BigInt(LAYOUTS.cmsghdr[""][1] + 4));
  const view = new DataView(control.buffer);
  view.setInt32(LAYOUTS.cmsghdr.cmsg_level[0], C.SOL_SOCKET, true);
  view.setInt32(LAYOUTS.cmsghdr.cmsg_type[0], C.SCM_RIGHTS, true);
  view.setInt32(LAYOUTS.cmsghdr[""][1], fd, true);
  // SAFETY: the header's addresses are of memory held until after the call, its lengths are theirs.
  holding([body, part, control], () => {
    set(part, LAYOUTS.iovec.iov_base, addressOf(body));
    set(header, LAYOUTS.msghdr.msg_iov, addressOf(part));
    set(header, LAYOUTS.msghdr.msg_iovlen, 1n);
    set(header, LAYOUTS.msghdr.msg_control, addressOf(control));
    set(header, LAYOUTS.msghdr.msg_controllen, BigInt(control.length));
    call("sendmsg", socket, header, C.MSG_NOSIGNAL);
  });
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
