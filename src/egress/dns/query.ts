/** What a sandbox asks its name server: one question in class IN, or how what came is turned down. Pure. */
import { DNS } from "./bounds.ts";
import type { Asked } from "./encode.ts";
import { CLASS_IN, DnsFault, decodeMessage, HEADER_BYTES, type Message, RCODE, TYPE } from "./message.ts";

export type Query =
  /** No query at all; answering could make a loop. */
  | { readonly kind: "noise" }
  | { readonly kind: "wrong"; readonly asked: Asked; readonly rcode: number }
  | { readonly kind: "query"; readonly asked: Asked; readonly name: string; readonly type: number };

function wrong(asked: Asked, rcode: number): Query {
  return { kind: "wrong", asked, rcode };
}

function decoded(bytes: Uint8Array): Message | null {
  try {
    return decodeMessage(bytes);
  } catch (error) {
    if (error instanceof DnsFault) return null;
    throw error;
  }
}

/** Everything but its question is as a query has it. */
function plain({ answers, authorities, additional, questions }: Message): boolean {
  const opts = additional.filter(({ type }) => type === TYPE.OPT);
  const bare = questions.length === 1 && answers.length === 0 && authorities.length === 0;
  return bare && opts.length < 2 && opts.every(({ name }) => name === "");
}

export function parseQuery(bytes: Uint8Array): Query {
  const [high = 0, low = 0, flags = 0] = bytes;
  if (bytes.length < HEADER_BYTES || (flags & 0x80) !== 0) return { kind: "noise" };
  const recursionDesired = (flags & 1) !== 0;
  const bare: Asked = { id: (high << 8) | low, recursionDesired, question: new Uint8Array(0), edns: null };
  if ((flags & 0x78) !== 0) return wrong(bare, RCODE.NOTIMP);
  const message = bytes.length > DNS.queryBytes ? null : decoded(bytes);
  const question = message?.questions[0];
  if (message === null || question === undefined || !plain(message)) return wrong(bare, RCODE.FORMERR);
  const opt = message.additional.find(({ type }) => type === TYPE.OPT);
  const asked: Asked = {
    ...bare,
    // A copy: the bytes of a packet are the socket's, which uses them again.
    question: Uint8Array.from(bytes.subarray(HEADER_BYTES, message.questionsEnd)),
    // Of an OPT record the class is the size that its sender can take, and the TTL holds the version (RFC 6891, 6.1.3).
    edns: opt === undefined ? null : { udpBytes: opt.class },
  };
  if (opt !== undefined && ((opt.ttlSeconds >> 16) & 255) !== 0) return wrong(asked, RCODE.BADVERS);
  if (question.class !== CLASS_IN) return wrong(asked, RCODE.NOTIMP);
  return { kind: "query", asked, name: question.name, type: question.type };
}

/** Bytes that an answer over UDP may have. */
export function udpLimit({ edns }: Asked): number {
  return Math.min(DNS.udpBytes, Math.max(DNS.plainBytes, edns?.udpBytes ?? 0));
}
