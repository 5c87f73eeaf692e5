/**
 * Building a slot's network, in a few calls of the kernel: a namespace with its tap, the link to it, what is inside, the rules.
 * Nothing of it has a holder but the descriptors that are returned: when they are closed, or this process is killed between
 * any two steps, the kernel takes all of it away.
 */
import { closeAll } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { closeNamespace, makeNamespace, type NamespaceFds, type Tap } from "../../../ffi/net/netns.ts";
import { closeSlot } from "./closed.ts";
import { Netlink } from "./message.ts";
import { type Ipv6, LINK_BITS, LINK_BITS6, rootIndex, type SlotAddresses, TAP_INDEX, UPLINK_INDEX } from "./plan.ts";
import { readLink } from "./read.ts";
import { addAddress, addDefaultRoute, addNeighbour, addVeth, macBytes, removeLink, setUp, up } from "./route.ts";

/** What building needs of this process's own namespace. */
export interface BuildGround {
  /** An rtnetlink socket of it. */
  readonly route: number;
  readonly ipv6: Ipv6;
  /** Root of a procfs for the next namespace. */
  procFd(): number;
  /** Called after each step, by its name. */
  readonly step?: (name: "namespace" | "link" | "inside" | "rules") => void;
}

export function tapOf(at: SlotAddresses): Tap {
  return { name: at.tap, index: TAP_INDEX, mac: macBytes(at.tapMac) };
}

/** An end of a link: its addresses and its only neighbour, for good. */
function address(
  nl: Netlink,
  index: number,
  own: readonly [v4: string, v6: string],
  peer: { readonly addresses: readonly [v4: string, v6: string]; readonly mac: string },
  ipv6: boolean,
): void {
  addAddress(nl, index, own[0], LINK_BITS);
  if (ipv6) addAddress(nl, index, own[1], LINK_BITS6);
  for (const text of ipv6 ? peer.addresses : [peer.addresses[0]]) addNeighbour(nl, index, text, peer.mac);
}

/** The pair, and this host's end of it: messages for this process's own namespace. */
export function addLink(nl: Netlink, at: SlotAddresses, nsFd: number, ipv6: Ipv6): void {
  const here = { name: at.rootDevice, index: rootIndex(at.slot), mac: at.hostMac };
  addVeth(nl, here, { name: at.uplink, index: UPLINK_INDEX, mac: at.slotMac, nsFd });
  setUp(nl, here, ipv6.links);
  const peer = { addresses: [at.slotAddress, at.slotAddress6], mac: at.slotMac } as const;
  address(nl, here.index, [at.hostAddress, at.hostAddress6], peer, ipv6.links);
}

/** The neighbours of a tap are lost whenever its hardware address is set. */
export function addGuest(nl: Netlink, at: SlotAddresses, ipv6: Ipv6): void {
  addNeighbour(nl, TAP_INDEX, at.guestAddress, at.guestMac);
  if (ipv6.inside) addNeighbour(nl, TAP_INDEX, at.guestAddress6, at.guestMac);
}

/** Without a way out for IPv6 the kernel tells a guest at once that there is none; by one that leads nowhere it would wait. */
export function addWaysOut(nl: Netlink, at: SlotAddresses, ipv6: Ipv6): void {
  addDefaultRoute(nl, at.hostAddress, UPLINK_INDEX);
  if (ipv6.forwards) addDefaultRoute(nl, at.hostAddress6, UPLINK_INDEX);
}

/** Everything inside but the rules: messages for the slot's namespace. */
export function addInside(nl: Netlink, at: SlotAddresses, ipv6: Ipv6): void {
  up(nl, { name: "lo", index: 1 });
  setUp(nl, { name: at.tap, index: TAP_INDEX }, ipv6.inside);
  const guest = { addresses: [at.guestAddress, at.guestAddress6], mac: at.guestMac } as const;
  address(nl, TAP_INDEX, [at.tapAddress, at.tapAddress6], guest, ipv6.inside);
  setUp(nl, { name: at.uplink, index: UPLINK_INDEX }, ipv6.inside);
  const host = { addresses: [at.hostAddress, at.hostAddress6], mac: at.hostMac } as const;
  address(nl, UPLINK_INDEX, [at.slotAddress, at.slotAddress6], host, ipv6.links);
  addWaysOut(nl, at, ipv6);
}

/** True when a device of this name was of a slot, and is gone now. */
function removeLeftover(route: number, at: SlotAddresses): boolean {
  const nl = new Netlink(route);
  try {
    const left = readLink(nl, at.rootDevice);
    if (left.kind !== "veth" || left.mac !== at.hostMac) return false;
    removeLink(nl, left.index);
    nl.flush();
  } catch (error) {
    if (!hasCode(error, "ENODEV")) throw error; // gone by itself meanwhile
  }
  return true;
}

/** The link, in the place of what a dying namespace of the slot's last holder may still have of it. */
function linkAnew({ route, ipv6 }: BuildGround, at: SlotAddresses, nsFd: number): void {
  const nl = new Netlink(route);
  addLink(nl, at, nsFd, ipv6);
  try {
    nl.flush();
  } catch (error) {
    if (!hasCode(error, "EEXIST", "EBUSY") || !removeLeftover(route, at)) throw error;
    addLink(nl, at, nsFd, ipv6);
    nl.flush();
  }
}

/**
 * Only for whoever holds the slot's lock. Blocks for about 1 ms.
 * @returns the namespace and a netfilter socket in it
 * @throws {NativeError} naming the message that failed; nothing is left
 */
export function buildSlot(ground: BuildGround, at: SlotAddresses): Pick<NamespaceFds, "ns" | "netfilter"> {
  const made = makeNamespace(tapOf(at), ground.procFd(), ground.ipv6.inside);
  try {
    ground.step?.("namespace");
    linkAnew(ground, at, made.ns);
    ground.step?.("link");
    const inside = new Netlink(made.route);
    addInside(inside, at, ground.ipv6);
    inside.flush();
    ground.step?.("inside");
    closeSlot(new Netlink(made.netfilter), at);
    ground.step?.("rules");
  } catch (error) {
    closeNamespace(made);
    throw error;
  }
  closeAll([made.route]);
  return { ns: made.ns, netfilter: made.netfilter };
}
