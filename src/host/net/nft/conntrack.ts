/** The kernel's table of connections, which nftables' rules look into, one for each namespace. */
import type { Netlink } from "../message.ts";

const CONNTRACK_DELETE = (1 << 8) | 2;

/** Forgets all connections of the namespace; packets of those that were open begin new ones. @throws {NativeError} */
export function flushConntrack(nl: Netlink): void {
  nl.begin("forget all connections", CONNTRACK_DELETE).u8(0).u8(0).be16(0).end();
  nl.flush();
}
