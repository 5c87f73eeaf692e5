/** What the kernel answers over netlink, taken apart. Every length is checked against what was received. */
import { NativeError } from "../../../ffi/native.ts";

/** One message; `body` begins with the fixed header of its kind, and is the reader's own. */
export interface Answer {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Uint8Array;
}

const HEAD_BYTES = 16;
const EBADMSG = 74;
const TYPE = 0x3fff;

function damaged(what: string): NativeError {
  return new NativeError("netlink", EBADMSG, what);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The messages of one datagram, which is copied. @throws {NativeError} `EBADMSG` */
export function messages(datagram: Uint8Array): Answer[] {
  const bytes = datagram.slice();
  const view = viewOf(bytes);
  const found: Answer[] = [];
  for (let at = 0; at + HEAD_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEAD_BYTES || at + length > bytes.length) throw damaged(`a message of ${length} bytes`);
    found.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: bytes.subarray(at + HEAD_BYTES, at + length),
    });
    at += (length + 3) & ~3;
  }
  return found;
}

/** One attribute, its type without flags. */
export interface Attribute {
  readonly type: number;
  readonly value: Uint8Array;
}

/** Attributes from `offset` on, in order, repeated ones too: for lists. @throws {NativeError} `EBADMSG` */
export function attributeList(bytes: Uint8Array, offset = 0): Attribute[] {
  const view = viewOf(bytes);
  const found: Attribute[] = [];
  for (let at = offset; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) throw damaged(`an attribute of ${length} bytes`);
    found.push({ type: view.getUint16(at + 2, true) & TYPE, value: bytes.subarray(at + 4, at + length) });
    at += (length + 3) & ~3;
  }
  return found;
}

/** Attributes by type, the last of each. Reading one that is not there gives null; one of a wrong length is damage. */
export class Attributes {
  readonly #values: Map<number, Uint8Array>;

  /** @param offset where the first one is: the length of the message's fixed header. @throws {NativeError} `EBADMSG` */
  constructor(bytes: Uint8Array, offset = 0) {
    this.#values = new Map(attributeList(bytes, offset).map(({ type, value }) => [type, value]));
  }

  has(type: number): boolean {
    return this.#values.has(type);
  }

  bytes(type: number): Uint8Array | null {
    return this.#values.get(type) ?? null;
  }

  #view(type: number, length: number): DataView | null {
    const value = this.#values.get(type);
    if (value === undefined) return null;
    if (value.length < length) throw damaged(`attribute ${type} has ${value.length} bytes`);
    return viewOf(value);
  }

  u8(type: number): number | null {
    return this.#view(type, 1)?.getUint8(0) ?? null;
  }

  u16(type: number): number | null {
    return this.#view(type, 2)?.getUint16(0, true) ?? null;
  }

  be16(type: number): number | null {
    return this.#view(type, 2)?.getUint16(0, false) ?? null;
  }

  u32(type: number): number | null {
    return this.#view(type, 4)?.getUint32(0, true) ?? null;
  }

  be32(type: number): number | null {
    return this.#view(type, 4)?.getUint32(0, false) ?? null;
  }

  be64(type: number): bigint | null {
    return this.#view(type, 8)?.getBigUint64(0, false) ?? null;
  }

  /** Up to the first zero. */
  text(type: number): string | null {
    const value = this.#values.get(type);
    if (value === undefined) return null;
    const end = value.indexOf(0);
    return new TextDecoder().decode(end < 0 ? value : value.subarray(0, end));
  }

  /** What is nested in an attribute; empty when it is not there. @throws {NativeError} `EBADMSG` */
  nested(type: number): Attributes {
    return new Attributes(this.#values.get(type) ?? new Uint8Array(0));
  }

  list(type: number): Attribute[] {
    return attributeList(this.#values.get(type) ?? new Uint8Array(0));
  }
}
