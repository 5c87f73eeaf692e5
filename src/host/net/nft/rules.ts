/**
 * A policy as rules: what an `EgressRules` says, in the chains of a slot's table that are filled anew with each change.
 * All of it is judged by the address that the connection was first sent to, so the same rules hold for its replies.
 */
import { type AddressRange, addressBytes, type PortRange } from "../../../base/address.ts";
import type { EgressRules } from "../../network.ts";
import { Attributes } from "../answer.ts";
import { type Netlink, NLM_F_DUMP } from "../message.ts";
import type { SlotAddresses } from "../plan.ts";
import { Batch, GROUP, sealOf, tableMessage } from "./batch.ts";
import * as x from "./expressions.ts";
import { GRACE_KEY, GRACE_MS, ownBytes, refuseForbidden, WORKING } from "./fixed.ts";
import { merged } from "./intervals.ts";
import { CROWD, FAMILIES, type Family, MSG, POLICY_CHAINS, PROTOCOL, TABLE } from "./names.ts";

/** Everything that one change is made of. */
interface Change {
  readonly batch: Batch;
  readonly rules: EgressRules;
  readonly at: SlotAddresses;
  readonly generation: number;
}

const HTTPS = 443;
/** The kernel's bucket holds a second's worth; on top of it what a few of the largest offloaded packets need. */
const BURST_BYTES = 256 * 1024;

/** What has passed before under these rules goes on. */
function addFast({ batch, rules, generation }: Change): void {
  const { bytesPerSecond } = rules.limits;
  if (bytesPerSecond !== null) {
    for (const chain of ["outbound", "inbound"])
      batch.rule(chain, x.over("bytes", bytesPerSecond, BURST_BYTES), x.DROP);
  }
  batch.rule("outbound", x.mark(generation), x.state(WORKING), x.ACCEPT);
  batch.rule("outbound", x.goto("slow"));
  batch.rule("inbound", x.mark(generation), x.state(x.STATE.established | x.STATE.related), x.ACCEPT);
  batch.rule("inbound", x.goto("answer"));
}

function addDns({ batch, rules, at, generation }: Change): void {
  const [v4] = FAMILIES;
  const { dnsPort, limits } = rules;
  if (dnsPort !== null) {
    batch.rule("reroute_dns", x.redirect(v4, ownBytes(at.hostAddress), dnsPort));
    const perSecond = limits.newConnectionsPerSecond;
    batch.rule("pass_dns", x.notMark(0), x.answeredBy(dnsPort), x.setMark(generation), x.ACCEPT);
    // Open under older rules and answered by another port than now: its program asks again.
    batch.rule("pass_dns", x.notMark(0), x.goto("refuse"));
    batch.rule("pass_dns", x.over("packets", perSecond, perSecond), x.goto("refuse"));
    batch.rule("pass_dns", x.count("opened"), x.setMark(generation), x.ACCEPT);
  }
  batch.rule("pass_dns", x.goto("refuse"));
}

/** Which connections the proxy is to have; one that is open keeps its way, and where that would be another now it may not go on. */
function addProxy({ batch, rules, at }: Change): void {
  const { caught, proxyPort } = rules;
  if (caught !== "none" && proxyPort !== null) {
    const named = caught === "named";
    for (const f of FAMILIES) {
      const host = ownBytes(f.family === 4 ? at.hostAddress : at.hostAddress6);
      const packet = named ? [x.payload("network", f.destination, f.bytes), x.lookup(f.proxied)] : [];
      batch.rule("reroute_web", x.ofFamily(f), packet, x.redirect(f, host, proxyPort));
      batch.rule("rewired_web", x.loadDestination(f), named ? x.lookup(f.proxied) : [], x.goto("caught"));
    }
    batch.rule("caught", x.translated(true), x.answeredBy(proxyPort), x.RETURN);
    batch.rule("caught", x.goto("refuse"));
  }
  batch.rule("rewired_web", x.translated(true), x.goto("refuse"));
  batch.rule("fresh", x.notMark(0), x.jump("rewired"));
}

interface Group {
  readonly ports: PortRange | null;
  readonly ranges: AddressRange[];
}

/** Ranges by the ports that are open in them. */
function byPorts(rules: EgressRules): Group[] {
  const groups = new Map<string, Group>();
  for (const { range, ports } of rules.ranges) {
    const key = ports === null ? "all" : `${ports.from}-${ports.to}`;
    const group = groups.get(key) ?? { ports, ranges: [] };
    group.ranges.push(range);
    groups.set(key, group);
  }
  return [...groups.values()];
}

function sentInto(batch: Batch, f: Family, ranges: readonly AddressRange[]): x.Expression[] {
  const [only, second] = ranges;
  if (only === undefined) return [];
  const bytes = (value: bigint): Uint8Array => addressBytes({ family: f.family, value });
  if (second === undefined) return x.sentBetween(f, bytes(only.first), bytes(only.last));
  return [x.loadDestination(f), x.lookup(...batch.ranges(f, ranges))];
}

/**
 * Ranges with ports are a set for each range of ports, not one of addresses and ports together: those may overlap
 * each other, which the kernel's sets of two intervals refuse.
 */
