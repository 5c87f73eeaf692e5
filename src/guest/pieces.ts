/**
 * Small answers that wait to be read, as records in one buffer: type (1 byte), length (2), bytes. Whatever a guest sends, and
 * in whatever turns, a waiting byte costs a few here; as objects of their own, turns of one byte would cost thousands each.
 */

const BUFFER_BYTES = 4096;
const HEAD_BYTES = 3;

export interface Piece {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** Largest piece that is worth the copy. */
export const PIECE_BYTES = BUFFER_BYTES / 4;

export class Pieces {
  readonly #bytes = new Uint8Array(BUFFER_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  #fill = 0;
  #read = 0;
  /** Where the newest record begins; it is unread while anything is. */
  #newest = 0;

  get empty(): boolean {
    return this.#read === this.#fill;
  }

  /** Puts a piece at the end, joined with the one before when `join` and of its type; false when there is no room. */
  put(type: number, bytes: Uint8Array, join: boolean): boolean {
    const joins = join && !this.empty && this.#bytes[this.#newest] === type;
    const head = joins ? 0 : HEAD_BYTES;
    if (this.#fill + head + bytes.length > BUFFER_BYTES) return false;
    if (!joins) {
      this.#newest = this.#fill;
      this.#view.setUint8(this.#newest, type);
      this.#view.setUint16(this.#newest + 1, 0);
    }
    this.#bytes.set(bytes, this.#fill + head);
    this.#fill += head + bytes.length;
    this.#view.setUint16(this.#newest + 1, this.#fill - this.#newest - HEAD_BYTES);
    return true;
  }

  /** The newest piece's bytes, to be changed in place, when it is of this type. */
  newest(type: number): DataView | null {
    if (this.empty || this.#bytes[this.#newest] !== type) return null;
    return new DataView(this.#bytes.buffer, this.#newest + HEAD_BYTES, this.#fill - this.#newest - HEAD_BYTES);
  }

  /** The oldest piece, with bytes of its own. Only while not `empty`. */
  take(): Piece {
    const start = this.#read + HEAD_BYTES;
    const end = start + this.#view.getUint16(this.#read + 1);
    const type = this.#view.getUint8(this.#read);
    this.#read = end;
    return { type, bytes: this.#bytes.slice(start, end) };
  }
}
