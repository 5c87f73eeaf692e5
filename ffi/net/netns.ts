/** Network namespaces: made with a tap in them, or entered, for as long as it takes to open netlink sockets there. */
import { closeAll, openFd } from "../files.ts";
import { callOurs, memory, NativeError } from "../native.ts";

/** Descriptors; whoever has it closes each. The namespace lives as long as anything refers to it. */
export interface NamespaceFds {
  readonly ns: number;
  readonly route: number;
  readonly netfilter: number;
}

/** This process's own network namespace; opened once, kept for good. */
let home: number | null = null;
function homeNs(): number {
  home ??= openFd("/proc/self/ns/net", "read");
  return home;
}

function read(out: Uint8Array<ArrayBuffer>): readonly [number, number, number] {
  const view = new DataView(out.buffer);
  return [view.getInt32(0, true), view.getInt32(4, true), view.getInt32(8, true)];
}

/**
 * A new namespace with a persistent tap in it, link down (IFF_VNET_HDR). `procFd`: root of a procfs, to switch IPv6
 * forwarding on in it; null to leave it off. Main thread only.
 * @throws {NativeError} `EPERM`, `ENOSPC` – too many namespaces, `ENOENT` – no /dev/net/tun or no IPv6
 */
export function makeNamespace(tap: string, mac: Uint8Array, procFd: number | null): NamespaceFds {
  if (!/^[a-z0-9]{1,15}$/.test(tap) || mac.length !== 6) throw new TypeError("no tap");
  const address = memory(6);
  address.set(mac);
  const out = memory(12);
  // SAFETY: C reads 6 bytes of the address and writes three 32-bit numbers.
  const result = callOurs("warren_netns_make", homeNs(), tap, address, procFd ?? -1, out);
  if (result < 0) throw new NativeError("netns_make", -result);
  const [ns, route, netfilter] = read(out);
  return { ns, route, netfilter };
}

/** Netlink sockets in a namespace that is open here; the caller keeps and closes `ns`. @throws {NativeError} */
export function enterNamespace(ns: number): Pick<NamespaceFds, "route" | "netfilter"> {
  const out = memory(12);
  // SAFETY: C writes three 32-bit numbers.
  const result = callOurs("warren_netns_enter", homeNs(), ns, out);
  if (result < 0) throw new NativeError("netns_enter", -result);
  const [, route, netfilter] = read(out);
  return { route, netfilter };
}

/** The network namespace of a process. @throws {NativeError} `ENOENT` – it is gone */
export function namespaceOf(pid: number): number {
  return openFd(`/proc/${pid}/ns/net`, "read");
}

export function closeNamespace({ ns, route, netfilter }: NamespaceFds): void {
  closeAll([ns, route, netfilter]);
}
