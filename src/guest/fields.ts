/**
 * The tagged fields of structured payloads: `u8 tag, u32 length, bytes`. Reading checks every length against what is left,
 * refuses a known tag that comes twice (but ARG and ENV) and skips unknown ones, so that either side may be the newer.
 */
import { NO_BYTES, violation } from "./codec.ts";
import { TAG } from "./protocol.ts";

const FIELD_HEADER_BYTES = 5;
const KNOWN: ReadonlySet<number> = new Set(Object.values(TAG));
const REPEATED: ReadonlySet<number> = new Set([TAG.ARG, TAG.ENV]);
const NONE: readonly Uint8Array[] = [];

/** A number or bigint travels as 64 bits little-endian (negative ones as two's complement), text as UTF-8. */
export type FieldValue = Uint8Array | string | number | bigint;
export type Field = readonly [tag: number, value: FieldValue];

function valueBytes(value: FieldValue): Uint8Array {
  if (typeof value === "string") return new TextEncoder().encode(value);
  if (value instanceof Uint8Array) return value;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return bytes;
}

/** Fields as a payload, in the order given. */
export function encodeFields(fields: readonly Field[]): Uint8Array {
  if (fields.length === 0) return NO_BYTES;
  const values = fields.map(([, value]) => valueBytes(value));
  const bytes = new Uint8Array(values.reduce((sum, value) => sum + FIELD_HEADER_BYTES + value.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  fields.forEach(([tag], index) => {
    const value = values[index] ?? NO_BYTES;
    view.setUint8(at, tag);
    view.setUint32(at + 1, value.length, true);
    bytes.set(value, at + FIELD_HEADER_BYTES);
    at += FIELD_HEADER_BYTES + value.length;
  });
  return bytes;
}

/** The fields of one payload. Every accessor throws `guest_protocol` when what is there has the wrong shape. */
export class Fields {
  readonly #values: ReadonlyMap<number, readonly Uint8Array[]>;

  constructor(values: ReadonlyMap<number, readonly Uint8Array[]>) {
    this.#values = values;
  }

  has(tag: number): boolean {
    return this.#values.has(tag);
  }

  /** Every value of a repeatable tag, in order. */
  all(tag: number): readonly Uint8Array[] {
    return this.#values.get(tag) ?? NONE;
  }

  optionalBytes(tag: number): Uint8Array | null {
    return this.all(tag)[0] ?? null;
  }

  bytes(tag: number): Uint8Array {
    const value = this.optionalBytes(tag);
    if (value === null) throw violation(`field ${tag} is missing`);
    return value;
  }

  /** UTF-8 text; bytes that are not become U+FFFD. */
  text(tag: number): string {
    return new TextDecoder().decode(this.bytes(tag));
  }

  u64(tag: number): bigint {
    return this.#view(tag).getBigUint64(0, true);
  }

  i64(tag: number): bigint {
    return this.#view(tag).getBigInt64(0, true);
  }

  /** An unsigned integer that a double holds exactly. */
  number(tag: number): number {
    return exact(this.u64(tag));
  }

  /** `number`, or `fallback` when the field is absent. */
  numberOr(tag: number, fallback: number): number {
    return this.has(tag) ? this.number(tag) : fallback;
  }

  /** A signed integer that a double holds exactly. */
  signed(tag: number): number {
    return exact(this.i64(tag));
  }

  #view(tag: number): DataView {
    const value = this.bytes(tag);
    if (value.length !== 8) throw violation(`field ${tag} is ${value.length} bytes, not 8`);
    return new DataView(value.buffer, value.byteOffset, 8);
  }
}

/** @throws {WarrenError} `guest_protocol` – beyond ±(2^53 − 1). */
export function exact(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw violation("an integer out of range");
  return number;
}

/**
 * The fields of a payload; values are views of it.
 * @throws {WarrenError} `guest_protocol` – a field runs past the end, or a known one comes twice.
 */
export function decodeFields(payload: Uint8Array): Fields {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const values = new Map<number, Uint8Array[]>();
  let at = 0;
  while (at < payload.length) {
    if (payload.length - at < FIELD_HEADER_BYTES) throw violation("a field without its header");
    const tag = view.getUint8(at);
    const length = view.getUint32(at + 1, true);
    at += FIELD_HEADER_BYTES;
    if (length > payload.length - at) throw violation(`field ${tag} runs past its frame`);
    if (KNOWN.has(tag)) keep(values, tag, payload.subarray(at, at + length));
    at += length;
  }
  return new Fields(values);
}

function keep(values: Map<number, Uint8Array[]>, tag: number, value: Uint8Array): void {
  const before = values.get(tag);
  if (before === undefined) values.set(tag, [value]);
  else if (REPEATED.has(tag)) before.push(value);
  else throw violation(`field ${tag} comes twice`);
}
