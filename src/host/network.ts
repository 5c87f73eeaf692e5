/**
 * The network of one sandbox, as the rest sees it: a namespace with the guest's tap in it, an uplink to this host, and rules
 * about what may leave. One implementation on Linux (`host/net/`), one in memory (`fake.ts`).
 */
import type { AddressRange, IpAddress, PortRange } from "../base/address.ts";

export interface EgressLimits {
  /** Each way; null for none. */
  readonly bytesPerSecond: number | null;
  readonly newConnectionsPerSecond: number;
  /** Open at one time. */
  readonly connections: number;
}

/** What the kernel has to know of a policy; complete, and replaced as a whole. */
export interface EgressRules {
  readonly mode: "none" | "allowlist" | "open";
  /** Destinations of an allowlist, beside those that `admit` opens for a while. `ports` null: all. */
  readonly ranges: readonly { readonly range: AddressRange; readonly ports: PortRange | null }[];
  /** Not counted as forbidden ranges: what the operator's configuration names. */
  readonly exempt: readonly AddressRange[];
  readonly limits: EgressLimits;
  /** Ports on the network's `hostAddress` where its name server (UDP and TCP) and its proxy listen; null for none. */
  readonly dnsPort: number | null;
  readonly proxyPort: number | null;
  /** Which connections to TCP ports 80 and 443 are sent to the proxy: none, those to `proxied` addresses, or all that are allowed. */
  readonly caught: "none" | "named" | "all";
}

/** An address that a name was answered with. */
export interface Admitted {
  readonly address: IpAddress;
  readonly ports: PortRange | null;
  /** How long connections to it may begin, from now; one that is open goes on. */
  readonly seconds: number;
  readonly proxied: boolean;
}

/** Counted since the sandbox had this network. */
export interface NetworkUsage {
  /** IP packets that left the sandbox and that reached it, without what was refused: bytes. */
  readonly bytesOut: number;
  readonly bytesIn: number;
  /** Connections (for UDP and ICMP: flows) that were let through. */
  readonly connections: number;
  /** Packets that were refused. */
  readonly refused: number;
}

/** A destination that was tried: at most one row a destination, verdict and minute. */
export interface Tried {
  readonly atMs: number;
  readonly address: IpAddress;
  readonly protocol: "tcp" | "udp" | "icmp" | "other";
  /** 0 where the protocol has none. */
  readonly port: number;
  readonly verdict: "allowed" | "refused";
}

export interface Network {
  /** Addresses of this host's end of the link, where services for this sandbox alone may listen. Null: no IPv6. */
  readonly hostAddress: string;
  readonly hostAddress6: string | null;
  /** True when IPv6 destinations can be reached from this host's sandboxes. */
  readonly ipv6: boolean;
  /** In one step, without a moment between. Open connections that the new rules do not allow stop. @throws {WarrenError} `driver_failed` */
  apply(rules: EgressRules): void;
  /** Opens addresses for their time, replacing what was said of them. @throws {WarrenError} `driver_failed` */
  admit(list: readonly Admitted[]): void;
  /** Null once it is gone. */
  usage(): NetworkUsage | null;
  /** What was tried since the last call, oldest first, and how many rows had no place. */
  tried(): { readonly rows: readonly Tried[]; readonly lost: number };
}
