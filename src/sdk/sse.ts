/**
 * Server-sent events out of bytes, cut anywhere: lines end with LF or CRLF, a blank line ends a block, comments and fields that
 * are not known are passed over, a block that the end of the stream cuts off is none. What one block may hold is bounded.
 */
import { WarrenError } from "../errors.ts";

const LF = 0x0a;
const BOM = "\ufeff";

/** One block, its data as text. */
export interface Block {
  readonly event: string;
  readonly data: string;
}

export class BlockReader {
  readonly #limitBytes: number;
  /** Of the line that has not ended. */
  #parts: Uint8Array[] = [];
  /** Of the block that has not ended. */
  #bytes = 0;
  #event = "";
  #data: string[] = [];
  #isFirst = true;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Blocks that these bytes complete. @throws {WarrenError} `connection_failed` – a block over the bound */
  *take(bytes: Uint8Array): Generator<Block> {
    for (let at = 0; at < bytes.length; ) {
      const end = bytes.indexOf(LF, at);
      const part = bytes.subarray(at, end < 0 ? bytes.length : end);
      this.#bytes += part.length;
      if (this.#bytes > this.#limitBytes) {
        const says = `the server sent an event of more than ${this.#limitBytes} bytes`;
        throw new WarrenError("connection_failed", says, { details: { maxBytes: this.#limitBytes } });
      }
      if (end < 0) {
        this.#parts.push(part.slice()); // whoever reads may use its buffer again
        return;
      }
      const block = this.#line(this.#text(part));
      if (block !== null) yield block;
      at = end + 1;
    }
  }

  #text(last: Uint8Array): string {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const parts = this.#parts;
    this.#parts = [];
    const text = parts.map((part) => decoder.decode(part, { stream: true })).join("") + decoder.decode(last);
    const whole = this.#isFirst && text.startsWith(BOM) ? text.slice(1) : text;
    this.#isFirst = false;
    return whole.endsWith("\r") ? whole.slice(0, -1) : whole;
  }

  #line(line: string): Block | null {
    if (line === "") return this.#blank();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.#event = value;
    if (field === "data") this.#data.push(value);
    // Endless comments are no block that grows.
    if (field === "" && this.#data.length === 0) this.#bytes = 0;
    return null;
  }

  #blank(): Block | null {
    const [event, data] = [this.#event, this.#data];
    this.#event = "";
    this.#data = [];
    this.#bytes = 0;
    if (data.length === 0) return null;
    return { event: event === "" ? "message" : event, data: data.join("\n") };
  }
}
