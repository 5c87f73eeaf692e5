/**
 * The control: a sandbox without the rules that hold it. Their tables are deleted in its namespace and in this process's, and
 * what they translated is routed plainly, so that what the suite says cannot be reached is.
 */
import { closeSync } from "node:fs";
import { closeAll } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import { enterNamespace, namespaceOf } from "../../../ffi/net/netns.ts";
import { addressBytes, parseAddress } from "../../../src/base/address.ts";
import { Netlink, NLM_F_CREATE, NLM_F_REPLACE } from "../../../src/host/net/message.ts";
import { RT } from "../../../src/host/net/numbers.ts";
import type { Machine } from "./ground.ts";

const TABLES = "warren";
const NFNL = {
  batchBegin: 16,
  batchEnd: 17,
  deleteTable: (10 << 8) | 2,
  nfTables: 10,
  inet: 1,
  acknowledge: 4,
} as const;
const TABLE_NAME = 1;

/** Deletes our table of one namespace, with all in it; none is fine. */
function deleteTable(netfilter: number): void {
  const nl = new Netlink(netfilter);
  const head = (about: string, type: number, flags: number, family: number, resource: number): Netlink =>
    nl.begin(about, type, flags).u8(family).u8(0).be16(resource);
  head("begin", NFNL.batchBegin, 0, 0, NFNL.nfTables).end();
  head("deleting the table", NFNL.deleteTable, NFNL.acknowledge, NFNL.inet, 0).attrText(TABLE_NAME, TABLES).end();
  head("end", NFNL.batchEnd, 0, 0, NFNL.nfTables).end();
  try {
    nl.flush();
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error; // it was off already
  }
}

function routeTo(nl: Netlink, to: string, via: string): void {
  const [address, gateway] = [parseAddress(to), parseAddress(via)];
  if (address === null || gateway === null) throw new TypeError(`no addresses: ${to}, ${via}`);
  const bytes = addressBytes(address);
  nl.begin(`route to ${to}`, RT.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)
    .u8(address.family === 4 ? RT.AF_INET : RT.AF_INET6)
    .u8(bytes.length * 8)
    .u8(0)
    .u8(0)
    .u8(RT.RT_TABLE_MAIN)
    .u8(RT.RTPROT_STATIC)
    .u8(RT.RT_SCOPE_UNIVERSE)
    .u8(RT.RTN_UNICAST)
    .u32(0)
    .attrBytes(RTA_DST, bytes)
    .attrBytes(RT.RTA_GATEWAY, addressBytes(gateway))
    .end();
}
const RTA_DST = 1;

/**
 * From now on nothing holds this sandbox back, until this process has another network made: its table here is then made again.
 * For a process of which nothing else is wanted any more.
 */
export function switchOff({ pid, slot }: Machine): void {
  const ns = namespaceOf(pid);
  const inside = enterNamespace(ns, null);
  deleteTable(inside.netfilter);
  closeAll([inside.netfilter, inside.route]);
  closeSync(ns);
  const [route, netfilter] = [openNetlink(NETLINK_ROUTE), openNetlink(NETLINK_NETFILTER)];
  deleteTable(netfilter);
  const nl = new Netlink(route);
  routeTo(nl, slot.guestAddress, slot.slotAddress);
  routeTo(nl, slot.guestAddress6, slot.slotAddress6);
  nl.flush();
  closeAll([route, netfilter]);
}
