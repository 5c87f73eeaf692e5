/** Network namespaces: made with a tap in them, or entered, for as long as it takes to open netlink sockets there. */
import { closeAll, closeFd, openFd } from "../files.ts";
import { callOurs, memory, NativeError } from "../native.ts";

/** Descriptors; whoever has it closes each. The namespace lives as long as anything refers to it. */
export interface NamespaceFds {
  readonly ns: number;
  readonly route: number;
  readonly netfilter: number;
}

/** Runs `job` with this process's own network namespace. */
function withHome<T>(job: (home: number) => T): T {
  const home = openFd("/proc/self/ns/net", "read");
  try {
    return job(home);
  } finally {
    closeFd(home);
  }
}

function read(out: Uint8Array<ArrayBuffer>): readonly [number, number, number] {
  const view = new DataView(out.buffer);
  return [view.getInt32(0, true), view.getInt32(4, true), view.getInt32(8, true)];
}

/** A persistent tap (IFF_VNET_HDR); link down when it is new. */
export interface Tap {
  readonly name: string;
  /** Its interface number. */
  readonly index: number;
  readonly mac: Uint8Array;
}

function macOf({ name, mac }: Tap): Uint8Array<ArrayBuffer> {
  if (!/^[a-z0-9]{1,15}$/.test(name) || mac.length !== 6) throw new TypeError("no tap");
  const bytes = memory(6);
  bytes.set(mac);
  return bytes;
}

/**
 * A new namespace with a tap in it. `procFd`: root of a procfs; `ipv6`: forwarded in the namespace. Main thread only.
 * @throws {NativeError} `EPERM`, `ENOSPC` – too many namespaces, `ENOENT` – no /dev/net/tun, or no IPv6 although it is asked for
 */
export function makeNamespace(tap: Tap, procFd: number, ipv6: boolean): NamespaceFds {
  const out = memory(12);
  // SAFETY: C reads 6 bytes of the address and writes three 32-bit numbers.
  const result = withHome((home) =>
    callOurs("warren_netns_make", home, tap.name, tap.index, macOf(tap), procFd, ipv6 ? 1 : 0, out),
  );
  if (result < 0) throw new NativeError("netns_make", -result);
  const [ns, route, netfilter] = read(out);
  return { ns, route, netfilter };
}

/**
 * Netlink sockets in a namespace that is open here; the caller keeps and closes `ns`. With a tap: all that a process with its
 * descriptor may have changed is undone. Main thread only.
 * @throws {NativeError} `EBUSY` – a process has the tap
 */
export function enterNamespace(ns: number, tap: Tap | null): Pick<NamespaceFds, "route" | "netfilter"> {
  const out = memory(12);
  const mac = tap === null ? null : macOf(tap);
  // SAFETY: C reads 6 bytes of the address, if there is a name, and writes three 32-bit numbers.
  const result = withHome((home) =>
    callOurs("warren_netns_enter", home, ns, tap?.name ?? null, tap?.index ?? 0, mac, out),
  );
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
