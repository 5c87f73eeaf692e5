/**
 * The reader of DNS messages, and what is made of them, under messages that are right, nearly right or hostile. Run by hand for
 * long: `bun test/fuzz/dns.fuzz.ts --runs 1000000 --seed 1 [--record]`; a short run is part of the tests.
 *
 * Holds: nothing but `DnsFault` is ever thrown, and exactly for what a plain reader refuses; what comes out is what that one
 * reads; every query gets the answer that fits it, within its limit; a chain of aliases ends, in addresses of its last name.
 */
import { formatAddress } from "../../src/base/address.ts";
import { DNS } from "../../src/egress/dns/bounds.ts";
import { encodeAnswer, encodeQuestion } from "../../src/egress/dns/encode.ts";
import { follow } from "../../src/egress/dns/lookup.ts";
import { DnsFault, decodeMessage, type Message } from "../../src/egress/dns/message.ts";
import { parseQuery, udpLimit } from "../../src/egress/dns/query.ts";
import { NoAnswer } from "../../src/egress/dns/upstream.ts";
import { campaign, rounds } from "./campaign.ts";
import { Random } from "./random.ts";

/** What is fuzzed; a test puts a broken one in its place. */
export interface DnsSubject {
  decode(bytes: Uint8Array): Message;
  follow: typeof follow;
}

export const REAL: DnsSubject = { decode: decodeMessage, follow };

export interface DnsReport {
  runs: number;
  bytes: number;
  messages: number;
  refused: number;
  queries: number;
  addresses: number;
}

const LABELS = ["a", "b", "www", "Example", "com", "x-y", "_z", "\u0000", "a.b", "é"];
const TYPES = [1, 1, 28, 28, 5, 5, 41, 16, 65, 255];

