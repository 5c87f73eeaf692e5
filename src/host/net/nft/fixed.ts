/**
 * The rules of a slot's table that no policy changes: who may send at all, where each question is decided, how a refusal looks,
 * and what is written down. The longer part, so that a change of policy is short.
 */
import { type AddressRange, addressBytes, parseAddress, parseRange } from "../../../base/address.ts";
import { FORBIDDEN } from "../../../base/forbidden.ts";
import { LINKS, LINKS6, type SlotAddresses } from "../plan.ts";
import type { Batch } from "./batch.ts";
import * as x from "./expressions.ts";
import { difference, merged, PORT_BITS } from "./intervals.ts";
import { FAMILIES, FAMILY, type Family, PROTOCOL } from "./names.ts";

/** A refusal is answered, until there are more than this: then it is silent. */
const ANSWERS_PER_SECOND = 100;
/** For so long after a change, connections that the new rules do not allow stand still before they are reset: `admit` may follow. */
export const GRACE_MS = 250;
export const GRACE_KEY = Uint8Array.of(1, 0, 0, 0);

/** @throws {TypeError} for what is no address: of this program's own plan */
export function ownBytes(text: string): Uint8Array {
  const address = parseAddress(text);
  if (address === null) throw new TypeError(`no address: ${text}`);
  return addressBytes(address);
}

