/**
 * Whether a slot's network is exactly what was planned, and making one that was used as good as new. Whoever had it before was
 * hostile: what cannot be undone or checked means that it is not used again.
 */
import { closeAll } from "../../../ffi/files.ts";
import { enterNamespace } from "../../../ffi/net/netns.ts";
import { formatAddress } from "../../base/address.ts";
import { closeSlot } from "./closed.ts";
import { Netlink } from "./message.ts";
import { flushConntrack } from "./nft/conntrack.ts";
import { tableIsWhole } from "./nft/table.ts";
import { RT } from "./numbers.ts";
import { type Ipv6, LINK_BITS, LINK_BITS6, rootIndex, type SlotAddresses, TAP_INDEX, UPLINK_INDEX } from "./plan.ts";
import { type LinkFact, readAddresses, readLink, readLinks, readNeighbours, readRoutes, readWay } from "./read.ts";
import { removeDefaultRoute } from "./route.ts";
import { addGuest, addWaysOut, tapOf } from "./slot.ts";

/** Lines that are in one list and not in the other, told apart. */
function differences(what: string, found: readonly string[], planned: readonly string[]): string[] {
  const missing = planned.filter((line) => !found.includes(line)).map((line) => `${what} missing: ${line}`);
  const extra = found.filter((line) => !planned.includes(line)).map((line) => `${what} not planned: ${line}`);
  const twice = found.length === new Set(found).size ? [] : [`${what} twice`];
  return [...missing, ...extra, ...twice];
}

function shown({ index, name, kind, mac, up, carrier, forwards }: LinkFact): string {
  const on = [up ? "up" : "down", carrier ? "carrier" : "no carrier", forwards ? "forwards" : "keeps"];
  return `${index} ${name} ${kind ?? "-"} ${mac} ${on.join(" ")}`;
}

function planned(at: SlotAddresses, ipv6: Ipv6) {
  const link = (index: number, v4: string, v6: string, with6: boolean, way: boolean) => ({
    addresses: [`${index} ${v4}/${LINK_BITS}`, ...(with6 ? [`${index} ${v6}/${LINK_BITS6}`] : [])],
    routes: [`4 link ${index}`, ...(with6 ? [`6 link ${index}`] : [])],
    ways: way ? [`6 default ${at.hostAddress6} ${index}`] : [],
  });
  const neighbour = (index: number, v4: string, v6: string, mac: string, with6: boolean) => [
    `${index} ${v4} ${mac} permanent`,
    ...(with6 ? [`${index} ${v6} ${mac} permanent`] : []),
  ];
  const tap = link(TAP_INDEX, at.tapAddress, at.tapAddress6, ipv6.inside, false);
  const uplink = link(UPLINK_INDEX, at.slotAddress, at.slotAddress6, ipv6.links, ipv6.forwards);
  const out = `4 default ${at.hostAddress} ${UPLINK_INDEX}`;
  return {
    addresses: ["1 127.0.0.1/8", ...(ipv6.inside ? ["1 ::1/128"] : []), ...tap.addresses, ...uplink.addresses],
    routes: [out, ...tap.routes, ...uplink.routes, ...uplink.ways],
    neighbours: [
      ...neighbour(TAP_INDEX, at.guestAddress, at.guestAddress6, at.guestMac, ipv6.inside),
      ...neighbour(UPLINK_INDEX, at.hostAddress, at.hostAddress6, at.hostMac, ipv6.links),
    ],
  };
}

/** What is wrong inside, of everything but the rules. */
function damagesInside(nl: Netlink, at: SlotAddresses, ipv6: Ipv6): string[] {
  const plan = planned(at, ipv6);
  // Tunnel modules put a device of theirs into every namespace: down, it does nothing.
  const links = readLinks(nl).filter(({ index, up }) => up || [1, TAP_INDEX, UPLINK_INDEX].includes(index));
  const addresses = readAddresses(nl).map(({ index, address, bits }) => `${index} ${address}/${bits}`);
  const routes = readRoutes(nl)
    .filter(({ table, type, gateway }) => (table === RT.RT_TABLE_MAIN && type === RT.RTN_UNICAST) || gateway !== null)
    .map(({ family, bits, gateway, index }) => `${family} ${bits === 0 ? `default ${gateway}` : "link"} ${index}`);
  const neighbours = readNeighbours(nl)
    .filter(({ state }) => (state & RT.NUD_NOARP) === 0)
    .map(({ index, address, mac, state }) => {
      return `${index} ${formatAddress(address)} ${mac} ${state === RT.NUD_PERMANENT ? "permanent" : "learned"}`;
    });
  return [
    ...differences("link", links.map(shown), [
      "1 lo - 00:00:00:00:00:00 up carrier keeps",
      `${TAP_INDEX} ${at.tap} tun ${at.tapMac} up no carrier forwards`,
      `${UPLINK_INDEX} ${at.uplink} veth ${at.slotMac} up carrier forwards`,
    ]),
    ...differences("address", addresses, plan.addresses),
    ...differences("route", routes, plan.routes),
    ...differences("neighbour", neighbours, plan.neighbours),
  ];
}

/** What is wrong with this host's end of the link. Two questions: cheap enough for every time that a network is lent. */
export function damagesOutside(route: number, at: SlotAddresses): string[] {
  const nl = new Netlink(route);
  try {
    const end = readLink(nl, at.rootDevice);
    const index = rootIndex(at.slot);
    const found = differences(
      "link",
      [shown(end)],
      [`${index} ${at.rootDevice} veth ${at.hostMac} up carrier forwards`],
    );
    const way = readWay(nl, at.slotAddress);
    const right = way.index === index && way.source === at.hostAddress && way.gateway === null;
    return right ? found : [...found, `the way to ${at.slotAddress} goes over link ${way.index}`];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

export interface Built {
  readonly at: SlotAddresses;
  /** As it was when it was built. */
  readonly ipv6: Ipv6;
  readonly ns: number;
  readonly netfilter: number;
}

/**
 * What is not as it was planned; empty when all is. Nobody may have the tap.
 * @param route an rtnetlink socket of this process's own namespace
 * @throws {NativeError}
 */
export function verify(route: number, { at, ipv6, ns, netfilter }: Built): string[] {
  const entered = enterNamespace(ns, null);
  try {
    const rules = tableIsWhole(new Netlink(netfilter)) ? [] : ["the table of rules is not whole"];
    return [...damagesOutside(route, at), ...damagesInside(new Netlink(entered.route), at, ipv6), ...rules];
  } finally {
    closeAll([entered.route, entered.netfilter]);
  }
}

/**
 * Undoes what a sandbox and its VMM have left: of its connections, of addresses that were opened for it, of what was counted and
 * tried, of neighbours, of what paths were learned, of the tap's settings.
 * @throws {NativeError} `EBUSY` – a process still has the tap
 */
export function reset({ at, ipv6, ns, netfilter }: Built): void {
  const entered = enterNamespace(ns, tapOf(at)); // takes the tap's neighbours with it
  try {
    const rules = new Netlink(netfilter);
    closeSlot(rules, at);
    flushConntrack(rules);
    const nl = new Netlink(entered.route);
    // With the routes go the paths and their sizes that answers taught them.
    removeDefaultRoute(nl, at.hostAddress, UPLINK_INDEX);
    if (ipv6.forwards) removeDefaultRoute(nl, at.hostAddress6, UPLINK_INDEX);
    addWaysOut(nl, at, ipv6);
    addGuest(nl, at, ipv6);
    nl.flush();
  } finally {
    closeAll([entered.route, entered.netfilter]);
  }
}
