/** Names in the tables of nftables, and numbers of its kernel interface (linux/netfilter/nf_tables.h). */

export const TABLE = "warren";

/** Message types, below the subsystem's number. */
export const MSG = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  newRule: 6,
  getRule: 7,
  delRule: 8,
  newSet: 9,
  newElements: 12,
  getElements: 13,
  delElements: 14,
  newObject: 18,
  getObject: 19,
} as const;

export const SUBSYSTEM = 10;
export const FAMILY = { inet: 1, ipv4: 2, arp: 3, ipv6: 10 } as const;
export const HOOK = { prerouting: 0, input: 1, forward: 2, postrouting: 4, arpInput: 0 } as const;
/** Where on a hook: connections are looked up at -200. */
export const PRIORITY = { raw: -300, mangle: -150, dstnat: -100, filter: 0, srcnat: 100 } as const;
export const SET_FLAG = { anonymous: 1, constant: 2, interval: 4, timeout: 16, dynamic: 32 } as const;
export const COUNTER_OBJECT = 1;
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const;

/** What a part of a key is, as `nft` shows it; of 4 bytes each but IPv6 addresses and devices. */
export const KIND = { protocol: 12, port: 13, mark: 19, ipv4: 7, ipv6: 8, device: 41 } as const;
export type Kind = keyof typeof KIND;
const KIND_BYTES: Readonly<Partial<Record<Kind, number>>> = { ipv6: 16, device: 16 };

export function kindBytes(kinds: readonly Kind[]): number {
  return kinds.reduce((sum, kind) => sum + (KIND_BYTES[kind] ?? 4), 0);
}

/**
 * Chains of a slot's table. No name may be a word of nft's language: what it lists could not be read back. Those of
 * the second list depend on the rules and are filled anew with each change.
 */
export const FIXED_CHAINS = [
  "guard",
  "judge",
  "slow",
  "answer",
  "decide",
  "forbidden",
  "names",
  "names_port",
  "rewired",
  "reroute",
  "refuse",
  "note_refused",
  "note_refused_port",
  "note_allowed",
  "note_allowed_port",
  "forward",
  "input",
  "postrouting",
] as const;
/** Filled anew where the limit of open connections is another than before. */
export const CROWD = "crowd";
export const POLICY_CHAINS = [
  "outbound",
  "inbound",
  "fresh",
  "ported",
  "rewired_web",
  "caught",
  "pass",
  "pass_dns",
  "reroute_dns",
  "reroute_web",
] as const;

export const COUNTERS = ["bytes_out", "bytes_in", "opened", "refused", "lost"] as const;
export type Counter = (typeof COUNTERS)[number];

/** Where a family's addresses are in packets, connections and sets. */
export interface Family {
  readonly family: 4 | 6;
  readonly nfproto: number;
  readonly bytes: number;
  readonly kind: Kind;
  /** Offsets in the IP header. */
  readonly source: number;
  readonly destination: number;
  /** Key of `ct` for the address that a connection was first sent to. */
  readonly ctDestination: number;
  readonly admitted: string;
  readonly admittedPorts: string;
  readonly proxied: string;
  readonly tried: { readonly allowed: string; readonly refused: string };
}

function family(v: 4 | 6): Family {
  const six = v === 6;
  return {
    family: v,
    nfproto: six ? FAMILY.ipv6 : FAMILY.ipv4,
    bytes: six ? 16 : 4,
    kind: six ? "ipv6" : "ipv4",
    source: six ? 8 : 12,
    destination: six ? 24 : 16,
    ctDestination: six ? 22 : 20,
    admitted: `admitted${v}`,
    admittedPorts: `ports${v}`,
    proxied: `proxied${v}`,
    tried: { allowed: `allowed${v}`, refused: `refused${v}` },
  };
}

export const FAMILIES: readonly [Family, Family] = [family(4), family(6)];
