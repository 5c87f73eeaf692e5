/** What a namespace has, read over rtnetlink: links, addresses, routes, neighbours. */
import { hasCode } from "../../../ffi/native.ts";
import { addressFrom, formatAddress, type IpAddress } from "../../base/address.ts";
import { type Answer, Attributes } from "./answer.ts";
import type { Netlink } from "./message.ts";
import { RT } from "./numbers.ts";
import { askAddresses, askLink, askLinks, askNeighbours, askRoutes, askWay } from "./route.ts";

export interface LinkFact {
  readonly index: number;
  readonly name: string;
  readonly mac: string;
  /** Such as "veth"; null for one of hardware, and `lo`. */
  readonly kind: string | null;
  readonly up: boolean;
  /** Something is at its other end: of a tap, a process that has it open. */
  readonly carrier: boolean;
  readonly forwards: boolean;
  /** Null: it has no IPv6. */
  readonly forwards6: boolean | null;
  /** Of a pair: what this namespace calls the other end's; null when that is the same. */
  readonly peerSpace: number | null;
}

export interface AddressFact {
  readonly index: number;
  readonly address: string;
  readonly bits: number;
}

export interface RouteFact {
  readonly family: 4 | 6;
  readonly table: number;
  readonly type: number;
  /** Who put it there; the kernel's own follow from addresses. */
  readonly protocol: number;
  readonly bits: number;
  readonly destination: string | null;
  readonly gateway: string | null;
  /** Null: several, or none. */
  readonly index: number | null;
  /** Of the links that it goes over. */
  readonly indexes: readonly number[];
  /** The address that a packet of this host's own would be sent from, where it says. */
  readonly source: string | null;
}

export interface NeighbourFact {
  readonly index: number;
  readonly address: IpAddress;
  readonly mac: string | null;
  readonly state: number;
}

function view({ body }: Answer): DataView {
  return new DataView(body.buffer, body.byteOffset, body.byteLength);
}

function macText(bytes: Uint8Array | null): string {
  return [...(bytes ?? [])].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function addressOf(bytes: Uint8Array | null): IpAddress | null {
  return bytes === null || (bytes.length !== 4 && bytes.length !== 16) ? null : addressFrom(bytes);
}

function text(bytes: Uint8Array | null): string | null {
  const address = addressOf(bytes);
  return address === null ? null : formatAddress(address);
}

/** One switch out of an array of 32-bit ones. */
function word(bytes: Uint8Array | null, at: number): number | null {
  if (bytes === null || bytes.length < 4 * at + 4) return null;
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(4 * at, true);
}

function linkOf(answer: Answer): LinkFact {
  const attributes = new Attributes(answer.body, 16);
  const flags = view(answer).getUint32(8, true);
  const spec = attributes.nested(RT.IFLA_AF_SPEC);
  const conf4 = spec.nested(RT.AF_INET).bytes(RT.IFLA_INET_CONF);
  const forwards6 = word(spec.nested(RT.AF_INET6).bytes(RT.IFLA_INET6_CONF), RT.DEVCONF_FORWARDING);
  return {
    index: view(answer).getInt32(4, true),
    name: attributes.text(RT.IFLA_IFNAME) ?? "",
    mac: macText(attributes.bytes(RT.IFLA_ADDRESS)),
    kind: attributes.nested(RT.IFLA_LINKINFO).text(RT.IFLA_INFO_KIND),
    up: (flags & RT.IFF_UP) !== 0,
    carrier: (flags & RT.IFF_LOWER_UP) !== 0,
    forwards: word(conf4, RT.IPV4_DEVCONF_FORWARDING - 1) === 1,
    forwards6: forwards6 === null ? null : forwards6 === 1,
    peerSpace: attributes.u32(RT.IFLA_LINK_NETNSID),
  };
}

export function readLinks(nl: Netlink): LinkFact[] {
  return askLinks(nl).dump().map(linkOf);
}

/** @throws {NativeError} `ENODEV` – there is none */
export function readLink(nl: Netlink, which: string | number): LinkFact {
  const [answer] = askLink(nl, which).dump();
  if (answer === undefined) throw new TypeError("the kernel answered without a link");
  return linkOf(answer);
}

export function readAddresses(nl: Netlink): AddressFact[] {
  return askAddresses(nl)
    .dump()
    .map((answer) => {
      const attributes = new Attributes(answer.body, 8);
      return {
        index: view(answer).getUint32(4, true),
        address: text(attributes.bytes(RT.IFA_LOCAL) ?? attributes.bytes(RT.IFA_ADDRESS)) ?? "",
        bits: view(answer).getUint8(1),
      };
    });
}

/** Links of a route that has several: entries of a length, two bytes, a number and attributes. */
function hops(bytes: Uint8Array | null): number[] {
  const found: number[] = [];
  if (bytes === null) return found;
  const at = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset + 8 <= bytes.length; ) {
    found.push(at.getInt32(offset + 4, true));
    const length = at.getUint16(offset, true);
    if (length < 8) break;
    offset += (length + 3) & ~3;
  }
  return found;
}

function routeOf(answer: Answer): RouteFact {
  const attributes = new Attributes(answer.body, 12);
  const index = attributes.u32(RT.RTA_OIF);
  return {
    family: view(answer).getUint8(0) === RT.AF_INET ? 4 : 6,
    table: attributes.u32(RT.RTA_TABLE) ?? view(answer).getUint8(4),
    type: view(answer).getUint8(7),
    protocol: view(answer).getUint8(5),
    bits: view(answer).getUint8(1),
    destination: text(attributes.bytes(RT.RTA_DST)),
    gateway: text(attributes.bytes(RT.RTA_GATEWAY)),
    index,
    indexes: index === null ? hops(attributes.bytes(RT.RTA_MULTIPATH)) : [index],
    source: text(attributes.bytes(RT.RTA_PREFSRC)),
  };
}

const IP: readonly number[] = [RT.AF_INET, RT.AF_INET6];

/** @param main only IPv4 routes of the main table */
export function readRoutes(nl: Netlink, main = false): RouteFact[] {
  const all = answersOf(askRoutes(nl, main))
    .filter((answer) => IP.includes(view(answer).getUint8(0)))
    .map(routeOf);
  return main ? all.filter(({ family, table }) => family === 4 && table === RT.RT_TABLE_MAIN) : all;
}

/** None where the table that was asked for has never had a route. */
function answersOf(nl: Netlink): Answer[] {
  try {
    return nl.dump();
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}

/** @throws {NativeError} `ENETUNREACH` – there is no way */
export function readWay(nl: Netlink, destination: string): RouteFact {
  const [answer] = askWay(nl, destination).dump();
  if (answer === undefined) throw new TypeError("the kernel answered without a route");
  return routeOf(answer);
}

export function readNeighbours(nl: Netlink): NeighbourFact[] {
  return askNeighbours(nl)
    .dump()
    .flatMap((answer) => {
      const attributes = new Attributes(answer.body, 12);
      const address = addressOf(attributes.bytes(RT.NDA_DST));
      if (address === null) return [];
      const mac = attributes.bytes(RT.NDA_LLADDR);
      return [
        {
          index: view(answer).getInt32(4, true),
          address,
          mac: mac === null ? null : macText(mac),
          state: view(answer).getUint16(8, true),
        },
      ];
    });
}
