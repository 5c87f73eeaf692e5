/** Messages of rtnetlink: links, addresses, routes and neighbours as a slot needs them. Each appends to a batch that its caller sends. */
import { addressBytes, type IpAddress, parseAddress } from "../../base/address.ts";
import { type Netlink, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE } from "./message.ts";
import { RT } from "./numbers.ts";

/** @throws {TypeError} for what is none: addresses here are of our own plan */
export function ip(text: string): IpAddress {
  const address = parseAddress(text);
  if (address === null) throw new TypeError(`no address: ${text}`);
  return address;
}

export function macBytes(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
}

function family({ family: number }: IpAddress): number {
  return number === 4 ? RT.AF_INET : RT.AF_INET6;
}

/** struct ifinfomsg. */
function ifinfo(nl: Netlink, index: number, flags = 0): Netlink {
  return nl.u8(RT.AF_UNSPEC).u8(0).u16(0).u32(index).u32(flags).u32(flags);
}

export interface LinkEnd {
  readonly name: string;
  readonly index: number;
  readonly mac: string;
}

/** A pair, down, of which the peer appears in another namespace at once. */
export function addVeth(nl: Netlink, here: LinkEnd, there: LinkEnd & { readonly nsFd: number }): void {
  ifinfo(nl.begin(`link ${here.name}`, RT.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL), here.index)
    .attrText(RT.IFLA_IFNAME, here.name)
    .attrBytes(RT.IFLA_ADDRESS, macBytes(here.mac))
    .nest(RT.IFLA_LINKINFO, () => {
      nl.attrText(RT.IFLA_INFO_KIND, "veth").nest(RT.IFLA_INFO_DATA, () => {
        nl.nest(RT.VETH_INFO_PEER, () => {
          ifinfo(nl, there.index)
            .attrText(RT.IFLA_IFNAME, there.name)
            .attrBytes(RT.IFLA_ADDRESS, macBytes(there.mac))
            .attr32(RT.IFLA_NET_NS_FD, there.nsFd);
        });
      });
    })
    .end();
}

/** IPv4 forwarding of one link. By netlink, since opening /proc/sys in thousands of namespaces grows slower with each. */
function conf4(nl: Netlink, forwarding: boolean): void {
  nl.nest(RT.AF_INET, () => {
    nl.nest(RT.IFLA_INET_CONF, () => void nl.attr32(RT.IPV4_DEVCONF_FORWARDING, forwarding ? 1 : 0));
  });
}

/**
 * A link that forwards IPv4, without IPv6 addresses of its own making (its neighbour discovery would go on for seconds), and
 * up. Two messages, since the kernel sets a link up before it reads the rest of a message.
 */
export function setUp(nl: Netlink, { name, index }: Pick<LinkEnd, "name" | "index">, ipv6: boolean): void {
  ifinfo(nl.begin(`settings of ${name}`, RT.RTM_NEWLINK), index)
    .nest(RT.IFLA_AF_SPEC, () => {
      conf4(nl, true);
      if (!ipv6) return;
      nl.nest(RT.AF_INET6, () => void nl.attr8(RT.IFLA_INET6_ADDR_GEN_MODE, RT.IN6_ADDR_GEN_MODE_NONE));
    })
    .end();
  up(nl, { name, index });
}

export function up(nl: Netlink, { name, index }: Pick<LinkEnd, "name" | "index">): void {
  ifinfo(nl.begin(`${name} up`, RT.RTM_NEWLINK), index, RT.IFF_UP).end();
}

/** IPv4 forwarding of a link that is not ours. */
export function setForwarding(nl: Netlink, name: string, forwarding: boolean): void {
  ifinfo(nl.begin(`forwarding of ${name}`, RT.RTM_NEWLINK), 0)
    .attrText(RT.IFLA_IFNAME, name)
    .nest(RT.IFLA_AF_SPEC, () => conf4(nl, forwarding))
    .end();
}

export function removeLink(nl: Netlink, index: number): void {
  ifinfo(nl.begin(`removing link ${index}`, RT.RTM_DELLINK), index).end();
}

export function addAddress(nl: Netlink, index: number, text: string, bits: number): void {
  const address = ip(text);
  const bytes = addressBytes(address);
  nl.begin(`address ${text}`, RT.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL)
    .u8(family(address))
    .u8(bits)
    .u8(0)
    .u8(RT.RT_SCOPE_UNIVERSE)
    .u32(index)
    .attrBytes(RT.IFA_LOCAL, bytes)
    .attrBytes(RT.IFA_ADDRESS, bytes)
    // Nobody else is on the link: probing for a duplicate would leave it unusable for a second.
    .attr32(RT.IFA_FLAGS, RT.IFA_F_PERMANENT | RT.IFA_F_NODAD)
    .end();
}

