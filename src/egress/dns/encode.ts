/** DNS messages to bytes: the questions that are put to this host's name servers, and the answers that a sandbox gets. */
import { addressBytes, type IpAddress } from "../../base/address.ts";
import { DNS } from "./bounds.ts";
import { CLASS_IN, HEADER_BYTES, RCODE, TYPE } from "./message.ts";

/** What an answer answers: its id, flags and question as they came, and what its client can take. */
export interface Asked {
  readonly id: number;
  readonly recursionDesired: boolean;
  /** As it came, in the case in which it came; empty when there is none to repeat. */
  readonly question: Uint8Array;
  /** Null: without EDNS. */
  readonly edns: { readonly udpBytes: number } | null;
}

export interface Answer {
  readonly rcode: number;
  /** Of one family; their name is the question's. */
  readonly addresses: readonly IpAddress[];
  readonly ttlSeconds: number;
}

const FLAG = { response: 0x8000, truncated: 0x0200, recursionDesired: 0x0100, recursionAvailable: 0x0080 } as const;
const RECORD_HEAD_BYTES = 12;
const OPT_BYTES = 11;

function header(view: DataView, id: number, flags: number, counts: readonly number[]): void {
  [id, flags, ...counts].forEach((value, i) => void view.setUint16(2 * i, value));
}

/** A question for one type of a name of letters, digits, `-` and `_`. */
export function encodeQuestion(id: number, name: string, type: number): Uint8Array {
  const labels = name.split(".");
  const bytes = new Uint8Array(HEADER_BYTES + name.length + 2 + 4);
  const view = new DataView(bytes.buffer);
  header(view, id, FLAG.recursionDesired, [1, 0, 0, 0]);
  let at = HEADER_BYTES;
  for (const label of labels) {
    bytes[at] = label.length;
    for (let i = 0; i < label.length; i++) bytes[at + 1 + i] = label.charCodeAt(i);
    at += label.length + 1;
  }
  view.setUint16(at + 1, type);
  view.setUint16(at + 3, CLASS_IN);
  return bytes;
}

/** An answer in at most `limitBytes`, which is cut to its question and marked so when it would be longer. */
export function encodeAnswer(asked: Asked, answer: Answer, limitBytes: number): Uint8Array {
  const size = addressBytes(answer.addresses[0] ?? { family: 4, value: 0n }).length;
  const head = HEADER_BYTES + asked.question.length;
  const tail = asked.edns === null ? 0 : OPT_BYTES;
  const fits = head + answer.addresses.length * (RECORD_HEAD_BYTES + size) + tail <= limitBytes;
  const addresses = fits ? answer.addresses : [];
  const bytes = new Uint8Array(head + addresses.length * (RECORD_HEAD_BYTES + size) + tail);
  const view = new DataView(bytes.buffer);
  const flags =
    FLAG.response |
    FLAG.recursionAvailable |
    (asked.recursionDesired ? FLAG.recursionDesired : 0) |
    (fits ? 0 : FLAG.truncated) |
    (answer.rcode & 15);
  header(view, asked.id, flags, [
    asked.question.length === 0 ? 0 : 1,
    addresses.length,
    0,
    asked.edns === null ? 0 : 1,
  ]);
  bytes.set(asked.question, HEADER_BYTES);
  addresses.forEach((address, i) => {
    const at = head + i * (RECORD_HEAD_BYTES + size);
    view.setUint16(at, 0xc000 | HEADER_BYTES); // the question's name
    view.setUint16(at + 2, address.family === 4 ? TYPE.A : TYPE.AAAA);
    view.setUint16(at + 4, CLASS_IN);
    view.setUint32(at + 6, answer.ttlSeconds);
    view.setUint16(at + 10, size);
    bytes.set(addressBytes(address), at + RECORD_HEAD_BYTES);
  });
  if (asked.edns !== null) {
    const at = bytes.length - OPT_BYTES;
    view.setUint16(at + 1, TYPE.OPT);
    view.setUint16(at + 3, DNS.udpBytes);
    bytes[at + 5] = answer.rcode >> 4;
  }
  return bytes;
}

export const failed: Answer = { rcode: RCODE.SERVFAIL, addresses: [], ttlSeconds: 0 };
