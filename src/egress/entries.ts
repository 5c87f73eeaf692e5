/**
 * One entry of an allowlist, between its text and its meaning: a name, a wildcard, an address or a range, with ports or
 * without. Strict: what could be read in two ways is refused with the way to write it.
 */
import { domainToASCII } from "node:url";
import {
  type AddressRange,
  formatAddress,
  type IpAddress,
  type PortRange,
  parseAddress,
  parseRange,
} from "../base/address.ts";
import { FORBIDDEN } from "../base/forbidden.ts";

export interface NameEntry {
  readonly kind: "name";
  /** Lower case, without the `*.` and without a dot at its end. */
  readonly name: string;
  /** All names below `name`, at any depth, and not `name` itself. */
  readonly wildcard: boolean;
  /** Null: all. */
  readonly ports: PortRange | null;
}

export interface RangeEntry {
  readonly kind: "range";
  readonly range: AddressRange;
  readonly ports: PortRange | null;
}

export type Entry = NameEntry | RangeEntry;

/** Why a text is not taken; for the caller. */
export interface Refused {
  readonly kind: "refused";
  readonly why: string;
}

const NAME_CHARS = 253;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
/** Never asked of a public name server: they mean something on one machine or link only, or nothing at all. */
const LOCAL = /(?:^|\.)(?:localhost|local|arpa|onion|invalid)$/;
const PORT = /^[1-9]\d{0,4}$/;
const PORT_MAX = 65_535;
const BITS = { 4: 32, 6: 128 } as const;

const refused = (why: string): Refused => ({ kind: "refused", why });

/** Lower case and without a dot at its end, as names are compared. */
export function plainName(text: string): string {
  return (text.endsWith(".") ? text.slice(0, -1) : text).toLowerCase();
}

/** Null for a name of the public DNS as `plainName` gives it, else why it is none. */
export function nameFault(name: string): string | null {
  if (/[^\x00-\x7f]/.test(name)) {
    const ascii = domainToASCII(name);
    return ascii === "" ? "is no name" : `has letters beyond ASCII: write it as ${ascii}`;
  }
  if (name.length > NAME_CHARS) return `has ${name.length} characters: at most ${NAME_CHARS}`;
  const labels = name.split(".");
  const wrong = labels.find((label) => !LABEL.test(label));
  if (wrong !== undefined)
    return wrong.length > 63
      ? "has a label of more than 63 characters"
      : "is no name: labels of letters, digits, - and _ with dots between";
  if (/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? ""))
    return "ends in a number: addresses are written in full, as 192.0.2.1 or 2001:db8::1";
  if (labels.length < 2) return "has one label: a name as example.com is wanted";
  return LOCAL.test(name) ? "is no name of the public DNS" : null;
}

/** True when every address of `range` is in one of `union`. */
export function coveredBy(range: AddressRange, union: readonly AddressRange[]): boolean {
  const parts = union.filter((part) => part.family === range.family).sort((a, b) => (a.first < b.first ? -1 : 1));
  let next = range.first;
  for (const part of parts) {
    if (part.first > next) return false;
    if (part.last >= next) next = part.last + 1n;
    if (next > range.last) return true;
  }
  return false;
}

function parsePorts(text: string): PortRange | Refused {
  const [from = "", to = from, ...rest] = text.split("-");
  const fits = [from, to].every((port) => PORT.test(port) && Number(port) <= PORT_MAX);
  if (!fits || rest.length > 0)
    return refused(`has port "${text}": a port is a number from 1 to ${PORT_MAX}, or two as 80-90`);
  if (Number(from) > Number(to)) return refused(`has ports ${text}: the first is above the last`);
  return { from: Number(from), to: Number(to) };
}

/** Why a text with a `/` is no range. */
function rangeFault(text: string): string {
  const [base = "", bits = "", ...more] = text.split("/");
  const address = parseAddress(base);
  if (address === null) return "is neither a name nor a range; a range is written as 192.0.2.0/24";
  if (more.length > 0 || !/^(0|[1-9]\d{0,2})$/.test(bits) || Number(bits) > BITS[address.family])
    return `has no prefix of 0 to ${BITS[address.family]} bits`;
  const size = 1n << BigInt(BITS[address.family] - Number(bits));
  const start = formatAddress({ family: address.family, value: address.value - (address.value % size) });
  return `has bits set behind its prefix: the range is ${start}/${bits}`;
}

