/**
 * Where everything of a slot's network is: names, addresses, interface numbers. Pure; the whole host has one plan, so that
 * whatever is found is known by its number.
 */
import { LIMITS } from "../../limits.ts";

/** The guest's side is the same in every slot, since it is baked into snapshots. */
const GUEST = {
  guestAddress: "10.99.0.2",
  guestAddress6: "fd57:5752::2",
  guestMac: "02:57:52:00:00:02",
  tapAddress: "10.99.0.1",
  tapAddress6: "fd57:5752::1",
  tapMac: "02:57:52:00:00:01",
  tap: "tap0",
  uplink: "eth0",
} as const;

/** Interface numbers in a slot's namespace. Low ones may be taken: some tunnel modules put a device into every namespace. */
export const TAP_INDEX = 1002;
export const UPLINK_INDEX = 1003;

/** Of this host's end: known beforehand, so that all about a link goes into one call. */
export function rootIndex(slot: number): number {
  return 1_000_000 + slot;
}

/** Prefix lengths. */
export const LINK_BITS = 30;
export const LINK_BITS6 = 64;

/** How far IPv6 goes on this host; each without the one before is false. */
export interface Ipv6 {
  /** The kernel has it: a guest gets an answer at least, that there is no way. */
  readonly inside: boolean;
  /** Links to slots have addresses: services of this host can be reached. */
  readonly links: boolean;
  /** This host passes it on: destinations can be reached. */
  readonly forwards: boolean;
}

export const NO_IPV6: Ipv6 = { inside: false, links: false, forwards: false };

export function sameIpv6(one: Ipv6, other: Ipv6): boolean {
  return one.inside === other.inside && one.links === other.links && one.forwards === other.forwards;
}

/** All links between slots and this host are in these, and nothing else of Warren's is. */
export const LINKS = "198.18.0.0/15";
export const LINKS6 = "fd57:5752:1::/48";

export const ROOT_DEVICE = /^wrn(0|[1-9]\d{0,4})$/;

export interface SlotAddresses {
  readonly slot: number;
  /** This host's end of the link: in the root namespace. */
  readonly hostAddress: string;
  readonly hostAddress6: string;
  readonly hostMac: string;
  readonly rootDevice: string;
  /** The other end, in the slot's namespace. */
  readonly slotAddress: string;
  readonly slotAddress6: string;
  readonly slotMac: string;
  readonly uplink: string;
  /** The guest, and the tap that is its gateway and name server. */
  readonly guestAddress: string;
  readonly guestAddress6: string;
  readonly guestMac: string;
  readonly tapAddress: string;
  readonly tapAddress6: string;
  readonly tapMac: string;
  readonly tap: string;
}

/** Locally administered: `57:52` is "WR", then which end it is, then the slot. */
function mac(end: number, slot: number): string {
  const byte = (value: number): string => value.toString(16).padStart(2, "0");
  return `02:57:52:${byte(end)}:${byte(slot >> 8)}:${byte(slot & 255)}`;
}

/** @throws {RangeError} for a number that is no slot's */
export function slotAddresses(slot: number): SlotAddresses {
  if (!Number.isInteger(slot) || slot < 0 || slot >= LIMITS.slots) throw new RangeError(`no slot has number ${slot}`);
  const link = `198.18.${slot >> 6}`;
  const base = (slot & 63) * 4;
  const link6 = slot === 0 ? "fd57:5752:1" : `fd57:5752:1:${slot.toString(16)}`;
  return {
    ...GUEST,
    slot,
    hostAddress: `${link}.${base + 1}`,
    hostAddress6: `${link6}::1`,
    hostMac: mac(0x10, slot),
    rootDevice: `wrn${slot}`,
    slotAddress: `${link}.${base + 2}`,
    slotAddress6: `${link6}::2`,
    slotMac: mac(0x20, slot),
  };
}

/** The slot that an end of a link is of; null for any other address. */
export function slotOfLink(address: string): number | null {
  const parts = /^198\.18\.(\d{1,3})\.(\d{1,3})$/.exec(address);
  if (parts === null) return null;
  const slot = Number(parts[1]) * 64 + (Number(parts[2]) >> 2);
  if (slot >= LIMITS.slots) return null;
  const { hostAddress, slotAddress } = slotAddresses(slot);
  return address === hostAddress || address === slotAddress ? slot : null;
}
