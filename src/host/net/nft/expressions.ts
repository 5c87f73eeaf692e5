/**
 * The expressions of nftables' rules that are used here, each as what it writes into a rule. They work on registers of 4
 * bytes, numbered from 8; a longer value takes as many as it needs. What does not match ends its rule.
 */
import type { PortRange } from "../../../base/address.ts";
import type { Netlink } from "../message.ts";
import { COUNTER_OBJECT, type Family, PROTOCOL } from "./names.ts";

export type Expression = (nl: Netlink) => void;

/** The first register, used where nothing else is said. */
export const R = 8;

function expression(name: string, fill: (nl: Netlink) => void): Expression {
  return (nl) =>
    nl.nest(1, () => {
      nl.attrText(1, name);
      nl.nest(2, () => fill(nl));
    });
}

export function be16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 255);
}

/** A number of 32 bits as the host has it in memory. */
export function host32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** An interface's name as a key: 16 bytes. */
export function deviceName(name: string): Uint8Array {
  const out = new Uint8Array(16);
  new TextEncoder().encodeInto(name, out.subarray(0, 15));
  return out;
}

const META = { iifname: 6, oifname: 7, nfproto: 15, l4proto: 16 } as const;
function meta(key: number, to: number): Expression {
  return expression("meta", (nl) => nl.attrBe32(1, to).attrBe32(2, key));
}

function compare(op: 0 | 1, bytes: Uint8Array, from = R): Expression {
  return expression("cmp", (nl) =>
    nl
      .attrBe32(1, from)
      .attrBe32(2, op)
      .nest(3, () => nl.attrBytes(1, bytes)),
  );
}

export function equals(bytes: Uint8Array): Expression {
  return compare(0, bytes);
}

export function differs(bytes: Uint8Array): Expression {
  return compare(1, bytes);
}

function inRange(from: Uint8Array, to: Uint8Array): Expression {
  return expression("range", (nl) => {
    nl.attrBe32(1, R).attrBe32(2, 0);
    nl.nest(3, () => nl.attrBytes(1, from)).nest(4, () => nl.attrBytes(1, to));
  });
}

const PAYLOAD = { link: 0, network: 1, transport: 2 } as const;
export function payload(base: keyof typeof PAYLOAD, offset: number, length: number, to = R): Expression {
  return expression("payload", (nl) =>
    nl.attrBe32(1, to).attrBe32(2, PAYLOAD[base]).attrBe32(3, offset).attrBe32(4, length),
  );
}

/** register = register & mask ^ flip */
export function bitwise(mask: Uint8Array, flip: Uint8Array, at = R): Expression {
  return expression("bitwise", (nl) => {
    nl.attrBe32(1, at).attrBe32(2, at).attrBe32(3, mask.length);
    nl.nest(4, () => nl.attrBytes(1, mask)).nest(5, () => nl.attrBytes(1, flip));
  });
}

export function immediate(bytes: Uint8Array, to = R): Expression {
  return expression("immediate", (nl) => nl.attrBe32(1, to).nest(2, () => nl.attrBytes(1, bytes)));
}

/** Devices. A name that ends in `*` stands for all that begin so. */
function device(key: number, name: string, op: 0 | 1): Expression[] {
  const bytes = name.endsWith("*") ? new TextEncoder().encode(name.slice(0, -1)) : deviceName(name);
  return [meta(key, R), compare(op, bytes)];
}

export function from(name: string): Expression[] {
  return device(META.iifname, name, 0);
}

export function notFrom(name: string): Expression[] {
  return device(META.iifname, name, 1);
}

export function towards(name: string): Expression[] {
  return device(META.oifname, name, 0);
}

export function notTowards(name: string): Expression[] {
  return device(META.oifname, name, 1);
}

export function loadDevice(to = R): Expression {
  return meta(META.iifname, to);
}

export function loadProtocol(to: number): Expression {
  return meta(META.l4proto, to);
}

export function ofFamily(f: Family): Expression[] {
  return [meta(META.nfproto, R), equals(Uint8Array.of(f.nfproto))];
}

export function protocol(number: number): Expression[] {
  return [meta(META.l4proto, R), equals(Uint8Array.of(number))];
}

/** ICMP of the family it belongs to. */
export function icmp(f: Family): Expression[] {
  return [...ofFamily(f), ...protocol(f.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmp6)];
}

export function icmpType(f: Family, op: 0 | 1, type: number): Expression[] {
  return [...icmp(f), payload("transport", 0, 1), compare(op, Uint8Array.of(type))];
}

export function icmp6Types(f: Family, first: number, last: number): Expression[] {
  return [...icmp(f), payload("transport", 0, 1), inRange(Uint8Array.of(first), Uint8Array.of(last))];
}

/** The packet's source. */
export function sourceBetween(f: Family, first: Uint8Array, last: Uint8Array): Expression[] {
  return [payload("network", f.source, f.bytes), inRange(first, last)];
}

/** Destination port of the packet. */
export function port(number: number): Expression[] {
  return [payload("transport", 2, 2), equals(be16(number))];
}

const CT = { state: 0, status: 2, mark: 3, protoSource: 11, protoDestination: 12 } as const;
/** States of connections. */
export const STATE = { invalid: 1, established: 2, related: 4, new: 8 } as const;
const DST_NAT = 1 << 5;

