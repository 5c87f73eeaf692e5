/**
 * Bytes from a WebSocket for a sandbox that takes them at its own pace. The runtime cannot be told to read no more, so what
 * waits is bounded, here and with all that waits for its account: a client that is too far ahead is told so, and cut off.
 */
import { WarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";
import type { Charge } from "../streams/budget.ts";

export class Inbox implements AsyncIterable<Uint8Array> {
  readonly #charge: Charge;
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #isEnded = false;
  #failure: Error | null = null;
  #more = Promise.withResolvers<void>();

  constructor(charge: Charge) {
    this.#charge = charge;
  }

  /** @throws {WarrenError} `too_large` – more waits than is allowed */
  push(bytes: Uint8Array): void {
    if (this.#isEnded || bytes.length === 0) return;
    if (this.#bytes + bytes.length > BOUNDS.socketInboxBytes) {
      const says = `more than ${BOUNDS.socketInboxBytes} bytes wait for a program that does not read them: send more slowly`;
      throw new WarrenError("too_large", says);
    }
    if (!this.#charge.take(bytes.length)) {
      const says =
        "all WebSockets together hold as many bytes as they may for programs that do not read: send more slowly";
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
    this.drop();
  }

  /** Nobody reads it any more: what waits is forgotten, and so is what comes. */
  drop(): void {
    this.#parts = [];
    this.#bytes = 0;
    this.#charge.close();
    this.end();
  }

  /** All that waits, each piece as it came; null at the end. */
  async #next(): Promise<Uint8Array[] | null> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#parts.length > 0) {
        const all = this.#parts;
        this.#parts = [];
        this.#bytes = 0;
        return all;
      }
      if (this.#isEnded) return null;
      this.#more = Promise.withResolvers();
      await this.#more.promise;
    }
  }

  /** All that waits at a time, in one piece, which counts as waiting until the next is asked for. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (let parts = await this.#next(); parts !== null; parts = await this.#next()) {
      const [first] = parts;
      const all = parts.length === 1 && first !== undefined ? first : Buffer.concat(parts);
      const sizes = parts.map(({ length }) => length);
      parts.length = 0;
      yield all;
      for (const size of sizes) this.#charge.release(size);
    }
  }
}
