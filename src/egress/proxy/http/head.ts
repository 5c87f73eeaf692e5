/**
 * Heads of HTTP/1.1 messages (RFC 9112), read strictly: whatever two parsers could read in two ways is refused. Bytes are held
 * as latin-1, so that they are written as they came.
 */
import { BOUNDS } from "../bounds.ts";

export interface Field {
  readonly name: string;
  readonly value: string;
}

export interface RequestHead {
  readonly method: string;
  readonly target: string;
  /** Of HTTP/1.x. */
  readonly minor: 0 | 1;
  readonly fields: readonly Field[];
}

export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly minor: 0 | 1;
  readonly fields: readonly Field[];
}

export interface Bad {
  readonly kind: "bad";
  readonly reason: string;
}
export type Parsed<T> = { readonly kind: "head"; readonly head: T } | Bad;

export const bad = (reason: string): Bad => ({ kind: "bad", reason });

/** Where a head is over. `from`: what was looked through before. */
export type HeadEnd = { readonly kind: "end"; readonly bytes: number } | { readonly kind: "more" } | Bad;

const [CR, LF] = [13, 10];

/** Sees at once what no later byte can heal: a line feed or carriage return of its own, a head that is too long. */
export function findHeadEnd(bytes: Uint8Array, from = 0): HeadEnd {
  for (let at = Math.max(0, from - 3); at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === LF) {
      if (bytes[at - 1] !== CR) return bad("a line ends without a carriage return");
      if (at + 1 > BOUNDS.headBytes) break;
      if (bytes[at - 2] === LF && bytes[at - 3] === CR) return { kind: "end", bytes: at + 1 };
    } else if (bytes[at - 1] === CR) return bad("a carriage return stands alone");
  }
  return bytes.length >= BOUNDS.headBytes ? bad("the head is too long") : { kind: "more" };
}

// Each of these reads every character once: one that tries again would take seconds for a head full of spaces.
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)$/;
const REQUEST = /^([A-Za-z][A-Za-z0-9_-]{0,31}) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP\/1\.([01])$/;
const RESPONSE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;

/** Without spaces and tabs at both ends. */
function trimmed(value: string): string {
  let [from, to] = [0, value.length];
  while (from < to && (value[from] === " " || value[from] === "\t")) from++;
  while (from < to && (value[to - 1] === " " || value[to - 1] === "\t")) to--;
  return value.slice(from, to);
}

/** The first line and the fields; `bytes` ends with the empty line. */
function lines(bytes: Uint8Array): { readonly first: string; readonly fields: Field[] } | Bad {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  if (text.length > BOUNDS.headBytes) return bad("the head is too long");
  if (!text.endsWith("\r\n\r\n")) return bad("the head has no end");
  const [first = "", ...rest] = text.slice(0, -4).split("\r\n");
  if (rest.length > BOUNDS.headFields) return bad("there are too many header fields");
  const fields: Field[] = [];
  for (const line of rest) {
    const match = FIELD.exec(line);
    if (match === null) return bad("a header field is malformed");
    fields.push({ name: match[1] ?? "", value: trimmed(match[2] ?? "") });
  }
  return { first, fields };
}

export function parseRequestHead(bytes: Uint8Array): Parsed<RequestHead> {
  const read = lines(bytes);
  if ("kind" in read) return read;
  const match = REQUEST.exec(read.first);
  if (match === null) return bad("the request line is malformed");
  const [, method = "", target = "", minor] = match;
  return { kind: "head", head: { method, target, minor: minor === "0" ? 0 : 1, fields: read.fields } };
}

export function parseResponseHead(bytes: Uint8Array): Parsed<ResponseHead> {
  const read = lines(bytes);
  if ("kind" in read) return read;
  const match = RESPONSE.exec(read.first);
  if (match === null) return bad("the status line is malformed");
  const [, minor, status, reason = ""] = match;
  return { kind: "head", head: { status: Number(status), reason, minor: minor === "0" ? 0 : 1, fields: read.fields } };
}

/** All values of a field, in order; `name` in lower case. */
export function valuesOf(fields: readonly Field[], name: string): string[] {
  return fields.filter((field) => field.name.toLowerCase() === name).map((field) => field.value);
}

export function encodeHead(first: string, fields: readonly Field[]): Uint8Array {
  const text = [first, ...fields.map(({ name, value }) => `${name}: ${value}`), "", ""].join("\r\n");
  return Buffer.from(text, "latin1");
}
