/** Exact reads over a stream of chunks of any size, holding one chunk at a time. */

/** The stream ended inside what was asked for. */
export class ShortRead extends Error {
  override readonly name = "ShortRead";
}

export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Between 1 and `most` bytes, or null at the end. */
  async some(most: number): Promise<Uint8Array | null> {
    while (this.#chunk.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return null;
      this.#chunk = next.value;
    }
    const part = this.#chunk.subarray(0, most);
    this.#chunk = this.#chunk.subarray(part.length);
    return part;
  }

  /** Exactly `length` bytes; null when the stream ends before the first of them. */
  async exact(length: number): Promise<Uint8Array | null> {
    const out = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      const part = await this.some(length - at);
      if (part === null) {
        if (at === 0) return null;
        throw new ShortRead("the stream ends too early");
      }
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  /** Up to `length` bytes, piece by piece. */
  async *pieces(length: number, read: (bytes: number) => void): AsyncGenerator<Uint8Array> {
    let left = length;
    while (left > 0) {
      const part = await this.some(left);
      if (part === null) throw new ShortRead("the stream ends too early");
      left -= part.length;
      read(part.length);
      yield part;
    }
  }

  async skip(length: number): Promise<void> {
    let left = length;
    while (left > 0) {
      const part = await this.some(left);
      if (part === null) throw new ShortRead("the stream ends too early");
      left -= part.length;
    }
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }
}
