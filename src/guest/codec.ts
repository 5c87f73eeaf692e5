/**
 * Frames to bytes and back. Pure and incremental: bytes may arrive cut anywhere, a frame's length is checked against its
 * bound before anything is allocated for it, and a decoder that has seen one violation never yields a frame again.
 */
import { assert } from "../base/assert.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { HEADER_BYTES } from "./protocol.ts";

export interface Frame {
  readonly type: number;
  readonly channel: number;
  /** The frame's own bytes, not a view of what was pushed. */
  readonly payload: Uint8Array;
}

/** No payload; shared, since it has no bytes to change. */
export const NO_BYTES = new Uint8Array(0);

/** What a guest sent that the protocol does not allow; `says` is ours, never guest bytes. */
export function violation(says: string): WarrenError {
  return new WarrenError("guest_protocol", `the guest broke the protocol: ${says}`);
}

/** One frame as bytes; a payload above `LIMITS.frameBytes` is a bug of ours. */
export function encodeFrame(type: number, channel: number, payload: Uint8Array = NO_BYTES): Uint8Array {
  assert(payload.length <= LIMITS.frameBytes, "a payload fits its frame");
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, payload.length, true);
  view.setUint8(4, type);
  view.setUint32(8, channel, true);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** Turns chunks into frames; holds at most one unfinished frame. */
export class FrameDecoder {
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #view = new DataView(this.#header.buffer);
  #headerFill = 0;
  /** Set once the header is complete. */
  #payload: Uint8Array | null = null;
  #payloadFill = 0;
  #broken: WarrenError | null = null;

  /** Bytes of an unfinished frame that are held. */
  get pendingBytes(): number {
    return this.#headerFill + this.#payloadFill;
  }

  /**
   * Every frame that `chunk` completes, in order.
   * @throws {WarrenError} `guest_protocol` – a header out of bounds; then at every later push too. Frames that came
   * before it in the same chunk are lost with it: the connection is over.
   */
  push(chunk: Uint8Array): Frame[] {
    if (this.#broken !== null) throw this.#broken;
    const frames: Frame[] = [];
    let at = 0;
    while (at < chunk.length) {
      at += this.#payload === null ? this.#fillHeader(chunk, at) : this.#fillPayload(this.#payload, chunk, at);
      if (this.#payload !== null && this.#payloadFill === this.#payload.length) frames.push(this.#take(this.#payload));
    }
    return frames;
  }

  #fillHeader(chunk: Uint8Array, at: number): number {
    const count = Math.min(HEADER_BYTES - this.#headerFill, chunk.length - at);
    this.#header.set(chunk.subarray(at, at + count), this.#headerFill);
    this.#headerFill += count;
    if (this.#headerFill === HEADER_BYTES) this.#payload = new Uint8Array(this.#checkedLength());
    return count;
  }

  #fillPayload(payload: Uint8Array, chunk: Uint8Array, at: number): number {
    const count = Math.min(payload.length - this.#payloadFill, chunk.length - at);
    payload.set(chunk.subarray(at, at + count), this.#payloadFill);
    this.#payloadFill += count;
    return count;
  }

  #checkedLength(): number {
    const length = this.#view.getUint32(0, true);
    if (length > LIMITS.frameBytes) this.#break(`a frame of ${length} bytes`);
    if (this.#header[5] !== 0 || this.#header[6] !== 0 || this.#header[7] !== 0)
      this.#break("a header with stray bits");
    return length;
  }

  #break(says: string): never {
    this.#broken = violation(says);
    throw this.#broken;
  }

  #take(payload: Uint8Array): Frame {
    const frame = { type: this.#view.getUint8(4), channel: this.#view.getUint32(8, true), payload };
    this.#headerFill = 0;
    this.#payload = null;
    this.#payloadFill = 0;
    return frame;
  }
}
