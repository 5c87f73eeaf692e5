/** The chunked coding (RFC 9112 7.1), read strictly and in any pieces; extensions and trailers are checked and dropped. */
import { BOUNDS } from "../bounds.ts";

const SIZE = /^([0-9a-fA-F]{1,12})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;
const TRAILER = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*$/;
const [CR, LF] = [13, 10];

/** -1 for what is no hexadecimal digit. */
function hex(byte = 0): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const letter = byte | 0x20;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}

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
      const quick = this.#line === "" ? this.#quick(bytes, at) : 0;
      if (quick > 0) {
        at += quick;
        continue;
      }
      const end = bytes.indexOf(LF, at) + 1;
      const part = bytes.subarray(at, end === 0 ? bytes.length : end);
      at += part.length;
      const line = this.#lineWith(part);
      if (line !== null && this.#took(line)) return { data, rest: bytes.subarray(at) };
    }
    return { data, rest: null };
  }

  /**
   * How many bytes a plain line takes that lies whole at `at`: the end of a chunk, or a size without extension that is not the last
   * chunk's. 0: it has to be read with care. A body may be made of chunks of one byte, whose lines must then cost little.
   */
  #quick(bytes: Uint8Array, at: number): number {
    let [size, end] = [0, at];
    if (this.#state === "size") {
      for (let digit = hex(bytes[end]); digit >= 0 && end - at < 8; digit = hex(bytes[end])) {
        size = size * 16 + digit;
        end++;
      }
      if (size === 0) return 0;
    } else if (this.#state !== "data-end") return 0;
    if (bytes[end] !== CR || bytes[end + 1] !== LF) return 0;
    this.#left = size;
    this.#state = size > 0 ? "data" : "size";
    return end + 2 - at;
  }

  /** The line that `part` ends, without its end; null while there is more of it. What cannot become one is refused at once. */
  #lineWith(part: Uint8Array): string | null {
    const most = this.#state === "size" ? BOUNDS.chunkLineBytes : BOUNDS.trailerBytes;
    if (this.#line.length + part.length > most) throw new Error("a line of the body is too long");
    const line = this.#line + Buffer.from(part.buffer, part.byteOffset, part.length).toString("latin1");
    if (this.#state === "data-end" && !"\r\n".startsWith(line)) throw new Error("a chunk is longer than it says");
    const whole = line.endsWith("\n");
    const end = line.indexOf("\r");
    if (whole ? end !== line.length - 2 : end >= 0 && end !== line.length - 1) {
      throw new Error("a line of the body does not end as it should");
    }
    this.#line = whole ? "" : line;
    return whole ? line.slice(0, -2) : null;
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
