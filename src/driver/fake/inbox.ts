/**
 * The guest's end of the host's frames. Unlike the host's decoder it skips padding: a header of zeros, and every zero byte
 * after it, which is how a host makes sure that no half frame of an earlier one is left in the port.
 */
import { type Frame, violation } from "../../guest/codec.ts";
import { HEADER_BYTES } from "../../guest/protocol.ts";
import { LIMITS } from "../../limits.ts";

export class Inbox {
  #held = new Uint8Array(0);
  #padding = false;

  /** Every frame that `chunk` completes. @throws {WarrenError} `guest_protocol` – the host broke the protocol. */
  push(chunk: Uint8Array): Frame[] {
    this.#held = new Uint8Array(Buffer.concat([this.#held, chunk]));
    const frames: Frame[] = [];
    for (let frame = this.#next(); frame !== null; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #next(): Frame | null {
    this.#skipPadding();
    if (this.#held.length < HEADER_BYTES) return null;
    const view = new DataView(this.#held.buffer, this.#held.byteOffset);
    const length = view.getUint32(0, true);
    if (length > LIMITS.frameBytes) throw violation(`the host sent a frame of ${length} bytes`);
    if (this.#held.length < HEADER_BYTES + length) return null;
    const payload = this.#held.slice(HEADER_BYTES, HEADER_BYTES + length);
    const frame = { type: view.getUint8(4), channel: view.getUint32(8, true), payload };
    this.#held = this.#held.slice(HEADER_BYTES + length);
    return frame;
  }

  #skipPadding(): void {
    if (!this.#padding) {
      if (this.#held.length < HEADER_BYTES) return;
      this.#padding = this.#held.subarray(0, HEADER_BYTES).every((b) => b === 0);
    }
    if (!this.#padding) return;
    const at = this.#held.findIndex((b) => b !== 0);
    this.#padding = at < 0;
    this.#held = at < 0 ? new Uint8Array(0) : this.#held.slice(at);
  }
}
