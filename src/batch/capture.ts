/** Keeps the beginning of a stream up to a cap, and whether there was more. */
export class Capture {
  readonly #parts: Uint8Array[] = [];
  #left: number;
  #cut = false;

  constructor(cap: number) {
    this.#left = cap;
  }

  add(bytes: Uint8Array): void {
    if (bytes.length > this.#left) this.#cut = true;
    if (this.#left === 0) return;
    // A copy: the chunk may be a view on a buffer that its owner uses again.
    const part = bytes.slice(0, this.#left);
    this.#left -= part.length;
    this.#parts.push(part);
  }

  get cut(): boolean {
    return this.#cut;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}