function rangeEntry(range: AddressRange, ports: PortRange | null, exempt: readonly AddressRange[]): Entry | Refused {
  if (range.family === 6 && range.first >> 32n === 0xffffn)
    return refused("is an IPv4 address inside of IPv6: write it as IPv4");
  if (coveredBy(range, FORBIDDEN) && !coveredBy(range, exempt))
    return refused("is not public: no sandbox may reach it unless this host's operator exempts it");
  return { kind: "range", range, ports };
}

function nameEntry(text: string, ports: PortRange | null): Entry | Refused {
  if (text === "*") return refused("is everything: that is mode open");
  const wildcard = text.startsWith("*.");
  const name = plainName(wildcard ? text.slice(2) : text);
  if (name.includes("*")) return refused("has * in another place than before its first dot");
  if (wildcard && !name.includes(".") && name !== "") return refused("is a whole top-level domain, which is mode open");
  const fault = nameFault(name);
  return fault === null ? { kind: "name", name, wildcard, ports } : refused(fault);
}

function bracketedEntry(host: string, portText: string | undefined, exempt: readonly AddressRange[]): Entry | Refused {
  const ports = portText === undefined ? null : parsePorts(portText);
  if (ports !== null && "kind" in ports) return ports;
  const range = parseRange(host);
  if (range?.family === 6) return rangeEntry(range, ports, exempt);
  const isSix = parseAddress(host.split("/")[0] ?? "")?.family === 6;
  return refused(isSix ? rangeFault(host) : "has no IPv6 address in its brackets");
}

/**
 * The entry that `text` stands for, or why it stands for none. A range that no sandbox may reach is none unless `exempt`
 * covers it; of one that is so in parts, those parts stay closed.
 */
export function parseEntry(text: string, exempt: readonly AddressRange[]): Entry | Refused {
  if (text.includes("://")) return refused("is a URL: only its host is wanted, with :port if needed");
  const bracketed = /^\[([^\]]*)\](\/\d+)?(?::(.*))?$/s.exec(text);
  if (bracketed !== null) {
    const [, inside = "", bits = "", portText] = bracketed;
    return bracketedEntry(inside + bits, portText, exempt);
  }
  const whole = parseRange(text);
  if (whole !== null) return rangeEntry(whole, null, exempt);
  const [host = "", portText, ...more] = text.split(":");
  if (more.length > 0) {
    const unaligned = parseAddress(text.split("/")[0] ?? "") !== null;
    return refused(unaligned ? rangeFault(text) : "is no IPv6 address; with a port it is written as [2001:db8::1]:443");
  }
  const ports = portText === undefined ? null : parsePorts(portText);
  if (ports !== null && "kind" in ports) return ports;
  const range = parseRange(host);
  if (range !== null) return rangeEntry(range, ports, exempt);
  return host.includes("/") ? refused(rangeFault(host)) : nameEntry(host, ports);
}

/** The one way in which an entry is shown; reads back as the same entry. */
export function formatEntry(entry: Entry): string {
  const { ports } = entry;
  const behind = ports === null ? "" : `:${ports.from}${ports.to === ports.from ? "" : `-${ports.to}`}`;
  if (entry.kind === "name") return `${entry.wildcard ? "*." : ""}${entry.name}${behind}`;
  const { family, first, last } = entry.range;
  const bits = BITS[family] - (last - first + 1n).toString(2).length + 1;
  const text = `${formatAddress({ family, value: first })}${bits === BITS[family] ? "" : `/${bits}`}`;
  return family === 6 && ports !== null ? `[${text}]${behind}` : `${text}${behind}`;
}

export function matchesName(entry: NameEntry, name: string): boolean {
  return entry.wildcard ? name.endsWith(`.${entry.name}`) : name === entry.name;
}

export function matchesAddress(entry: RangeEntry, { family, value }: IpAddress): boolean {
  return entry.range.family === family && entry.range.first <= value && value <= entry.range.last;
}

/** True when `ports` holds this one; without a port, always. */
export function holdsPort(ports: PortRange | null, port: number | undefined): boolean {
  return ports === null || port === undefined || (ports.from <= port && port <= ports.to);
}
