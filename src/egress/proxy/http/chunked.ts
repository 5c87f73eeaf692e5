/** The chunked coding (RFC 9112 7.1), read strictly and in any pieces; extensions and trailers are checked and dropped. */
import { BOUNDS } from "../bounds.ts";

const SIZE = /^([0-9a-fA-F]{1,12})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;
const TRAILER = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*$/;
const [CR, LF] = [13, 10];

export interface Chunks {
  /** The body's next bytes: views into what was pushed. */
  readonly data: readonly Uint8Array[];
  /** Once the body is over: what came behind it. */
  readonly rest: Uint8Array | null;
}

export class ChunkDecoder {
  #state: "size" | "data" | "data-end" | "trailer" = "size";
  #line = "";
  /** Of the chunk at hand. */
  #left = 0;
  #trailerBytes = 0;

  /** @throws {Error} for what is not well-formed, saying what */
  push(bytes: Uint8Array): Chunks {
    const data: Uint8Array[] = [];
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === "data") {
        const part = bytes.subarray(at, at + this.#left);
        data.push(part);
        at += part.length;
        this.#left -= part.length;
        if (this.#left === 0) this.#state = "data-end";
        continue;
      }
      const line = this.#lineUpTo(bytes[at++] ?? 0);
      if (line !== null && this.#took(line)) return { data, rest: bytes.subarray(at) };
    }
    return { data, rest: null };
  }

  /** The line that `byte` ends, without its end; null while there is more of it. */
  #lineUpTo(byte: number): string | null {
    const inEnd = this.#line.endsWith("\r");
    if (inEnd !== (byte === LF)) throw new Error("a line of the body does not end as it should");
    if (!inEnd) {
      if (this.#state === "data-end" && byte !== CR) throw new Error("a chunk is longer than it says");
      const most = this.#state === "size" ? BOUNDS.chunkLineBytes : BOUNDS.trailerBytes;
      if (this.#line.length >= most) throw new Error("a line of the body is too long");
      this.#line += String.fromCharCode(byte);
      return null;
    }
    const line = this.#line.slice(0, -1);
    this.#line = "";
    return line;
  }

  /** True when that was the last one. */
  #took(line: string): boolean {
    if (this.#state === "data-end") this.#state = "size";
    else if (this.#state === "size") {
      const match = SIZE.exec(line);
      if (match === null) throw new Error("a chunk's size is malformed");
      this.#left = Number.parseInt(match[1] ?? "", 16);
      this.#state = this.#left === 0 ? "trailer" : "data";
    } else {
      if (line === "") return true;
      this.#trailerBytes += line.length;
      if (this.#trailerBytes > BOUNDS.trailerBytes || !TRAILER.test(line)) throw new Error("a trailer is malformed");
    }
    return false;
  }
}

/** One chunk; not for an empty one, which would be the last. */
export function encodeChunk(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);
}

export const LAST_CHUNK: Uint8Array = Buffer.from("0\r\n\r\n");
