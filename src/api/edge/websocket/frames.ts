/**
 * Frames of a WebSocket (RFC 6455) as a client has them: what a program in a sandbox sends is held to the rules and to a bound
 * before it is kept, what goes to it is masked. Pure.
 */
import { randomBytes } from "../../../base/id.ts";
import { BOUNDS as API_BOUNDS } from "../../bounds.ts";
import { BOUNDS } from "../bounds.ts";

export type Message =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "binary"; readonly bytes: Uint8Array }
  | { readonly kind: "ping"; readonly bytes: Uint8Array }
  | { readonly kind: "pong" }
  | { readonly kind: "close"; readonly code: number; readonly reason: string };

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const CONTROL_BYTES = 125;
/** No status was given. */
const NO_STATUS = 1005;

/** What came is no WebSocket; `code` is what a close frame would say of it. */
export class FrameError extends Error {
  override readonly name = "FrameError";
  readonly code: number;
  constructor(code: number, says: string) {
    super(says);
    this.code = code;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
function decoded(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw Object.assign(new FrameError(1007, "text that is not UTF-8"), { cause });
  }
}

/** True for a status that may stand in a close frame. */
export function isCloseCode(code: number): boolean {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

interface Head {
  readonly isLast: boolean;
  readonly opcode: number;
  readonly length: number;
  /** Bytes of the head itself. */
  readonly size: number;
}

/** Takes bytes as they come, gives messages. After it has thrown it is of no use. */
export class FrameReader {
  #unread: Uint8Array = new Uint8Array(0);
  /** Of the frame under way; null between frames. */
  #head: Head | null = null;
  #payload: Uint8Array[] = [];
  #missing = 0;
  /** Of the message under way, over its frames: its kind, its bytes. */
  #kind = 0;
  #parts: Uint8Array[] = [];
  #size = 0;

  /** Bytes that it takes to keep the message under way. */
  get cost(): number {
    const ofFrame = (this.#head?.length ?? 0) - this.#missing;
    return this.#size + ofFrame + (this.#payload.length + this.#parts.length) * API_BOUNDS.waitingPieceBytes;
  }

  /** @throws {FrameError} */
  take(piece: Uint8Array): Message[] {
    const messages: Message[] = [];
    let rest = piece;
    while (rest.length > 0) {
      if (this.#head === null) {
        this.#unread = this.#unread.length === 0 ? rest : Buffer.concat([this.#unread, rest]);
        const head = headOf(this.#unread);
        if (head === null) {
          this.#unread = this.#unread.slice(); // a few bytes; the piece may be a view of much more
          return messages;
        }
        this.#begin(head);
        rest = this.#unread.subarray(head.size);
        this.#unread = new Uint8Array(0);
      }
      const part = rest.subarray(0, this.#missing);
      if (part.length > 0) this.#payload.push(part.slice());
      this.#missing -= part.length;
      rest = rest.subarray(part.length);
      if (this.#missing > 0) return messages;
      const message = this.#end();
      if (message !== null) messages.push(message);
    }
    return messages;
  }

  #begin(head: Head): void {
    const { opcode, length, isLast } = head;
    if (opcode >= CLOSE) {
      if (opcode > PONG || !isLast || length > CONTROL_BYTES)
        throw new FrameError(1002, "a control frame that is none");
    } else {
      if (opcode > BINARY) throw new FrameError(1002, `a frame of kind ${opcode}`);
      if ((opcode === 0) !== (this.#kind !== 0)) throw new FrameError(1002, "a fragment out of place");
      if (this.#size + length > BOUNDS.messageBytes)
        throw new FrameError(1009, `a message of more than ${BOUNDS.messageBytes} bytes`);
      if (opcode !== 0) this.#kind = opcode;
    }
    this.#head = head;
    this.#missing = length;
  }

  #end(): Message | null {
    const { opcode, isLast } = this.#head as Head;
    const parts = this.#payload.splice(0);
    this.#head = null;
    if (opcode >= CLOSE) return control(opcode, Buffer.concat(parts));
    for (const part of parts) {
      this.#parts.push(part);
      this.#size += part.length;
    }
    // Frames without a byte cost nothing to send; so many parts would.
    if (this.#parts.length > 1024) this.#parts = [Buffer.concat(this.#parts)];
    if (!isLast) return null;
    const kind = this.#kind;
    const bytes = Buffer.concat(this.#parts.splice(0));
    this.#kind = 0;
    this.#size = 0;
    return kind === TEXT ? { kind: "text", text: decoded(bytes) } : { kind: "binary", bytes };
  }
}

/** Null until all of it is there. */
function headOf(bytes: Uint8Array): Head | null {
  const [first, second] = bytes;
  if (first === undefined || second === undefined) return null;
  if ((first & 0x70) !== 0) throw new FrameError(1002, "an extension that was not agreed on");
  if ((second & 0x80) !== 0) throw new FrameError(1002, "a server's frame with a mask");
  const short = second & 0x7f;
  const size = short === 127 ? 10 : short === 126 ? 4 : 2;
  if (bytes.length < size) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, size);
  const length = short === 127 ? Number(view.getBigUint64(2)) : short === 126 ? view.getUint16(2) : short;
  return { isLast: (first & 0x80) !== 0, opcode: first & 0x0f, length, size };
}

function control(opcode: number, bytes: Uint8Array): Message {
  if (opcode === PING) return { kind: "ping", bytes };
  if (opcode === PONG) return { kind: "pong" };
  if (bytes.length === 0) return { kind: "close", code: NO_STATUS, reason: "" };
  const code = bytes.length === 1 ? 0 : ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);
  if (!isCloseCode(code)) throw new FrameError(1002, "a close frame with a status that is none");
  return { kind: "close", code, reason: decoded(bytes.subarray(2)) };
}

function frame(opcode: number, payload: Uint8Array): Uint8Array {
  const size = payload.length < 126 ? 2 : payload.length < 65_536 ? 4 : 10;
  const out = new Uint8Array(size + 4 + payload.length);
  const view = new DataView(out.buffer);
  out[0] = 0x80 | opcode;
  if (size === 2) out[1] = 0x80 | payload.length;
  else {
    out[1] = 0x80 | (size === 4 ? 126 : 127);
    if (size === 4) view.setUint16(2, payload.length);
    else view.setBigUint64(2, BigInt(payload.length));
  }
  const mask = randomBytes(4);
  out.set(mask, size);
  for (let i = 0, at = size + 4; i < payload.length; i++, at++) out[at] = (payload[i] ?? 0) ^ (mask[i & 3] ?? 0);
  return out;
}

/** One message as one masked frame. */
export function frameOf(message: string | Uint8Array): Uint8Array {
  return typeof message === "string" ? frame(TEXT, new TextEncoder().encode(message)) : frame(BINARY, message);
}

export function pongOf(bytes: Uint8Array): Uint8Array {
  return frame(PONG, bytes);
}

/** Without a status for codes that may not be sent. The reason is cut to what fits. */
export function closeOf(code: number, reason: string): Uint8Array {
  if (!isCloseCode(code)) return frame(CLOSE, new Uint8Array(0));
  const text = new TextEncoder().encodeInto(reason, new Uint8Array(CONTROL_BYTES - 2));
  const bytes = new Uint8Array(2 + text.written);
  bytes[0] = code >> 8;
  bytes[1] = code & 0xff;
  new TextEncoder().encodeInto(reason, bytes.subarray(2));
  return frame(CLOSE, bytes);
}
