/**
 * Bytes from a WebSocket for a sandbox that takes them at its own pace. The runtime cannot be told to read no more, so what
 * waits is bounded: a client that is too far ahead is told so, and cut off.
 */
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";

export class Inbox implements AsyncIterable<Uint8Array> {
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #isEnded = false;
  #failure: Error | null = null;
  #more = Promise.withResolvers<void>();

  /** @throws {WarrenError} `too_large` – more waits than is allowed */
  push(bytes: Uint8Array): void {
    if (this.#isEnded || bytes.length === 0) return;
    if (this.#bytes + bytes.length > BOUNDS.socketInboxBytes) {
      const says = `more than ${BOUNDS.socketInboxBytes} bytes wait for a program that does not read them: send more slowly`;
      throw new WarrenError("too_large", says);
    }
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
    this.#more.resolve();
  }

  end(): void {
    this.#isEnded = true;
    this.#more.resolve();
  }

  fail(why: Error): void {
    this.#failure ??= why;
    this.#parts = [];
    this.end();
  }

  /** All that waits, in one piece; null at the end. */
  async #next(): Promise<Uint8Array | null> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#parts.length > 0) {
        const all = this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts);
        this.#parts = [];
        this.#bytes = 0;
        if (all !== undefined) return all;
      }
      if (this.#isEnded) return null;
      this.#more = Promise.withResolvers();
      await this.#more.promise;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (let bytes = await this.#next(); bytes !== null; bytes = await this.#next()) yield bytes;
  }
}