/** Builds a message with names that point back to others before them. */
class Writer {
  readonly #random: Random;
  readonly #starts: number[] = [];
  readonly bytes: number[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  u16(value: number): void {
    this.bytes.push((value >> 8) & 255, value & 255);
  }

  writeName(): void {
    const random = this.#random;
    const before = [...this.#starts];
    // Most often the question's own name, so that records are about something.
    if (before.length > 0 && random.once(2)) {
      this.u16(0xc00c);
      return;
    }
    for (let labels = random.below(4); labels > 0; labels--) {
      const label = random.once(30) ? "L".repeat(63) : random.pick(LABELS);
      this.#starts.push(this.bytes.length);
      this.bytes.push(label.length, ...[...label].map((char) => char.charCodeAt(0)));
    }
    if (before.length === 0 || random.once(2)) {
      this.bytes.push(0);
      return;
    }
    if (random.once(3)) this.#starts.push(this.bytes.length);
    const strange = random.once(30) ? random.below(0x4000) : random.pick(this.#starts);
    this.u16(0xc000 | (random.once(9) ? strange : random.pick(before)));
  }

  record(): void {
    const random = this.#random;
    this.writeName();
    const type = random.pick(TYPES);
    this.u16(type);
    this.u16(random.once(6) ? random.below(4) : type === 41 ? random.below(5000) : 1);
    this.u16(random.once(9) ? random.below(0x10000) : 0);
    this.u16(random.below(0x10000));
    const at = this.bytes.length;
    this.u16(0);
    const lengths: Record<number, number> = { 1: 4, 28: 16 };
    if (type === 5) this.writeName();
    else this.bytes.push(...random.bytes(random.once(40) ? random.below(20) : (lengths[type] ?? random.below(9))));
    const length = this.bytes.length - at - 2 + (random.once(60) ? 1 : 0);
    this.bytes[at] = length >> 8;
    this.bytes[at + 1] = length & 255;
  }
}

/** A message, mostly whole. */
export function message(random: Random): Uint8Array {
  const writer = new Writer(random);
  const many = random.once(100) ? 300 : 5;
  const counts = [random.once(8) ? random.below(3) : 1, random.below(many), random.below(2), random.below(3)];
  if (random.once(2)) counts.fill(0, 1); // as a query is
  const flags = random.once(2) ? random.pick([0, 0x0100, 0x8180, 0x8183, 0x8380]) : random.below(0x10000);
  for (const value of [random.below(0x10000), flags, ...counts]) writer.u16(value);
  const [questions = 0, ...records] = counts;
  for (let i = 0; i < questions; i++) {
    writer.writeName();
    writer.u16(random.pick(TYPES));
    writer.u16(random.once(20) ? random.below(300) : 1);
  }
  for (let i = records.reduce((sum, count) => sum + count, 0); i > 0; i--) writer.record();
  if (random.once(4)) writer.bytes.push(0, 0, 41, 4, 208, 0, random.below(2), 0, 0, 0, 0);
  const bytes = Uint8Array.from(writer.bytes);
  // The count of additional records takes in what was put behind them.
  if (random.once(2) && bytes.length >= 12 && writer.bytes.slice(-11, -8).join() === "0,0,41") bytes[11]!++;
  return random.once(3) ? random.mutate(bytes) : bytes;
}

interface PlainName {
  readonly text: string;
  readonly end: number;
}

/** What is left of a name that goes on further back. */
function plainPointer(bytes: Uint8Array, at: number, before: number, hops: number, room: number): string | null {
  const [first = 0, second] = bytes.subarray(at, at + 2);
  const target = (first - 192) * 256 + (second ?? 0);
  if (second === undefined || target >= before || target < 12 || hops === 0) return null;
  return plainName(bytes, target, target, hops - 1, room)?.text ?? null;
}

/** A name as the RFC has it, read by recursion: nothing, a label and a name, or a name further back. */
function plainName(bytes: Uint8Array, at: number, before: number, hops: number, room: number): PlainName | null {
  const first = bytes[at];
  if (first === undefined || room < 1) return null;
  if (first === 0) return { text: "", end: at + 1 };
  if (first >= 192) {
    const text = plainPointer(bytes, at, before, hops, room);
    return text === null ? null : { text, end: at + 2 };
  }
  if (first > 63 || at + first >= bytes.length) return null;
  const rest = plainName(bytes, at + first + 1, before, hops, room - first - 1);
  if (rest === null) return null;
  const label = Buffer.from(bytes.subarray(at + 1, at + 1 + first)).toString("latin1");
  const text = label.replace(/[^a-zA-Z0-9_-]/g, (c) => `\\${`${c.charCodeAt(0)}`.padStart(3, "0")}`).toLowerCase();
  return { text: rest.text === "" ? text : `${text}.${rest.text}`, end: rest.end };
}

type Plain = { questions: unknown[]; records: unknown[] } | null;

/** One record, and where it ends. */
function plainRecord(bytes: Uint8Array, start: number): { row: unknown; end: number } | null {
  const view = Buffer.from(bytes);
  const name = plainName(bytes, start, start, DNS.hops, DNS.nameBytes);
  if (name === null || name.end + 10 > bytes.length) return null;
  const at = name.end;
  const [type, kind, length] = [view.readUInt16BE(at), view.readUInt16BE(at + 2), view.readUInt16BE(at + 8)];
  const [ttl, data, end] = [view.readUInt32BE(at + 4), at + 10, at + 10 + length];
  const row = [name.text, type, kind, ttl >= 2 ** 31 ? 0 : ttl];
  if (kind === 1 && type === 5) {
    const target = plainName(bytes, data, data, DNS.hops, DNS.nameBytes);
    return target === null || target.end !== end ? null : { row: [...row, target.text], end };
  }
  if (end > bytes.length) return null;
  const size = { 1: 4, 28: 16 }[type];
  if (kind !== 1 || size === undefined) return { row: [...row, null], end };
  return length === size ? { row: [...row, view.subarray(data, end).toString("hex")], end } : null;
}

/** What the bytes say, the plain way; null when they are no message. */
function plain(bytes: Uint8Array): Plain {
  if (bytes.length < 12) return null;
  const view = Buffer.from(bytes);
  const [questionCount, ...counts] = [4, 6, 8, 10].map((at) => view.readUInt16BE(at)) as [
    number,
    number,
    number,
    number,
  ];
  const recordCount = counts.reduce((sum, count) => sum + count, 0);
  if (questionCount + recordCount > DNS.records) return null;
  const [questions, records]: unknown[][] = [[], []];
  let at = 12;
  for (let i = 0; i < questionCount; i++) {
    const name = plainName(bytes, at, at, DNS.hops, DNS.nameBytes);
    if (name === null || name.end + 4 > bytes.length) return null;
    questions!.push([name.text, view.readUInt16BE(name.end), view.readUInt16BE(name.end + 2)]);
    at = name.end + 4;
  }
  for (let i = 0; i < recordCount; i++) {
    const read = plainRecord(bytes, at);
    if (read === null) return null;
    records!.push(read.row);
    at = read.end;
  }
  return at === bytes.length ? { questions: questions!, records: records! } : null;
}

/** What the subject read, in the plain reader's words. */
function asPlain({ questions, answers, authorities, additional }: Message): Plain {
  const hex = ({ value, family }: { value: bigint; family: 4 | 6 }) =>
    value.toString(16).padStart(family * 4 === 16 ? 8 : 32, "0");
  return {
    questions: questions.map((q) => [q.name, q.type, q.class]),
    records: [...answers, ...authorities, ...additional].map((r) => [
      r.name,
      r.type,
      r.class,
      r.ttlSeconds,
      r.address === null ? r.target : hex(r.address),
    ]),
  };
}

function decoded(subject: DnsSubject, bytes: Uint8Array): Message | null {
  try {
    return subject.decode(bytes);
  } catch (error) {
    if (error instanceof DnsFault) return null;
    throw error;
  }
}

/** A query's answer is one, to it, and no longer than it may be. */
function checkAnswer(bytes: Uint8Array, random: Random, report: DnsReport): void {
  const query = parseQuery(bytes);
  if (query.kind === "noise") return;
  report.queries += query.kind === "query" ? 1 : 0;
  const family = random.pick([4, 6] as const);
  const wanted =
    query.kind === "query" ? Array.from({ length: random.below(20) }, (_, i) => ({ family, value: BigInt(i) })) : [];
  const rcode = query.kind === "wrong" ? query.rcode : random.below(6);
  const limit = udpLimit(query.asked);
  const answer = encodeAnswer(query.asked, { rcode, addresses: wanted, ttlSeconds: random.below(301) }, limit);
  if (answer.length > limit || limit > DNS.udpBytes) throw new Error(`an answer of ${answer.length} bytes of ${limit}`);
  const read = decodeMessage(answer);
  const texts = read.answers.map(({ address }) => address && formatAddress(address));
  const same = read.truncated ? texts.length === 0 : texts.join() === wanted.map(formatAddress).join();
  if (!read.response || read.id !== ((bytes[0]! << 8) | bytes[1]!) || !same)
    throw new Error("an answer to something else");
  if (query.kind !== "query") return;
  const { name, type } = query;
  if (read.questions[0]?.name !== name || read.questions[0].type !== type)
    throw new Error("an answer to another question");
  if (/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(name)) {
    const again = decodeMessage(encodeQuestion(7, name, type)).questions[0];
    if (again?.name !== name || again.type !== type) throw new Error("another question is asked on");
  }
}

/** All names that records of the message lead to from one. */
function reached({ answers }: Message, asked: string): Set<string> {
  const names = new Set([asked]);
  for (let size = 0; size < names.size; ) {
    size = names.size;
    for (const { name, target } of answers) if (names.has(name) && target !== null) names.add(target);
  }
  return names;
}

/** No address comes of a name that is not its own, by whatever aliases. */
function checkChain(subject: DnsSubject, read: Message, report: DnsReport): void {
  const asked = read.questions.flatMap(({ name }) => [{ name, type: 1 } as const, { name, type: 28 } as const]);
  for (const { name, type } of asked) {
    let said: ReturnType<typeof follow>;
    try {
      said = subject.follow(read, name, type);
    } catch (error) {
      if (error instanceof NoAnswer) continue;
      throw error;
    }
    const names = reached(read, name);
    const own = read.answers.filter((row) => row.type === type && names.has(row.name)).map(({ address }) => address);
    const addresses = said.kind === "addresses" ? said.addresses : [];
    if (!addresses.every((address) => own.includes(address))) throw new Error("an address of another name");
    report.addresses += addresses.length;
  }
}

function round(subject: DnsSubject, random: Random, report: DnsReport): void {
  const bytes = message(random);
  const before = bytes.slice();
  const meant = plain(bytes);
  const read = decoded(subject, bytes);
  if ((read === null) !== (meant === null)) throw new Error("what is refused is not what is no message");
  if (read !== null && JSON.stringify(asPlain(read)) !== JSON.stringify(meant))
    throw new Error("it says something else");
  checkAnswer(bytes, random, report);
  if (read !== null) checkChain(subject, read, report);
  if (Buffer.compare(before, bytes) !== 0) throw new Error("the message was changed");
  report.bytes += bytes.length;
  report.messages += read === null ? 0 : 1;
  report.refused += read === null ? 1 : 0;
}

/** @throws {Error} what does not hold, with the input's number. */
export function fuzzDns(
  runs: number,
  seed: number,
  { subject = REAL, tick = () => undefined }: { readonly subject?: DnsSubject; readonly tick?: () => void } = {},
): DnsReport {
  const random = new Random(seed);
  const report: DnsReport = { runs, bytes: 0, messages: 0, refused: 0, queries: 0, addresses: 0 };
  rounds(runs, seed, tick, () => {
    round(subject, random, report);
  });
  return report;
}

if (import.meta.main) {
  await campaign({
    name: "DNS messages",
    file: "dns.fuzz.ts",
    blockRuns: 10_000,
    block: (runs, seed, tick) => {
      const { bytes, messages, refused, queries, addresses } = fuzzDns(runs, seed, { tick });
      return { bytes, messages, refused, queries, addresses };
    },
  });
}
