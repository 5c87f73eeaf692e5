/** Heads and bodies, as they come from a wire; what came behind them is given back to it. */
import type { Wire } from "../wire.ts";
import { ChunkDecoder, encodeChunk, LAST_CHUNK } from "./chunked.ts";
import type { Framing } from "./framing.ts";
import { type Bad, bad, findHeadEnd } from "./head.ts";

/** Bytes put together piece by piece, in time that grows with their number alone. */
export class Gathered {
  #held: Uint8Array = new Uint8Array(2048);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** A view, good until the next push. */
  get bytes(): Uint8Array {
    return this.#held.subarray(0, this.#length);
  }

  push(bytes: Uint8Array): void {
    const need = this.#length + bytes.length;
    if (need > this.#held.length) {
      const larger = new Uint8Array(Math.max(need, 2 * this.#held.length));
      larger.set(this.bytes);
      this.#held = larger;
    }
    this.#held.set(bytes, this.#length);
    this.#length = need;
  }
}

export type ReadHead = { readonly kind: "head"; readonly bytes: Uint8Array } | { readonly kind: "end" } | Bad;

/** `begun` runs at its first byte. @throws {Error} when the connection broke */
export async function readHead(wire: Wire, begun: () => void): Promise<ReadHead> {
  const held = new Gathered();
  for (;;) {
    const bytes = await wire.read();
    if (bytes === null) return held.length === 0 ? { kind: "end" } : bad("the connection ended inside a head");
    if (held.length === 0) begun();
    const from = held.length;
    held.push(bytes);
    const found = findHeadEnd(held.bytes, from);
    if (found.kind === "bad") return found;
    if (found.kind === "end") {
      wire.unread(held.bytes.subarray(found.bytes));
      return { kind: "head", bytes: held.bytes.subarray(0, found.bytes) };
    }
  }
}

async function* readChunked(wire: Wire): AsyncGenerator<Uint8Array, void> {
  const chunks = new ChunkDecoder();
  for (;;) {
    const { data, rest } = chunks.push(await some(wire));
    const [only, ...more] = data;
    // In one piece, so that a body of tiny chunks costs no more than another one.
    if (only !== undefined) yield more.length === 0 ? only : Buffer.concat(data);
    if (rest === null) continue;
    wire.unread(rest);
    return;
  }
}

async function* readLength(wire: Wire, length: number): AsyncGenerator<Uint8Array, void> {
  for (let left = length; left > 0; ) {
    const bytes = await some(wire);
    const part = bytes.subarray(0, Math.min(left, bytes.length));
    left -= part.length;
    wire.unread(bytes.subarray(part.length));
    yield part;
  }
}

async function some(wire: Wire): Promise<Uint8Array> {
  const bytes = await wire.read();
  if (bytes === null) throw new Error("the connection ended inside a body");
  return bytes;
}

/** The body, without its framing. @throws {Error} when it is malformed, ends too early, or the connection broke */
export async function* readBody(wire: Wire, framing: Framing): AsyncGenerator<Uint8Array, void> {
  if (framing.kind === "chunked") yield* readChunked(wire);
  if (framing.kind === "length") yield* readLength(wire, framing.bytes);
  if (framing.kind !== "close") return;
  for (let bytes = await wire.read(); bytes !== null; bytes = await wire.read()) yield bytes;
}

/** A piece of a body, framed. */
export function framed(framing: Framing, bytes: Uint8Array): Uint8Array {
  return framing.kind === "chunked" ? encodeChunk(bytes) : bytes;
}

/** What follows the last piece. */
export function bodyEnd(framing: Framing): Uint8Array {
  return framing.kind === "chunked" ? LAST_CHUNK : new Uint8Array(0);
}
