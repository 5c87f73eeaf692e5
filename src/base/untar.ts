/**
 * Reads a tar stream as hostile input: ustar, GNU long names, pax paths and sizes. Nothing is held but one header and one
 * long name; every length is checked before it is believed. Names stay bytes. What to do with an entry is the caller's
 * decision: this file touches no file system.
 */

import { ByteReader, ShortRead } from "./byte-reader.ts";

const BLOCK = 512;
const SLASH = 47;
/** A long name or pax header beyond this is no honest one (PATH_MAX is 4096). */
const META_BYTES_MAX = 64 * 1024;

export type TarKind = "file" | "directory" | "symlink" | "hardlink" | "other";

export interface TarEntry {
  readonly kind: TarKind;
  /** As it stands in the archive: may be absolute, hold `..`, or be no UTF-8. */
  readonly name: Uint8Array;
  /** Target of a link. */
  readonly link: Uint8Array;
  readonly size: number;
  /** Permission bits, setuid and the like included. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Content; what the caller leaves unread is skipped. */
  readonly body: AsyncIterable<Uint8Array>;
}

export class TarError extends Error {
  override readonly name = "TarError";
}

function untilNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

/** Octal text, or the GNU base-256 form with the top bit set. */
function number(field: Uint8Array, what: string): number {
  if (((field[0] ?? 0) & 0x80) !== 0) {
    let value = BigInt((field[0] ?? 0) & 0x7f);
    for (const byte of field.subarray(1)) value = (value << 8n) | BigInt(byte);
    // Bit 6 of the first byte is the sign; a negative time is before 1970 and of no use here.
    if (((field[0] ?? 0) & 0x40) !== 0 || value > BigInt(Number.MAX_SAFE_INTEGER))
      throw new TarError(`impossible ${what}`);
    return Number(value);
  }
  const text = new TextDecoder("latin1").decode(untilNul(field)).trim();
  if (text === "") return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError(`${what} is no octal number`);
  const value = Number.parseInt(text, 8);
  if (!Number.isSafeInteger(value)) throw new TarError(`impossible ${what}`);
  return value;
}

/** Sum of the header's bytes with the checksum field as spaces; old writers summed signed bytes. */
function checkSum(header: Uint8Array): boolean {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= 148 && i < 156 ? 32 : (header[i] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const told = number(header.subarray(148, 156), "checksum");
  return told === unsigned || told === signed;
}

interface Overrides {
  name?: Uint8Array;
  link?: Uint8Array;
  size?: number;
}

/** pax records: `LENGTH key=value\n`, LENGTH counting all of it. */
function paxRecords(body: Uint8Array, into: Overrides): void {
  let at = 0;
  while (at < body.length && body[at] !== 0) {
    const space = body.indexOf(32, at);
    const length = space < 0 ? Number.NaN : Number(new TextDecoder().decode(body.subarray(at, space)));
    const end = at + length;
    if (!Number.isInteger(length) || length < 5 || end > body.length || space >= end)
      throw new TarError("bad pax record");
    const equals = body.indexOf(61, space);
    if (equals < 0 || equals >= end) throw new TarError("bad pax record");
    const key = new TextDecoder().decode(body.subarray(space + 1, equals));
    const value = body.slice(equals + 1, end - 1);
    if (key === "path") into.name = value;
    if (key === "linkpath") into.link = value;
    if (key === "size") into.size = paxSize(value);
    at = end;
  }
}

function paxSize(value: Uint8Array): number {
  const text = new TextDecoder().decode(value);
  const size = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(size)) throw new TarError("impossible size");
  return size;
}

const KINDS: Readonly<Record<string, TarKind>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "directory",
};

/** A name of more than 100 bytes may be split in two in ustar. */
function headerName(header: Uint8Array): Uint8Array {
  const name = untilNul(header.slice(0, 100));
  const isUstar = new TextDecoder("latin1").decode(header.subarray(257, 263)) === "ustar\0";
  const prefix = untilNul(header.slice(345, 500));
  return isUstar && prefix.length > 0 ? Buffer.concat([prefix, Buffer.from("/"), name]) : name;
}

async function meta(reader: ByteReader, size: number): Promise<Uint8Array> {
  if (size > META_BYTES_MAX) throw new TarError("a name of more than 64 KiB");
  const body = await reader.exact(size);
  if (body === null && size > 0) throw new TarError("the archive ends inside an entry");
  await reader.skip((BLOCK - (size % BLOCK)) % BLOCK);
  return body ?? new Uint8Array(0);
}

/** Takes in what a header says about the next entry; false when the header is an entry of its own. */
async function isAbout(reader: ByteReader, type: string, size: number, next: Overrides): Promise<boolean> {
  if (type === "L") next.name = untilNul(await meta(reader, size));
  else if (type === "K") next.link = untilNul(await meta(reader, size));
  else if (type === "x") paxRecords(await meta(reader, size), next);
  else if (type === "g") await meta(reader, size);
  else return false;
  return true;
}

/** A time that cannot be read is no reason to refuse a file. */
function timeOf(header: Uint8Array): number {
  try {
    return number(header.subarray(136, 148), "time");
  } catch (cause) {
    if (cause instanceof TarError) return 0;
    throw cause;
  }
}

function kindOf(type: string, name: Uint8Array): TarKind {
  const kind = KINDS[type] ?? "other";
  return kind === "file" && name.at(-1) === SLASH ? "directory" : kind;
}

function asTarError(cause: unknown): unknown {
  return cause instanceof ShortRead ? new TarError("the archive ends inside an entry", { cause }) : cause;
}

/** A body that ends too early is told as the archive's damage. */
async function* told(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (cause) {
    throw asTarError(cause);
  }
}

/** The entry of a header, and how to get past what the caller leaves of it. */
function entryOf(reader: ByteReader, header: Uint8Array, type: string, size: number, about: Overrides) {
  const name = about.name ?? headerName(header);
  const kind = kindOf(type, name);
  // As GNU tar has it: a hard link carries nothing, whatever its size field says; anything else may be followed by content.
  const length = kind === "hardlink" ? 0 : (about.size ?? size);
  let left = length;
  const entry: TarEntry = {
    kind,
    name,
    link: about.link ?? untilNul(header.slice(157, 257)),
    size: length,
    mode: number(header.subarray(100, 108), "mode") & 0o7777,
    mtime: timeOf(header),
    body: told(
      reader.pieces(length, (bytes) => {
        left -= bytes;
      }),
    ),
  };
  return { entry, pass: () => reader.skip(left + ((BLOCK - (length % BLOCK)) % BLOCK)) };
}

async function* entries(reader: ByteReader): AsyncGenerator<TarEntry> {
  let about: Overrides = {};
  for (;;) {
    const header = await reader.exact(BLOCK);
    // The end is a block of zeros; what stands behind it is padding. An archive without it is one cut at an entry.
    if (header === null || header.every((byte) => byte === 0)) return;
    if (!checkSum(header)) throw new TarError("a header's checksum does not fit");
    const type = String.fromCharCode(header[156] ?? 0);
    const size = number(header.subarray(124, 136), "size");
    if (await isAbout(reader, type, size, about)) continue;
    const { entry, pass } = entryOf(reader, header, type, size, about);
    yield entry;
    about = {};
    await pass();
  }
}

/**
 * The entries of a tar stream, in order. An entry's body may be read until the next one is asked for.
 * @throws {TarError} – damaged, or lying about its lengths.
 */
export async function* untar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(source);
  try {
    yield* entries(reader);
  } catch (cause) {
    throw asTarError(cause);
  } finally {
    await reader.close();
  }
}
