/** The part of DER (X.690) that certificates are written in. */

function length(size: number): number[] {
  if (size < 0x80) return [size];
  const bytes: number[] = [];
  for (let left = size; left > 0; left = Math.floor(left / 256)) bytes.unshift(left % 256);
  return [0x80 | bytes.length, ...bytes];
}

/** Any value: its tag, its length, its content. */
export function tagged(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(content);
  return Buffer.concat([Uint8Array.from([tag, ...length(body.length)]), body]);
}

export const sequence = (...items: readonly Uint8Array[]): Uint8Array => tagged(0x30, ...items);
export const set = (...items: readonly Uint8Array[]): Uint8Array => tagged(0x31, ...items);
export const octets = (...content: readonly Uint8Array[]): Uint8Array => tagged(0x04, ...content);
export const boolean = (value: boolean): Uint8Array => tagged(0x01, Uint8Array.of(value ? 0xff : 0));
export const utf8 = (text: string): Uint8Array => tagged(0x0c, Buffer.from(text));

/** Context-specific: `[n]` around whole values, or in place of a primitive's own tag. */
export const explicit = (n: number, ...content: readonly Uint8Array[]): Uint8Array => tagged(0xa0 | n, ...content);
export const implicit = (n: number, content: Uint8Array): Uint8Array => tagged(0x80 | n, content);

/** Not negative, big-endian, of any length. */
export function integer(bytes: Uint8Array): Uint8Array {
  const first = bytes.findIndex((byte) => byte !== 0);
  const shortest = first < 0 ? Uint8Array.of(0) : bytes.subarray(first);
  return tagged(0x02, (shortest[0] ?? 0) < 0x80 ? shortest : Buffer.concat([Uint8Array.of(0), shortest]));
}

/** `unused`: bits of the last byte that do not count. */
export function bits(content: Uint8Array, unused = 0): Uint8Array {
  return tagged(0x03, Uint8Array.of(unused), content);
}

/** Dotted, as it is written. */
export function oid(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((part) => {
    const groups = [part % 128];
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128)) groups.unshift(128 | (left % 128));
    return groups;
  });
  return tagged(0x06, Uint8Array.from(bytes));
}

/** UTCTime until 2049, GeneralizedTime after it (RFC 5280 4.1.2.5); whole seconds. */
export function time(wallMs: number): Uint8Array {
  const text = new Date(wallMs)
    .toISOString()
    .replace(/\.\d+Z$/, "Z")
    .replaceAll(/[-:T]/g, "");
  return text < "2050" ? tagged(0x17, Buffer.from(text.slice(2))) : tagged(0x18, Buffer.from(text));
}