function mac(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

/** Neighbour discovery and what a guest's kernel says of itself on a link: needs no answer, and is no attempt at anything. */
function linkChatter(batch: Batch, v4: Family, v6: Family): void {
  const [IGMP, MULTICAST_REPORT] = [2, 143];
  batch.rule("guard", x.ofFamily(v4), x.protocol(IGMP), x.DROP);
  batch.rule("guard", x.icmp6Types(v6, 130, 137), x.DROP);
  batch.rule("guard", x.icmpType(v6, 0, MULTICAST_REPORT), x.DROP);
}

function addGuard(batch: Batch, at: SlotAddresses): void {
  const [v4, v6] = FAMILIES;
  batch.rule("guard", x.notFrom(at.tap), x.ACCEPT);
  batch.rule("guard", x.payload("link", 6, 6), x.differs(mac(at.guestMac)), x.count("refused"), x.DROP);
  linkChatter(batch, v4, v6);
  for (const [f, address] of [
    [v4, at.guestAddress],
    [v6, at.guestAddress6],
  ] as const) {
    const source = x.payload("network", f.source, f.bytes);
    batch.rule("guard", x.ofFamily(f), source, x.equals(ownBytes(address)), x.ACCEPT);
  }
  batch.rule("guard", x.count("refused"), x.DROP);
}

/**
 * The kernel's list of neighbours is one for the whole host, and would take any sender's claim: a guest may ask with its own
 * address alone, which is known for good.
 */
function addArp(batch: Batch, at: SlotAddresses): void {
  const [HARDWARE, SENDER] = [8, 14];
  batch.inFamily(FAMILY.arp, () => {
    batch.rule("neighbours", x.notFrom(at.tap), x.ACCEPT);
    batch.rule(
      "neighbours",
      [x.payload("network", HARDWARE, 6), x.equals(mac(at.guestMac))],
      [x.payload("network", SENDER, 4), x.equals(ownBytes(at.guestAddress))],
      x.ACCEPT,
    );
    batch.rule("neighbours", x.DROP);
  });
}

/** What was tried: destination, protocol and port of the guest's packet, in this order in three to six registers. */
function addNotes(batch: Batch, verdict: "allowed" | "refused"): void {
  const [plain, withPort] = [`note_${verdict}`, `note_${verdict}_port`];
  for (const number of [PROTOCOL.tcp, PROTOCOL.udp]) batch.rule(plain, x.protocol(number), x.goto(withPort));
  for (const chain of [plain, withPort]) {
    for (const f of FAMILIES) {
      const after = x.R + f.bytes / 4;
      batch.rule(
        chain,
        x.ofFamily(f),
        x.payload("network", f.destination, f.bytes),
        x.loadProtocol(after),
        chain === plain ? x.immediate(new Uint8Array(4), after + 1) : x.payload("transport", 2, 2, after + 1),
        x.remember(f.tried[verdict]),
        x.RETURN,
      );
    }
    batch.rule(chain, x.count("lost"));
  }
}

function addRefusal(batch: Batch, at: SlotAddresses): void {
  const rule = (...parts: readonly (x.Expression | readonly x.Expression[])[]): void => batch.rule("refuse", ...parts);
  rule(x.count("refused"));
  rule(x.notFrom(at.tap), x.DROP);
  rule(x.notMark(0), x.immediate(GRACE_KEY), x.lookup("grace"), x.DROP);
  rule(x.jump("note_refused"));
  rule(x.over("packets", ANSWERS_PER_SECOND, ANSWERS_PER_SECOND), x.DROP);
  rule(x.protocol(PROTOCOL.tcp), x.RESET);
  rule(x.PROHIBITED);
}

/** Kinds of ICMP. */
const ECHO = { 4: 8, 6: 128 } as const;
const [SOLICIT, ADVERTISE] = [135, 136];
const [HTTP, HTTPS, DNS] = [80, 443, 53];
export const WORKING = x.STATE.new | x.STATE.established;

/** What has not passed before under the rules as they are; ends in `fresh` or sooner. */
function addSlow(batch: Batch, at: SlotAddresses): void {
  const [v4, v6] = FAMILIES;
  // From the guest: errors and other kinds of ICMP than echo stop here. Errors are about what has come, not attempts.
  batch.rule("slow", x.state(x.STATE.related), x.DROP);
  batch.rule("slow", x.notState(WORKING), x.count("refused"), x.DROP);
  for (const f of FAMILIES) batch.rule("slow", x.icmpType(f, 1, ECHO[f.family]), x.count("refused"), x.DROP);
  batch.rule("slow", x.goto("decide"));
  // Towards it: nothing begins here. A reply under older rules is judged as its connection would be.
  batch.rule("answer", x.state(x.STATE.established), x.notMark(0), x.goto("decide"));
  batch.rule("answer", x.icmp6Types(v6, SOLICIT, ADVERTISE), x.ACCEPT); // for `input`: a neighbour asks
  batch.rule("answer", x.DROP);
  for (const number of [PROTOCOL.udp, PROTOCOL.tcp]) {
    const destination = [x.loadDestination(v4), x.equals(ownBytes(at.tapAddress))];
    batch.rule("decide", destination, x.protocol(number), x.sentToPort(DNS), x.goto("pass_dns"));
  }
  batch.rule("decide", x.goto("fresh"));
}

/** Never reached whatever is exempt: the links themselves, with services of this host and other sandboxes behind them. */
const OWN_RANGES = [LINKS, LINKS6, "10.99.0.0/30", "fd57:5752::/64"].map((text) => parseRange(text) as AddressRange);

/** Refuses what is forbidden, by look-ups in sets that go with these rules. */
export function refuseForbidden(batch: Batch, chain: string, exempt: readonly AddressRange[]): void {
  for (const f of FAMILIES) {
    const forbidden = merged([...difference(FORBIDDEN, exempt, f.family), ...OWN_RANGES], f.family);
    batch.rule(chain, x.loadDestination(f), x.lookup(...batch.ranges(f, forbidden)), x.goto("refuse"));
  }
}

/** First packets that go elsewhere than they were sent: names to the name server, and what the proxy is to have. */
function addRedirections(batch: Batch, at: SlotAddresses): void {
  const [v4] = FAMILIES;
  batch.rule("reroute", x.notFrom(at.tap), x.ACCEPT);
  for (const number of [PROTOCOL.udp, PROTOCOL.tcp]) {
    const packet = [x.payload("network", v4.destination, v4.bytes), x.equals(ownBytes(at.tapAddress))];
    batch.rule("reroute", x.ofFamily(v4), packet, x.protocol(number), x.port(DNS), x.goto("reroute_dns"));
  }
  for (const number of [HTTP, HTTPS]) {
    batch.rule("reroute", x.protocol(PROTOCOL.tcp), x.port(number), x.goto("reroute_web"));
    batch.rule("rewired", x.protocol(PROTOCOL.tcp), x.sentToPort(number), x.goto("rewired_web"));
  }
  batch.rule("rewired", x.translated(true), x.goto("refuse"));
}

/** Addresses that `admitInto` has opened. */
function addNames(batch: Batch): void {
  for (const f of FAMILIES) {
    batch.rule("names", x.loadDestination(f), x.lookup(f.admitted), x.goto("pass"));
    for (const bits of PORT_BITS) {
      const [mask, after] = [0xffff << bits, x.R + f.bytes / 4];
      batch.rule(
        "names_port",
        x.loadDestination(f),
        x.loadPort(after),
        x.bitwise(Uint8Array.of(mask >> 8, mask, 0, 0), Uint8Array.of(0, 0, bits, 0), after),
        x.lookup(f.admittedPorts),
        x.goto("pass"),
      );
    }
  }
}

export function addFixed(batch: Batch, at: SlotAddresses): void {
  const [, v6] = FAMILIES;
  addArp(batch, at);
  addGuard(batch, at);
  batch.rule("judge", x.from(at.tap), x.goto("outbound"));
  batch.rule("judge", x.from(at.uplink), x.goto("inbound"));
  batch.rule("judge", x.from("lo"), x.ACCEPT);
  batch.rule("judge", x.DROP);
  addSlow(batch, at);
  refuseForbidden(batch, "forbidden", []);
  addNames(batch);
  addRedirections(batch, at);
  addNotes(batch, "allowed");
  addNotes(batch, "refused");
  addRefusal(batch, at);
  batch.rule("forward", x.from(at.tap), x.towards(at.uplink), x.count("bytes_out"), x.ACCEPT);
  batch.rule("forward", x.from(at.uplink), x.towards(at.tap), x.count("bytes_in"), x.ACCEPT);
  batch.rule("forward", x.DROP);
  batch.rule("input", x.from("lo"), x.ACCEPT);
  batch.rule("input", x.from(at.uplink), x.icmp6Types(v6, SOLICIT, ADVERTISE), x.ACCEPT);
  batch.rule("input", x.DROP);
  batch.rule("postrouting", x.towards(at.uplink), x.MASQUERADE);
}
