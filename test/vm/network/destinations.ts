/** Where a sandbox may want to go, and in which modes it may: the table that the isolation suite holds against a real guest. */
import type { Egress } from "../../../src/contract/routes/network.ts";
import { ECHO_PORT, HOST, OTHER_PORT } from "../../harness/internet.ts";

export type Mode = Egress["mode"];
export type Kind = "tcp" | "udp" | "icmp" | "raw";

interface Destination {
  readonly address: string;
  readonly is: string;
  /** Null: nowhere to be reached, whatever the mode. */
  readonly from: readonly Mode[] | null;
  /** With an allowlist only this port is open. */
  readonly onlyPort?: number;
  /** On no real link does anything answer: there is no control for it. */
  readonly silent?: true;
}

export const LISTED = ["93.184.216.34", "2606:2800:220:1::1"] as const;
export const LISTED_AT_A_PORT = ["93.184.216.35", "2606:2800:220:1::2"] as const;
export const UNLISTED = ["8.8.4.4", "2001:4860:4860::8844"] as const;

/** What the suite's allowlist says. */
export const ALLOW: readonly string[] = [
  ...LISTED,
  `${LISTED_AT_A_PORT[0]}:${ECHO_PORT}`,
  `[${LISTED_AT_A_PORT[1]}]:${ECHO_PORT}`,
];

const never = (is: string, ...addresses: readonly string[]): Destination[] =>
  addresses.map((address) => ({ address, is, from: null }));
const nobody = (is: string, ...addresses: readonly string[]): Destination[] =>
  addresses.map((address) => ({ address, is, from: null, silent: true }));

const PUBLIC: readonly Destination[] = [
  ...LISTED.map((address): Destination => ({ address, is: "listed", from: ["allowlist", "open"] })),
  ...LISTED_AT_A_PORT.map(
    (address): Destination => ({ address, is: "listed at a port", from: ["allowlist", "open"], onlyPort: ECHO_PORT }),
  ),
  ...UNLISTED.map((address): Destination => ({ address, is: "not listed", from: ["open"] })),
];

/** Forbidden ranges, each with an address in it that answers in the test's internet. */
const RESERVED: readonly Destination[] = [
  ...never("private", "10.1.2.3", "172.16.5.5", "172.31.255.254", "192.168.7.7"),
  ...never("carrier's", "100.64.1.1", "100.127.255.254"),
  ...never("metadata", "169.254.169.254", "169.254.170.2"),
  ...never("this network", "0.1.2.3"),
  ...never("protocol assignments", "192.0.0.9"),
  ...never("documentation", "192.0.2.9", "198.51.100.7", "203.0.113.5"),
  ...never("relay", "192.88.99.1"),
  ...never("benchmarks, and our links", "198.19.1.1", "198.18.200.9"),
  ...never("reserved", "240.1.2.3"),
  ...never("metadata", "fd00:ec2::254"),
  ...never("unique local", "fc00::5", "fd12:3456:789a::5"),
  ...never("IPv4 within IPv6", "64:ff9b::a01:203", "2002:a01:203::1", "2001:0:a01:203::1"),
  ...never("discard", "100::5"),
  ...never("documentation", "2001:db8::7", "3fff::7"),
  ...never("unassigned", "4000::1", "e000::1"),
  ...never("site local", "fec0::1"),
];

/** Addresses of this host, and of the links between it and its sandboxes. */
const HOSTS: readonly Destination[] = [...never("host", HOST.public4, HOST.public6, HOST.local4, HOST.local6)];

const NOBODYS: readonly Destination[] = [
  ...nobody("all on the link", "255.255.255.255", "224.0.0.251", "224.0.0.1"),
  ...nobody("gateway", "10.99.0.1", "fd57:5752::1"),
];

/** What the test's internet has to have. */
export const ADDRESSES: readonly string[] = [...PUBLIC, ...RESERVED].map(({ address }) => address);

export interface Target {
  readonly id: string;
  readonly kind: Kind;
  readonly address: string;
  readonly port: number;
}

export interface Cell extends Target {
  readonly destination: Destination;
}

function cell(destination: Destination, kind: Kind, port: number): Cell {
  const { address, is } = destination;
  return { id: `${is} ${kind} ${address} ${port}`, kind, address, port, destination };
}

/** Every destination by every way of trying it. */
export function cells(others: readonly string[] = []): Cell[] {
  const slots = nobody("link of a sandbox", ...others);
  const all = [...PUBLIC, ...RESERVED, ...HOSTS, ...NOBODYS, ...slots].flatMap((destination) => {
    const { address, is } = destination;
    if (address.startsWith("224.") || address.startsWith("255.")) return [cell(destination, "udp", ECHO_PORT)];
    const both = [cell(destination, "tcp", ECHO_PORT), cell(destination, "udp", ECHO_PORT)];
    // Its own gateway may answer a guest's echo request; it is a part of the sandbox.
    if (is === "gateway") return both;
    const other =
      destination.onlyPort === undefined
        ? []
        : [cell(destination, "tcp", OTHER_PORT), cell(destination, "udp", OTHER_PORT)];
    return [...both, ...other, cell(destination, "icmp", 0), cell(destination, "raw", 0)];
  });
  // A sandbox gets so many refusals a second and then silence: what is held to a prompt one goes first.
  return all.sort((a, b) => Number(b.kind === "tcp") - Number(a.kind === "tcp"));
}

/** The expected answer of one cell. */
export function isReached(mode: Mode, { destination, kind, port }: Cell): boolean {
  // Other protocols than TCP, UDP and echo requests are let out in no mode.
  if (kind === "raw") return false;
  if (destination.from === null || !destination.from.includes(mode)) return false;
  if (mode !== "allowlist" || destination.onlyPort === undefined) return true;
  return (kind === "tcp" || kind === "udp") && port === destination.onlyPort;
}
