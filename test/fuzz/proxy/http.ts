/**
 * HTTP heads and chunked bodies, right and nearly right. Holds: nothing throws but what says so; where bytes are cut changes nothing;
 * what is accepted means the same to a lenient reader, before and after it is written anew.
 */

import type { Chunks } from "../../../src/egress/proxy/http/chunked.ts";
import { connectionTokens, type Framing, framingFields } from "../../../src/egress/proxy/http/framing.ts";
import { encodeHead, type HeadEnd } from "../../../src/egress/proxy/http/head.ts";
import type { understand } from "../../../src/egress/proxy/session.ts";
import type { Random } from "../random.ts";

export interface HttpSubject {
  readonly end: (bytes: Uint8Array, from?: number) => HeadEnd;
  readonly understand: typeof understand;
  readonly chunks: () => { push(bytes: Uint8Array): Chunks };
}

export interface HttpReport {
  requests: number;
  refused: number;
  bodies: number;
  broken: number;
}

const HOSTS = ["a.test", "A.Test:80", "b.test:8080", "93.184.216.34", "[2606:4700::1]:80", "c.test."];
const FIELDS = [
  "Accept: */*",
  "Connection: keep-alive, X-Hop",
  "Connection: close",
  "X-Hop: gone",
  "X-Empty:",
  "X-Latin: \xe9\xff",
  "Content-Length: 5",
  "content-length: 0",
  "Transfer-Encoding: chunked",
  "TRANSFER-ENCODING:\tChunked ",
  "Upgrade: websocket",
  "Cookie: a=b; c=d",
];
/** What attacks are made of. */
const TRICKS = [
  ...["Content-Length: +5", "Content-Length: 5, 5", "Content-Length : 5", "Transfer-Encoding: chunked, identity"],
  ...[
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding:\x0bchunked",
    "Host: evil.test",
    "hOST : evil.test",
    " Host: evil.test",
  ],
  ...["X: y\nHost: evil.test", "X: y\rHost: evil.test", "X: \0", "X", ": y", "", "\tfolded", "Content-Length: 5\nX: y"],
];
const TARGETS = [
  "/",
  "/a?b=c",
  "*",
  "http://a.test/x",
  "http://a.test:80?q",
  "http://evil.test/",
  "//evil.test/",
  "a.test:80",
];

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

function request(random: Random): Uint8Array {
  const fields = [`Host: ${random.pick(HOSTS)}`];
  for (let i = random.below(4); i > 0; i--) fields.push(random.pick(FIELDS));
  if (random.once(3)) fields.splice(random.below(fields.length + 1), 0, random.pick(TRICKS));
  const method = random.pick(["GET", "POST", "OPTIONS", "PUT", "CONNECT", "TRACE"]);
  const target = random.once(3) ? random.pick(TARGETS) : "/";
  const end = random.once(30) ? "\n" : "\r\n";
  return bytesOf([`${method} ${target} HTTP/1.${random.once(8) ? 0 : 1}`, ...fields, "", ""].join(end));
}

/** What a server that forgives everything would make of a head. */
function lenient(text: string): { hosts: Set<string>; lengths: Set<string>; codings: Set<string> } {
  const said = { hosts: new Set<string>(), lengths: new Set<string>(), codings: new Set<string>() };
  const lines = text.replaceAll(/(\r\n|\n|\r)[ \t]+/g, " ").split(/\r\n|\n|\r/);
  for (const line of lines.slice(1)) {
    const at = line.indexOf(":");
    const [name, value] = [
      line.slice(0, at).trim().toLowerCase(),
      line
        .slice(at + 1)
        .trim()
        .toLowerCase(),
    ];
    if (name === "host") said.hosts.add(value);
    if (name === "content-length") said.lengths.add(value);
    if (name === "transfer-encoding") said.codings.add(value);
  }
  return said;
}

function checkFraming(framing: Framing, { lengths, codings }: ReturnType<typeof lenient>): void {
  const length = framing.kind === "length" ? [String(framing.bytes)] : [];
  const coding = framing.kind === "chunked" ? ["chunked"] : [];
  const canonical = [...lengths].map((text) => text.replace(/^0+(?=\d)/, ""));
  if (canonical.join() !== length.join() || [...codings].join() !== coding.join()) {
    throw new Error(`framed as ${JSON.stringify(framing)}, or as ${[...lengths, ...codings].join()}`);
  }
}

