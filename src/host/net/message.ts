/**
 * Netlink messages, written into one buffer that is reused and never grows, sent in one call, and answers read back. The
 * kernel answers within the call that asks, so everything here is synchronous, and one batch at a time is under way in the
 * whole process: one that was begun is sent before another socket's begins, or it is dropped then.
 * @example
 * const nl = new Netlink(fd);
 * nl.begin("tap0 up", RTM_NEWLINK, 0).u8(0).u8(0).u16(0).u32(2).u32(1).u32(1).end();
 * nl.flush();
 */

import { memory, NativeError } from "../../../ffi/native.ts";
import { receiveNetlink, sendNetlink } from "../../../ffi/net/netlink.ts";
import { type Answer, messages } from "./answer.ts";

/** Flags of a message; `NLM_F_REQUEST` is always set. */
export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const NESTED = 0x8000;
const HEAD_BYTES = 16;
const ERRNO = { EIO: 5, EINTR: 4 } as const;
/** A dump that changes under it is asked for again, so often. */
const DUMP_TRIES = 8;

/** A socket takes 208 KiB in one call by default. An attribute, nests included, takes 64 KiB less one. */
const BATCH_BYTES = 160 * 1024;
const batch = memory(BATCH_BYTES);
const view = new DataView(batch.buffer);
const encoder = new TextEncoder();

let sequence = 1;
/** Whose messages the buffer holds. */
let writer: Netlink | null = null;

/** Messages as they were written. */
export interface Written {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** What each is about. */
  readonly about: readonly string[];
}

/** Messages of one socket. Makes no call and holds nothing of its own until `flush` or `dump`. */
export class Netlink {
  readonly fd: number;
  #at = 0;
  #start = 0;
  #open = false;
  #first = sequence;
  /** What each message is about, for the error of one that fails. */
  #about: string[] = [];
  #lastFlags = -1;
  #acked = false;

