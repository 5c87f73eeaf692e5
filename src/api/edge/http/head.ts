/** Heads of HTTP/1.1 messages to and from programs in sandboxes: written exactly, read strictly, bounded before they are kept. Pure. */
import { BOUNDS } from "../bounds.ts";

/** What came is no HTTP that could be handed on. */
export class HttpError extends Error {
  override readonly name = "HttpError";
}

export interface RequestHead {
  readonly method: string;
  /** Path and query as a URL has them: without a space or a control character. */
  readonly path: string;
  readonly host: string;
  /** Beside Host and Connection. */
  readonly headers: Iterable<readonly [string, string]>;
  readonly connection: string;
}

export function requestBytes({ method, path, host, headers, connection }: RequestHead): Uint8Array {
  const lines = [`${method} ${path} HTTP/1.1`, `Host: ${host}`, `Connection: ${connection}`];
  for (const [name, value] of headers) lines.push(`${name}: ${value}`);
  return new Uint8Array(Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"));
}

export interface ResponseHead {
  /** 101, or 200 to 599. */
  readonly status: number;
  /** In order, names in lower case. */
  readonly headers: readonly (readonly [string, string])[];
}

const LF = 0x0a;
const CR = 0x0d;
const STATUS = /^HTTP\/1\.[01] ([1-5]\d\d)(?: .*)?$/;
const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
/** Printable, a tab, or beyond ASCII. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** The end of a head within the bytes: behind an empty line, whichever way lines end. −1 while there is none. */
function endOf(bytes: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(LF, from); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    const next = bytes[at + 1] === CR ? at + 2 : at + 1;
    if (bytes[next] === LF) return next + 1;
  }
  return -1;
}

/** Takes bytes until a final head has ended; what says "wait" before it is passed over. */
export class HeadReader {
  #unread: Uint8Array = new Uint8Array(0);
  #seen = 0;

  /** Null until all of it is there. `rest` is what came behind it. @throws {HttpError} */
  take(piece: Uint8Array): { readonly head: ResponseHead; readonly rest: Uint8Array } | null {
    let from = Math.max(0, this.#unread.length - 2);
    this.#unread = this.#unread.length === 0 ? piece : Buffer.concat([this.#unread, piece]);
    for (;;) {
      const end = endOf(this.#unread, from);
      if (this.#seen + (end < 0 ? this.#unread.length : end) > BOUNDS.headBytes)
        throw new HttpError(`it answered with more than ${BOUNDS.headBytes} bytes of HTTP head`);
      if (end < 0) {
        this.#unread = this.#unread.slice(); // the piece may be a view of what is used again
        return null;
      }
      const head = parsed(Buffer.from(this.#unread.subarray(0, end)).toString("latin1"));
      const rest = this.#unread.subarray(end);
      if (head.status === 101 || head.status >= 200) return { head, rest };
      this.#seen += end;
      this.#unread = rest;
      from = 0;
    }
  }
}

function parsed(text: string): ResponseHead {
  const [first = "", ...lines] = text.split(/\r?\n/);
  const status = STATUS.exec(first)?.[1];
  if (status === undefined) throw new HttpError("it did not answer as HTTP");
  const headers = lines.filter((line) => line !== "").map(fieldOf);
  if (headers.length > BOUNDS.headFields) throw new HttpError(`it answered with ${headers.length} headers`);
  return { status: Number(status), headers };
}

function fieldOf(line: string): readonly [string, string] {
  const at = line.indexOf(":");
  const [name, value] = [line.slice(0, Math.max(0, at)).toLowerCase(), line.slice(at + 1).trim()];
  if (at < 1 || !NAME.test(name) || !VALUE.test(value)) throw new HttpError("it answered with a header that is none");
  return [name, value];
}
