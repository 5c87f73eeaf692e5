/** Netlink sockets: one request out, its answers in. Both are synchronous: the kernel answers within the call that asks. */
import { C } from "../layout.ts";
import { call, hasCode, memory } from "../native.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

/** A socket in this process's own namespace. @throws {NativeError} `EPERM`, `EPROTONOSUPPORT` */
export function openNetlink(protocol: number): number {
  return call("socket", C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC, protocol);
}

/** Dumps of this socket are then filtered by the kernel, by what a question names, where a host has thousands of routes. */
export function filterDumps(fd: number): void {
  const on = memory(4);
  on[0] = 1;
  // SAFETY: the length given is that of the memory given.
  call("setsockopt", fd, C.SOL_NETLINK, C.NETLINK_GET_STRICT_CHK, on, on.length);
}

/** @throws {NativeError} `EMSGSIZE`, `ENOBUFS` */
export function sendNetlink(fd: number, bytes: Uint8Array<ArrayBuffer>, length: number): void {
  if (length > bytes.length) throw new TypeError(`${length} bytes of ${bytes.length}`);
  // SAFETY: the length is within the memory given.
  call("send", fd, bytes, length, 0);
}

const RECEIVE_BYTES = 256 * 1024;
const room = memory(RECEIVE_BYTES);

/**
 * The next datagram, which is this module's own memory: read it before the next call. `wait` false: empty when there is none.
 * @throws {NativeError} `ENOBUFS` – answers were lost
 */
export function receiveNetlink(fd: number, wait: boolean): Uint8Array<ArrayBuffer> {
  // SAFETY: the length given is that of the memory given.
  try {
    const got = call("recv", fd, room, room.length, wait ? 0 : C.MSG_DONTWAIT);
    return room.subarray(0, got);
  } catch (error) {
    if (!wait && hasCode(error, "EAGAIN", "EWOULDBLOCK")) return room.subarray(0, 0);
    throw error;
  }
}