function ct(key: number, direction: 0 | 1 | null = null, to = R): Expression {
  return expression("ct", (nl) => {
    nl.attrBe32(1, to).attrBe32(2, key);
    if (direction !== null) nl.attr8(3, direction);
  });
}

function masked(bits: number, op: 0 | 1): Expression[] {
  return [bitwise(host32(bits), host32(0)), compare(op, host32(0))];
}

/** One of these states. */
export function state(bits: number): Expression[] {
  return [ct(CT.state), ...masked(bits, 1)];
}

export function notState(bits: number): Expression[] {
  return [ct(CT.state), ...masked(bits, 0)];
}

export function mark(value: number): Expression[] {
  return [ct(CT.mark), equals(host32(value))];
}

export function notMark(value: number): Expression[] {
  return [ct(CT.mark), differs(host32(value))];
}

export function setMark(value: number): Expression[] {
  return [immediate(host32(value)), expression("ct", (nl) => nl.attrBe32(2, CT.mark).attrBe32(4, R))];
}

/** Whether the connection's destination was changed. */
export function translated(is: boolean): Expression[] {
  return [ct(CT.status), ...masked(DST_NAT, is ? 1 : 0)];
}

/** The port of this host that answers, after translation. */
export function answeredBy(number: number): Expression[] {
  return [ct(CT.protoSource, 1), equals(be16(number))];
}

/** Where the connection was first sent to, whichever way this packet goes. Only of one family: else no match. */
export function loadDestination(f: Family, to = R): Expression {
  return ct(f.ctDestination, 0, to);
}

export function loadPort(to = R): Expression {
  return ct(CT.protoDestination, 0, to);
}

export function sentToPort(number: number): Expression[] {
  return [loadPort(), equals(be16(number))];
}

export function sentToPorts({ from: first, to: last }: PortRange): Expression[] {
  return first === last ? sentToPort(first) : [loadPort(), inRange(be16(first), be16(last))];
}

export function sentBetween(f: Family, first: Uint8Array, last: Uint8Array): Expression[] {
  return [loadDestination(f), first.every((byte, i) => byte === last[i]) ? equals(first) : inRange(first, last)];
}

/** @param id of a set without a name that is made in the same batch */
export function lookup(set: string, id: number | null = null, inverted = false): Expression {
  return expression("lookup", (nl) => {
    nl.attrText(1, set).attrBe32(2, R);
    if (id !== null) nl.attrBe32(4, id);
    if (inverted) nl.attrBe32(5, 1);
  });
}

/** Puts the key into a set; no match when the set is full. What is there keeps its time. */
export function remember(set: string): Expression {
  return expression("dynset", (nl) => nl.attrText(1, set).attrBe32(3, 0).attrBe32(4, R));
}

/** Matches what is over the rate. */
export function over(unit: "packets" | "bytes", perSecond: number, burst: number): Expression {
  return expression("limit", (nl) =>
    nl
      .attrBe64(1, BigInt(perSecond))
      .attrBe64(2, 1n)
      .attrBe32(3, burst)
      .attrBe32(4, unit === "bytes" ? 1 : 0)
      .attrBe32(5, 1),
  );
}

/** Matches when more connections than this are open, of those that came by here. */
export function moreThan(connections: number): Expression {
  return expression("connlimit", (nl) => nl.attrBe32(1, connections).attrBe32(2, 1));
}

export function count(counter: string): Expression {
  return expression("objref", (nl) => nl.attrBe32(1, COUNTER_OBJECT).attrText(2, counter));
}

/** True where the packet's destination is an address of the very device that it came in by. */
export function toOwnAddress(): Expression[] {
  const RESULT_ADDRTYPE = 3;
  const [DADDR, IIF, RTN_LOCAL] = [2, 8, 2];
  return [
    expression("fib", (nl) =>
      nl
        .attrBe32(1, R)
        .attrBe32(2, RESULT_ADDRTYPE)
        .attrBe32(3, DADDR | IIF),
    ),
    equals(host32(RTN_LOCAL)),
  ];
}

function verdict(code: number, chain?: string): Expression {
  return expression("immediate", (nl) =>
    nl.attrBe32(1, 0).nest(2, () =>
      nl.nest(2, () => {
        nl.attrBe32(1, code >>> 0);
        if (chain !== undefined) nl.attrText(2, chain);
      }),
    ),
  );
}

export const DROP = verdict(0);
export const ACCEPT = verdict(1);
export const RETURN = verdict(-5);

export function jump(chain: string): Expression {
  return verdict(-3, chain);
}

export function goto(chain: string): Expression {
  return verdict(-4, chain);
}

export const MASQUERADE = expression("masq", () => undefined);

/** To another address and port. */
export function redirect(f: Family, address: Uint8Array, toPort: number): Expression[] {
  const portAt = R + 4;
  return [
    immediate(address),
    immediate(be16(toPort), portAt),
    expression("nat", (nl) => nl.attrBe32(1, 1).attrBe32(2, f.nfproto).attrBe32(3, R).attrBe32(5, portAt)),
  ];
}

const [REJECT_RESET, REJECT_ANY_FAMILY, ADMIN_PROHIBITED] = [1, 2, 3];
/** Only after a match of TCP. */
export const RESET = expression("reject", (nl) => nl.attrBe32(1, REJECT_RESET).attr8(2, 0));
export const PROHIBITED = expression("reject", (nl) => nl.attrBe32(1, REJECT_ANY_FAMILY).attr8(2, ADMIN_PROHIBITED));
