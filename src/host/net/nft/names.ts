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
  delObject: 20,
} as const;

export const SUBSYSTEM = 10;
export const FAMILY = { inet: 1, ipv4: 2, arp: 3, ipv6: 10 } as const;
export const HOOK = { prerouting: 0, input: 1, forward: 2, postrouting: 4, arpInput: 0 } as const;
/** Where on a hook: connections are looked up at -200. */
export const PRIORITY = { raw: -300, mangle: -150, dstnat: -100, filter: 0, srcnat: 100 } as const;
export const SET_FLAG = { anonymous: 1, constant: 2, interval: 4, timeout: 16, dynamic: 32 } as const;
/** Kinds of named objects. */
export const COUNTER_OBJECT = 1;
export const CONNECTIONS_OBJECT = 5;
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const;

/** Chains of a slot's table. Those of the second group depend on the rules and are filled anew with each change. */
export const FIXED_CHAINS = [
  "guard",
  "judge",
  "slow",
  "reply",
  "decide",
  "forbidden",
  "names",
  "names_port",
  "rewired",
  "redirect",
  "refuse",
  "note_refused",
  "note_refused_port",
  "note_allowed",
  "note_allowed_port",
  "forward",
  "input",
  "postrouting",
] as const;
export const POLICY_CHAINS = [
  "outbound",
  "inbound",
  "fresh",
  "ported",
  "rewired_web",
  "caught",
  "pass",
  "pass_dns",
  "redirect_dns",
  "redirect_web",
] as const;

export const COUNTERS = ["out", "in", "opened", "refused", "lost"] as const;
export type Counter = (typeof COUNTERS)[number];

/** Where a family's addresses are in packets, connections and sets. */
export interface Family {
  readonly family: 4 | 6;
  readonly nfproto: number;
  readonly bytes: number;
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
