/**
 * IP addresses and ranges as numbers, so that every spelling of an address is one value: parsed strictly (no octal, no short
 * forms), printed canonically (RFC 5952).
 */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** Both ends included. */
export interface AddressRange {
  readonly family: 4 | 6;
  readonly first: bigint;
  readonly last: bigint;
}

/** Both ends included, 1–65535. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

const BITS = { 4: 32, 6: 128 } as const;
const MAPPED = 0xffffn << 32n;

function parse4(text: string): bigint | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0n;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    value = (value << 8n) | BigInt(part);
  }
  return value;
}

function groups(text: string): number[] | null {
  if (text === "") return [];
  const parts = text.split(":");
  const all: number[] = [];
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && part.includes(".")) {
      const last = parse4(part);
      if (last === null) return null;
      all.push(Number(last >> 16n), Number(last & 0xffffn));
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) all.push(Number.parseInt(part, 16));
    else return null;
  }
  return all;
}

function parse6(text: string): bigint | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [head, tail] = [groups(halves[0] ?? ""), groups(halves[1] ?? "")];
  if (head === null || tail === null) return null;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  return [...head, ...Array<number>(missing).fill(0), ...tail].reduce((sum, g) => (sum << 16n) | BigInt(g), 0n);
}

/** Null for anything but a whole IPv4 or IPv6 address without a zone. */
export function parseAddress(text: string): IpAddress | null {
  if (text.length > 45) return null;
  const four = parse4(text);
  if (four !== null) return { family: 4, value: four };
  const six = text.includes(":") ? parse6(text) : null;
  return six === null ? null : { family: 6, value: six };
}

/** An IPv4-mapped IPv6 address as the IPv4 one that it stands for; all others as they are. */
export function unmapped(address: IpAddress): IpAddress {
  if (address.family === 4 || address.value >> 32n !== MAPPED >> 32n) return address;
  return { family: 4, value: address.value & 0xffff_ffffn };
}

export function formatAddress({ family, value }: IpAddress): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join(".");
  const all = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn));
  let [at, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && all[end] === 0) end++;
    if (end - i > length) [at, length] = [i, end - i];
  }
  const text = (part: readonly number[]) => part.map((g) => g.toString(16)).join(":");
  return at < 0 ? text(all) : `${text(all.slice(0, at))}::${text(all.slice(at + length))}`;
}

/** `address/bits`, or one address. Null when it is neither, or has bits set behind its prefix. */
export function parseRange(text: string): AddressRange | null {
  const [base, bits, ...rest] = text.split("/");
  const address = parseAddress(base ?? "");
  if (address === null || rest.length > 0) return null;
  const { family, value } = address;
  if (bits === undefined) return { family, first: value, last: value };
  if (!/^(0|[1-9]\d{0,2})$/.test(bits) || Number(bits) > BITS[family]) return null;
  const size = 1n << BigInt(BITS[family] - Number(bits));
  return value % size === 0n ? { family, first: value, last: value + size - 1n } : null;
}

/** Network byte order, 4 or 16 bytes. */
export function addressBytes({ family, value }: IpAddress): Uint8Array {
  const length = BITS[family] / 8;
  return Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * (length - 1 - i))) & 255n));
}

/** @throws {TypeError} for another length than 4 or 16 */
export function addressFrom(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16) throw new TypeError(`no address has ${bytes.length} bytes`);
  const value = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return { family: bytes.length === 4 ? 4 : 6, value };
}

export function contains(range: AddressRange, address: IpAddress): boolean {
  return range.family === address.family && range.first <= address.value && address.value <= range.last;
}