/** struct rtmsg of a default route. */
function defaultRoute(nl: Netlink, about: string, type: number, flags: number, gateway: IpAddress): Netlink {
  return nl
    .begin(about, type, flags)
    .u8(family(gateway))
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(RT.RT_TABLE_MAIN)
    .u8(RT.RTPROT_STATIC)
    .u8(RT.RT_SCOPE_UNIVERSE)
    .u8(RT.RTN_UNICAST)
    .u32(0);
}

export function addDefaultRoute(nl: Netlink, gateway: string, index: number): void {
  const via = ip(gateway);
  defaultRoute(nl, `route by ${gateway}`, RT.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, via)
    .attrBytes(RT.RTA_GATEWAY, addressBytes(via))
    .attr32(RT.RTA_OIF, index)
    .end();
}

export function removeDefaultRoute(nl: Netlink, gateway: string, index: number): void {
  const via = ip(gateway);
  defaultRoute(nl, `removing the route by ${gateway}`, RT.RTM_DELROUTE, 0, via)
    .attrBytes(RT.RTA_GATEWAY, addressBytes(via))
    .attr32(RT.RTA_OIF, index)
    .end();
}

/** struct ndmsg. */
function neighbour(nl: Netlink, type: number, flags: number, index: number, address: IpAddress, state: number) {
  return nl
    .begin(`neighbour on link ${index}`, type, flags)
    .u8(family(address))
    .u8(0)
    .u16(0)
    .u32(index)
    .u16(state)
    .u8(0)
    .u8(0)
    .attrBytes(RT.NDA_DST, addressBytes(address));
}

/** Who has an address on a link, for good: it is not asked for, and no answer changes it. */
export function addNeighbour(nl: Netlink, index: number, address: string, mac: string): void {
  neighbour(nl, RT.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, index, ip(address), RT.NUD_PERMANENT)
    .attrBytes(RT.NDA_LLADDR, macBytes(mac))
    .end();
}

export function removeNeighbour(nl: Netlink, index: number, address: IpAddress): void {
  neighbour(nl, RT.RTM_DELNEIGH, 0, index, address, 0).end();
}

/** Questions for everything in a namespace. */
export function askLinks(nl: Netlink): Netlink {
  return ifinfo(nl.begin("links", RT.RTM_GETLINK, NLM_F_DUMP), 0).end();
}

/** One link, by name or number; answered with `ENODEV` when there is none. */
export function askLink(nl: Netlink, which: string | number): Netlink {
  const asked = ifinfo(nl.begin(`link ${which}`, RT.RTM_GETLINK), typeof which === "number" ? which : 0);
  if (typeof which === "string") asked.attrText(RT.IFLA_IFNAME, which);
  return asked.end();
}

export function askAddresses(nl: Netlink): Netlink {
  return nl.begin("addresses", RT.RTM_GETADDR, NLM_F_DUMP).u8(RT.AF_UNSPEC).u8(0).u8(0).u8(0).u32(0).end();
}

/** @param main only IPv4 routes of the main table, where the kernel can tell them apart; the answer may hold others all the same */
export function askRoutes(nl: Netlink, main = false): Netlink {
  nl.begin("routes", RT.RTM_GETROUTE, NLM_F_DUMP)
    .u8(main ? RT.AF_INET : RT.AF_UNSPEC)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(main ? RT.RT_TABLE_MAIN : 0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u32(0);
  return nl.end();
}

/** Which way a packet would take. */
export function askWay(nl: Netlink, destination: string): Netlink {
  const address = ip(destination);
  const bytes = addressBytes(address);
  return nl
    .begin(`way to ${destination}`, RT.RTM_GETROUTE)
    .u8(family(address))
    .u8(8 * bytes.length)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u32(0)
    .attrBytes(RT.RTA_DST, bytes)
    .end();
}

export function askNeighbours(nl: Netlink): Netlink {
  return nl
    .begin("neighbours", RT.RTM_GETNEIGH, NLM_F_DUMP)
    .u8(RT.AF_UNSPEC)
    .u8(0)
    .u16(0)
    .u32(0)
    .u16(0)
    .u8(0)
    .u8(0)
    .end();
}