  /** @param fd of `openNetlink` or `makeNamespace`; the caller closes it */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** Starts a message. `about` names it in the error when it fails; `flags` beside `NLM_F_REQUEST`. */
  begin(about: string, type: number, flags = 0): this {
    if (this.#open) throw new TypeError(`netlink: ${this.#about.at(-1)} has no end`);
    this.#claim();
    this.#open = true;
    this.#start = this.#at;
    this.#about.push(about);
    if ((flags & NLM_F_ACK) !== 0) this.#acked = true;
    this.#lastFlags = this.#at + 6;
    this.#at += HEAD_BYTES;
    view.setUint16(this.#start + 4, type, true);
    view.setUint16(this.#start + 6, flags | NLM_F_REQUEST, true);
    view.setUint32(this.#start + 8, sequence++, true);
    view.setUint32(this.#start + 12, 0, true);
    return this;
  }

  end(): this {
    if (!this.#open) throw new TypeError("netlink: no message was begun");
    this.#open = false;
    this.#pad();
    view.setUint32(this.#start, this.#at - this.#start, true);
    return this;
  }

  /** Parts of a message's fixed header, right after `begin`; `be` is network byte order. */
  u8(value: number): this {
    view.setUint8(this.#at, checked(value, 0xff));
    this.#at += 1;
    return this;
  }

  u16(value: number): this {
    view.setUint16(this.#at, checked(value, 0xffff), true);
    this.#at += 2;
    return this;
  }

  be16(value: number): this {
    view.setUint16(this.#at, checked(value, 0xffff), false);
    this.#at += 2;
    return this;
  }

  u32(value: number): this {
    view.setUint32(this.#at, checked(value, 0xffff_ffff), true);
    this.#at += 4;
    return this;
  }

  be32(value: number): this {
    view.setUint32(this.#at, checked(value, 0xffff_ffff), false);
    this.#at += 4;
    return this;
  }

  /** Attributes. */
  attr8(type: number, value: number): this {
    return this.#attribute(type, 1).u8(value).#pad();
  }

  attr16(type: number, value: number): this {
    return this.#attribute(type, 2).u16(value).#pad();
  }

  attrBe16(type: number, value: number): this {
    return this.#attribute(type, 2).be16(value).#pad();
  }

  attr32(type: number, value: number): this {
    return this.#attribute(type, 4).u32(value);
  }

  attrBe32(type: number, value: number): this {
    return this.#attribute(type, 4).be32(value);
  }

  attrBe64(type: number, value: bigint): this {
    this.#attribute(type, 8);
    view.setBigUint64(this.#at, value, false);
    this.#at += 8;
    return this;
  }

  attrBytes(type: number, bytes: Uint8Array): this {
    this.#attribute(type, bytes.length);
    batch.set(bytes, this.#at);
    this.#at += bytes.length;
    return this.#pad();
  }

  /** Text ended by a zero, as the kernel takes names. */
  attrText(type: number, text: string): this {
    const bytes = encoder.encode(`${text}\0`);
    return this.attrBytes(type, bytes);
  }

  /** An attribute without a value. */
  attrFlag(type: number): this {
    return this.#attribute(type, 0);
  }

  /** An attribute made of what `fill` writes. @throws {RangeError} when that is more than 64 KiB: split it over messages */
  nest(type: number, fill: () => void): this {
    const start = this.#at;
    this.#attribute(type | NESTED, 0);
    fill();
    const length = this.#at - start;
    if (length > 0xffff) throw new RangeError(`netlink: an attribute of ${length} bytes`);
    view.setUint16(start, length, true);
    return this;
  }

  /** Bytes that have been written and not sent. */
  get bytes(): number {
    return this.#at;
  }

  /** A copy of what was written and not sent. */
  written(): Written {
    return { bytes: batch.slice(0, this.#at), about: [...this.#about] };
  }

  /** Appends messages that were written once, with no work but a copy. */
  again({ bytes, about }: Written): this {
    if (this.#open) throw new TypeError(`netlink: ${this.#about.at(-1)} has no end`);
    this.#claim();
    batch.set(bytes, this.#at);
    const end = this.#at + bytes.length;
    while (this.#at < end) {
      this.#lastFlags = this.#at + 6;
      if ((view.getUint16(this.#lastFlags, true) & NLM_F_ACK) !== 0) this.#acked = true;
      view.setUint32(this.#at + 8, sequence++, true);
      this.#at += view.getUint32(this.#at, true);
    }
    this.#about.push(...about);
    return this;
  }

  /** The buffer is this one's from its first message on. */
  #claim(): void {
    if (this.#about.length > 0) return;
    if (writer !== this) writer?.drop();
    writer = this;
    this.#first = sequence;
  }

  /** Forgets what was written and not sent. */
  drop(): void {
    this.#at = 0;
    this.#open = false;
    this.#about = [];
    this.#acked = false;
    this.#lastFlags = -1;
  }

  /**
   * Sends all messages in one call and waits until each has been dealt with. With none that asks for an acknowledgement the
   * last one does, which says that those before it are done too; in a batch of nftables that has to be the last before the
   * batch's end. Messages of rtnetlink do not stop at one that fails; a batch of nftables does nothing then.
   * @throws {NativeError} the errno of the first that failed, which it names
   */
  flush(): void {
    if (this.#about.length === 0) return;
    if (!this.#acked) view.setUint16(this.#lastFlags, view.getUint16(this.#lastFlags, true) | NLM_F_ACK, true);
    let awaited = this.#countAcked();
    const about = this.#send();
    let failed: NativeError | null = null;
    try {
      while (awaited > 0 && failed === null) {
        for (const answer of this.#receive(about)) {
          if (answer.type !== NLMSG_ERROR) continue;
          failed ??= this.#failure(answer, about);
          awaited -= 1;
        }
      }
    } finally {
      if (awaited > 0 || failed !== null) this.#drain();
    }
    if (failed !== null) throw failed;
  }

  /**
   * Sends the one message that was written, a dump or a question, and gives its answers.
   * @throws {NativeError} the errno that was answered: of a question for one thing, `ENOENT` or `ENODEV` when it is not there
   */
  dump(): Answer[] {
    if (this.#about.length !== 1) throw new TypeError(`netlink: a question is one message, not ${this.#about.length}`);
    const flags = view.getUint16(this.#lastFlags, true);
    if ((flags & NLM_F_DUMP) !== NLM_F_DUMP) view.setUint16(this.#lastFlags, flags | NLM_F_ACK, true);
    const length = this.#at;
    const about = this.#send();
    for (let tried = 0; tried < DUMP_TRIES; tried++) {
      if (tried > 0) sendNetlink(this.fd, batch, length);
      const found = this.#collect(about);
      if (found !== null) return found;
    }
    throw new NativeError("netlink", ERRNO.EINTR, about[0]);
  }

  /** Null when it changed while it was read. */
  #collect(about: readonly string[]): Answer[] | null {
    const found: Answer[] = [];
    let interrupted = false;
    for (;;) {
      for (const answer of this.#receive(about)) {
        interrupted ||= (answer.flags & NLM_F_DUMP_INTR) !== 0;
        if (answer.type === NLMSG_ERROR || answer.type === NLMSG_DONE) {
          const failed = this.#failure(answer, about);
          if (failed !== null) throw failed;
          return interrupted ? null : found;
        }
        if (answer.type !== NLMSG_NOOP) found.push(answer);
      }
    }
  }

  #countAcked(): number {
    let count = 0;
    for (let at = 0; at < this.#at; at += view.getUint32(at, true)) {
      if ((view.getUint16(at + 6, true) & NLM_F_ACK) !== 0) count += 1;
    }
    return count;
  }

  #send(): readonly string[] {
    if (this.#open) throw new TypeError(`netlink: ${this.#about.at(-1)} has no end`);
    const about = this.#about;
    const length = this.#at;
    this.drop();
    sendNetlink(this.fd, batch, length);
    return about;
  }

  /** Answers to this batch; those to an earlier one that was given up are passed over. */
  #receive(about: readonly string[]): Answer[] {
    const bytes = receiveNetlink(this.fd, false);
    // Everything is answered before the send returns: waiting for what is not there would be for ever.
    if (bytes.length === 0) throw new NativeError("netlink", ERRNO.EIO, `no answer to ${about.join(", ")}`);
    const last = this.#first + about.length - 1;
    return messages(bytes).filter((answer) => answer.sequence >= this.#first && answer.sequence <= last);
  }

  #failure(answer: Answer, about: readonly string[]): NativeError | null {
    if (answer.body.length < 4) return null;
    const errno = -new DataView(answer.body.buffer, answer.body.byteOffset).getInt32(0, true);
    return errno > 0 ? new NativeError("netlink", errno, about[answer.sequence - this.#first]) : null;
  }

  #drain(): void {
    while (receiveNetlink(this.fd, false).length > 0);
  }

  #attribute(type: number, length: number): this {
    view.setUint16(this.#at, 4 + length, true);
    view.setUint16(this.#at + 2, type, true);
    this.#at += 4;
    return this;
  }

  #pad(): this {
    while ((this.#at & 3) !== 0) batch[this.#at++] = 0;
    return this;
  }
}

function checked(value: number, max: number): number {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw new RangeError(`netlink: ${value} is not 0 to ${max}`);
  return value;
}
