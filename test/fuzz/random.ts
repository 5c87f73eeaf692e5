/** Random choices that a seed repeats (xorshift128), and bytes that are nearly right. */

export class Random {
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    // Any seed but zero; the constants keep neighbouring seeds apart.
    this.#state.set([seed | 1, seed ^ 0x9e3779b9, 0x243f6a88, 0xb7e15162]);
    for (let i = 0; i < 16; i++) this.next();
  }

  /** 32 bits. */
  next(): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.#state;
    let t = d ^ (d << 11);
    t ^= t >>> 8;
    const fresh = (t ^ a ^ (a >>> 19)) >>> 0;
    this.#state.set([fresh, a, b, c]);
    return fresh;
  }

  /** 0 ≤ n < `end`. */
  below(end: number): number {
    return this.next() % end;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.next());
  }

  /** Some bits flipped, some bytes set to edges, cut out or put in. */
  mutate(bytes: Uint8Array): Uint8Array {
    let out = bytes.slice();
    for (let i = this.below(4); i >= 0; i--) {
      const at = this.below(out.length + 1);
      switch (this.below(5)) {
        case 0:
          if (at < out.length) out[at] = (out[at] ?? 0) ^ (1 << this.below(8));
          break;
        case 1:
          if (at < out.length) out[at] = this.pick([0, 1, 0x7f, 0x80, 0xff]);
          break;
        case 2:
          out = out.slice(0, at);
          break;
        case 3:
          out = new Uint8Array(Buffer.concat([out.subarray(0, at), this.bytes(this.below(8)), out.subarray(at)]));
          break;
        default:
          out = new Uint8Array(Buffer.concat([out.subarray(0, at), out.subarray(at + this.below(16))]));
      }
    }
    return out;
  }
}