function addAllowlist({ batch, rules }: Change): void {
  for (const f of FAMILIES) {
    for (const { ports, ranges } of byPorts(rules)) {
      const match = sentInto(batch, f, merged(ranges, f.family));
      if (match.length === 0) continue;
      if (ports === null) batch.rule("fresh", match, x.goto("pass"));
      else batch.rule("ported", x.sentToPorts(ports), match, x.goto("pass"));
    }
    batch.rule("fresh", x.icmp(f), x.jump("names"));
  }
  for (const number of [PROTOCOL.tcp, PROTOCOL.udp]) batch.rule("fresh", x.protocol(number), x.goto("ported"));
  batch.rule("ported", x.jump("names"));
  batch.rule("ported", x.jump("names_port"));
  batch.rule("ported", x.goto("refuse"));
}

/** The judgement: forbidden ranges first in every mode, then what the mode allows. */
function addFresh(change: Change): void {
  const { batch, rules } = change;
  if (rules.exempt.length === 0) batch.rule("fresh", x.jump("forbidden"));
  else refuseForbidden(batch, "fresh", rules.exempt);
  // Others have no ports and no echo by which a list could tell them apart, and are let through in no mode.
  const others = [PROTOCOL.tcp, PROTOCOL.udp, PROTOCOL.icmp, PROTOCOL.icmp6].map((known) =>
    x.differs(Uint8Array.of(known)),
  );
  batch.rule("fresh", x.loadProtocol(x.R), others, x.goto("refuse"));
  addProxy(change);
  // HTTP/3 would go past the proxy that is to read its names; its programs fall back to TCP.
  if (rules.caught === "all") batch.rule("fresh", x.protocol(PROTOCOL.udp), x.sentToPort(HTTPS), x.goto("refuse"));
  if (rules.mode === "allowlist") addAllowlist(change);
  if (rules.mode === "open") {
    for (const number of [PROTOCOL.tcp, PROTOCOL.udp]) batch.rule("fresh", x.protocol(number), x.goto("pass"));
    for (const f of FAMILIES) batch.rule("fresh", x.icmp(f), x.goto("pass"));
  }
  batch.rule("fresh", x.goto("refuse"));
}

/**
 * How many connections may be open, in a rule that knows those that came by it: it stays, as long as the number does.
 * @returns what is in force; null for none yet
 */
function crowdLimit(nl: Netlink): number | null {
  tableMessage(nl, "read the limit", MSG.getRule, NLM_F_DUMP).attrText(1, TABLE).attrText(2, CROWD).end();
  const rules = nl.dump().map(({ body }) => new Attributes(body, 4));
  const found = rules.filter((of) => of.text(1) === TABLE && of.text(2) === CROWD).map((of) => sealOf(of.bytes(7)));
  const [first, second] = found;
  return second === undefined && first?.group === GROUP.crowd ? first.note : null;
}

/** Limits count what would be allowed; what is refused anyway does not use them up. */
function addPass({ batch, rules, generation }: Change): void {
  const { newConnectionsPerSecond: perSecond } = rules.limits;
  batch.rule("pass", x.mark(0), x.over("packets", perSecond, perSecond), x.goto("refuse"));
  batch.rule("pass", x.jump(CROWD));
  batch.rule("pass", x.mark(0), x.count("opened"), x.jump("note_allowed"));
  batch.rule("pass", x.setMark(generation), x.ACCEPT);
}

/**
 * Puts a policy in force, in one step: the sets of admitted addresses are empty from then on, until `admitInto`. Counters and
 * what was tried stay. A connection that is open is judged by the new rules at its next packet, whichever way that goes; one
 * that they do not allow stands still, and is reset at its next packet after `GRACE_MS`. Where the limit of open connections is
 * another than before, those that are open already need not count.
 * @param generation another one than the last, 1 to 2^32 - 1: what marks connections that these rules let through
 * @throws {NativeError} `ENOENT` – there is no table: `resetTable` first
 */
export function installRules(nl: Netlink, rules: EgressRules, at: SlotAddresses, generation: number): void {
  if (!Number.isInteger(generation) || generation < 1 || generation > 0xffff_ffff) {
    throw new RangeError(`no generation: ${generation}`);
  }
  const { connections } = rules.limits;
  const crowded = crowdLimit(nl) === connections;
  const batch = new Batch(nl);
  for (const chain of POLICY_CHAINS) batch.clear(chain);
  for (const f of FAMILIES) for (const set of [f.admitted, f.admittedPorts, f.proxied]) batch.empty(set);
  batch.renew("grace", [{ key: GRACE_KEY, timeoutMs: GRACE_MS }]);
  if (!crowded) {
    batch.clear(CROWD);
    batch.group(GROUP.crowd, connections);
    batch.rule(CROWD, x.moreThan(connections), x.goto("refuse"));
  }
  batch.group(GROUP.policy);
  const change = { batch, rules, at, generation };
  addFast(change);
  addDns(change);
  addFresh(change);
  addPass(change);
  batch.commit();
}