/** Accepted: read again by another, as it came and as it goes on. */
function checkAccepted(subject: HttpSubject, bytes: Uint8Array): boolean {
  const asked = subject.understand(bytes, { scheme: "http", only: null });
  if (asked.kind === "rejected") return false;
  const { to, request } = asked;
  if (/(?<!\r)\n|\r(?!\n)/.test(textOf(bytes))) throw new Error("half of a line's end is accepted");
  const came = lenient(textOf(bytes));
  if (came.hosts.size !== 1) throw new Error(`for ${[...came.hosts].join(" or ")}`);
  checkFraming(request.framing, came);
  const anew = encodeHead(`${request.method} ${request.path} HTTP/1.1`, [
    { name: "Host", value: request.host },
    ...request.fields,
    ...framingFields(request.framing),
  ]);
  const again = subject.understand(anew, { scheme: "http", only: null });
  if (again.kind === "rejected") throw new Error(`written anew it is refused: ${again.reason}`);
  if (JSON.stringify([again.to, again.request.framing]) !== JSON.stringify([to, request.framing])) {
    throw new Error("written anew it is another request");
  }
  const goes = lenient(textOf(anew));
  if (goes.hosts.size !== 1 || connectionTokens(request.fields).size > 0) throw new Error("fields of one hop go on");
  checkFraming(request.framing, goes);
  return true;
}

/** @throws {Error} when pieces are judged otherwise than the whole */
function checkEnd({ end }: HttpSubject, bytes: Uint8Array, random: Random): HeadEnd {
  const whole = end(bytes);
  for (let at = 0; at < bytes.length; ) {
    const next = Math.min(bytes.length, at + 1 + random.below(20));
    const found = end(bytes.subarray(0, next), at);
    if (found.kind === "more" && next < bytes.length) {
      at = next;
      continue;
    }
    if (JSON.stringify(found) !== JSON.stringify(whole)) throw new Error("cuts change where a head ends");
    break;
  }
  return whole;
}

export function headRound(subject: HttpSubject, random: Random, report: HttpReport): void {
  const made = request(random);
  const bytes = random.once(2) ? random.mutate(made) : made;
  const before = bytes.slice();
  const found = checkEnd(subject, bytes, random);
  if (found.kind === "end" && checkAccepted(subject, bytes.subarray(0, found.bytes))) report.requests++;
  else report.refused++;
  if (Buffer.compare(before, bytes) !== 0) throw new Error("the bytes were changed");
}

/** What a decoder makes of bytes in pieces of at most `most`; null for what it refuses. */
function decoded(subject: HttpSubject, bytes: Uint8Array, most: number, random: Random): string | null {
  const decoder = subject.chunks();
  let out = "";
  for (let at = 0; at < bytes.length; ) {
    const part = bytes.subarray(at, at + 1 + random.below(most));
    at += part.length;
    let read: Chunks;
    try {
      read = decoder.push(part);
    } catch (error) {
      if (error instanceof Error && error.constructor === Error) return null;
      throw error;
    }
    out += read.data.map(textOf).join("");
    if (read.rest !== null) return `${out} then ${textOf(read.rest) + textOf(bytes.subarray(at))}`;
  }
  return `${out} unfinished`;
}

export function chunkRound(subject: HttpSubject, random: Random, report: HttpReport): void {
  const parts = Array.from({ length: random.below(5) }, () => textOf(random.bytes(1 + random.below(40))));
  const size = (part: string): string =>
    `${random.once(4) ? "0" : ""}${part.length.toString(16)}${random.once(5) ? " ;a=b" : ""}`;
  const text = parts.map((part) => `${size(part)}\r\n${part}\r\n`).join("");
  const rest = textOf(random.bytes(random.below(10)));
  const bytes = bytesOf(`${text}0\r\n${random.once(4) ? "T: x\r\n" : ""}\r\n${rest}`);
  if (decoded(subject, bytes, 30, random) !== `${parts.join("")} then ${rest}`)
    throw new Error("a body is not read as it was meant");
  report.bodies++;
  const broken = random.mutate(bytes);
  const [small, large] = [decoded(subject, broken, 3, random), decoded(subject, broken, 1000, random)];
  if (small !== large) throw new Error("cuts change what is read of a body");
  if (small === null) report.broken++;
}
