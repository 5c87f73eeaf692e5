/**
 * Finds the answer to our HELLO in whatever an earlier connection left in the stream: a header on the channel that we have
 * just drawn at random. Everything before it is dropped.
 */
import { HEADER_BYTES, SAY } from "./protocol.ts";

/** No greeting is longer. */
const GREETING_BYTES = 1024;

export class HelloFinder {
  readonly #needle: Uint8Array;
  #found = false;
  /** The end of what has been dropped: a header may begin there. */
  #tail = new Uint8Array(0);

  constructor(channel: number) {
    this.#needle = new Uint8Array(7);
    new DataView(this.#needle.buffer).setUint32(3, channel, true);
  }

  /** What of the stream comes at or after the answer. */
  take(chunk: Uint8Array): Uint8Array {
    if (this.#found) return chunk;
    const bytes = new Uint8Array(this.#tail.length + chunk.length);
    bytes.set(this.#tail);
    bytes.set(chunk, this.#tail.length);
    const view = Buffer.from(bytes.buffer);
    for (let at = view.indexOf(this.#needle, 5); at !== -1; at = view.indexOf(this.#needle, at + 1)) {
      const type = view[at - 1];
      const answers = type === SAY.HELLO || type === SAY.ERROR;
      if (!answers || view.readUInt32LE(at - 5) > GREETING_BYTES) continue;
      this.#found = true;
      return bytes.subarray(at - 5);
    }
    this.#tail = bytes.slice(-(HEADER_BYTES - 1));
    return new Uint8Array(0);
  }
}
