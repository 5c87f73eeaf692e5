/**
 * DNS messages (RFC 1035) from bytes. Every byte is hostile: nothing is read past its end, pointers go backwards only, and
 * names, hops and records are counted, so that the work for a message is bounded by its length and by `DNS`.
 */
import { addressFrom, type IpAddress } from "../../base/address.ts";
import { DNS } from "./bounds.ts";

export const TYPE = { A: 1, CNAME: 5, AAAA: 28, OPT: 41 } as const;
export const CLASS_IN = 1;
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const;
export const HEADER_BYTES = 12;

export interface Question {
  /** Lower case; bytes of labels that no host name has as `\ddd`, so that what has one is no name of a policy. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

export interface ResourceRecord {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly ttlSeconds: number;
  /** Of A and AAAA in class IN. */
  readonly address: IpAddress | null;
  /** Of CNAME in class IN. */
  readonly target: string | null;
}

export interface Message {
  readonly id: number;
  readonly response: boolean;
  readonly opcode: number;
  readonly truncated: boolean;
  readonly recursionDesired: boolean;
  readonly rcode: number;
  readonly questions: readonly Question[];
  readonly answers: readonly ResourceRecord[];
  readonly authorities: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
  /** Where the questions end. */
  readonly questionsEnd: number;
}

/** Bytes that are no DNS message. */
export class DnsFault extends Error {
  override readonly name = "DnsFault";
}

const POINTER = 0xc0;

function labelText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const char = String.fromCharCode(byte).toLowerCase();
    text += /[a-z0-9_-]/.test(char) ? char : `\\${String(byte).padStart(3, "0")}`;
  }
  return text;
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at = HEADER_BYTES;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  #take(length: number): number {
    const from = this.at;
    if (from + length > this.#bytes.length) throw new DnsFault("it ends in the middle");
    this.at = from + length;
    return from;
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  bytes(length: number): Uint8Array {
    const from = this.#take(length);
    return this.#bytes.subarray(from, from + length);
  }

  #byte(at: number): number {
    const byte = this.#bytes[at];
    if (byte === undefined) throw new DnsFault("a name ends in the middle");
    return byte;
  }

  /** Where the pointer at `at` goes: before `start`, where the labels that it ends begin, so that no chain of them comes back. */
  #pointer(at: number, start: number): number {
    const target = ((this.#byte(at) & 0x3f) << 8) | this.#byte(at + 1);
    if (target >= start || target < HEADER_BYTES) throw new DnsFault("a pointer does not go backwards");
    return target;
  }

  /** The label at `at`. */
  #label(at: number): Uint8Array {
    const length = this.#byte(at);
    if ((length & POINTER) !== 0) throw new DnsFault("a label has a length that is none");
    if (at + 1 + length > this.#bytes.length) throw new DnsFault("a name ends in the middle");
    return this.#bytes.subarray(at + 1, at + 1 + length);
  }

  /** A name from where the reader is; the reader goes behind it, which with a pointer is behind that. */
  readName(): string {
    const labels: string[] = [];
    let [at, start, behind, hops, length] = [this.at, this.at, -1, 0, 1];
    for (let first = this.#byte(at); first !== 0; first = this.#byte(at)) {
      if ((first & POINTER) === POINTER) {
        const target = this.#pointer(at, start);
        if (behind < 0) behind = at + 2;
        if (++hops > DNS.hops) throw new DnsFault("a name has too many pointers");
        at = start = target;
        continue;
      }
      const label = this.#label(at);
      length += label.length + 1;
      if (length > DNS.nameBytes) throw new DnsFault("a name is too long");
      labels.push(labelText(label));
      at += label.length + 1;
    }
    this.at = behind < 0 ? at + 1 : behind;
    return labels.join(".");
  }

  question(): Question {
    return { name: this.readName(), type: this.u16(), class: this.u16() };
  }

  record(): ResourceRecord {
    const [name, type, dnsClass, ttl, length] = [this.readName(), this.u16(), this.u16(), this.u32(), this.u16()];
    const end = this.at + length;
    // The top bit means 0 (RFC 2181, 8).
    const row = { name, type, class: dnsClass, ttlSeconds: ttl > 0x7fff_ffff ? 0 : ttl, address: null, target: null };
    if (dnsClass !== CLASS_IN || (type !== TYPE.A && type !== TYPE.AAAA && type !== TYPE.CNAME)) {
      this.#take(length);
      return row;
    }
    if (type === TYPE.CNAME) {
      const target = this.readName();
      if (this.at !== end) throw new DnsFault("an alias is not as long as it says");
      return { ...row, target };
    }
    if (length !== (type === TYPE.A ? 4 : 16)) throw new DnsFault("an address has another length");
    return { ...row, address: addressFrom(this.bytes(length)) };
  }
}

/** @throws {DnsFault} for anything but one whole message without a byte behind it */
export function decodeMessage(bytes: Uint8Array): Message {
  if (bytes.length < HEADER_BYTES) throw new DnsFault("it is shorter than a header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const [flags, ...counts] = [2, 4, 6, 8, 10].map((at) => view.getUint16(at)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  if (counts.reduce((sum, count) => sum + count, 0) > DNS.records) throw new DnsFault("it has too many records");
  const reader = new Reader(bytes);
  const [questionCount, ...recordCounts] = counts;
  const questions = Array.from({ length: questionCount }, () => reader.question());
  const questionsEnd = reader.at;
  const [answers = [], authorities = [], additional = []] = recordCounts.map((count) =>
    Array.from({ length: count }, () => reader.record()),
  );
  if (reader.at !== bytes.length) throw new DnsFault("bytes come behind it");
  return {
    id: view.getUint16(0),
    response: (flags & 0x8000) !== 0,
    opcode: (flags >> 11) & 15,
    truncated: (flags & 0x0200) !== 0,
    recursionDesired: (flags & 0x0100) !== 0,
    rcode: flags & 15,
    questions,
    answers,
    authorities,
    additional,
    questionsEnd,
  };
}
