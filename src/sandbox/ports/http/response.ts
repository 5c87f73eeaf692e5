/**
 * An answer of HTTP/1.1 out of a connection's bytes, as hostile as the guest: its head is bounded, its body is framed in one way
 * or refused, and one that is cut off is an error.
 */
import { ByteReader, ShortRead } from "../../../base/byte-reader.ts";
import { WarrenError } from "../../../errors.ts";

export interface Answer {
  readonly status: number;
  readonly statusText: string;
  readonly headers: Headers;
  /** Null: an answer of this kind has none. */
  readonly body: AsyncIterable<Uint8Array> | null;
}

const HEAD_BYTES = 64 * 1024;
/** One line that says how long a chunk is, with what may follow that. */
const CHUNK_LINE_BYTES = 4096;
const STATUS_LINE = /^HTTP\/1\.[01] ([1-5]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;
const HEADER_LINE = /^([A-Za-z0-9!#$%&'*+.^_`|~-]+):[\t ]*(.*?)[\t ]*$/;
const LF = 0x0a;

const wrong = (says: string): WarrenError => new WarrenError("guest_protocol", `its HTTP answer is wrong: ${says}`);

/** A line without its end, as a character for each byte. @throws {WarrenError} `guest_protocol` – it ends before, or is too long */
async function line(reader: ByteReader, most: number): Promise<string> {
  let text = "";
  for (;;) {
    const byte = (await reader.some(1))?.[0];
    if (byte === undefined) throw wrong("it ends within a line");
    if (byte === LF) return text.endsWith("\r") ? text.slice(0, -1) : text;
    if (text.length >= most) throw wrong(`a line of more than ${most} bytes`);
    text += String.fromCharCode(byte);
  }
}

async function headOf(reader: ByteReader): Promise<Omit<Answer, "body">> {
  let left = HEAD_BYTES;
  const next = async (): Promise<string> => {
    const text = await line(reader, left);
    left -= text.length + 1;
    if (left < 0) throw wrong(`a head of more than ${HEAD_BYTES} bytes`);
    return text;
  };
  for (;;) {
    const first = STATUS_LINE.exec(await next());
    if (first === null) throw wrong("it does not begin with a status");
    const headers = new Headers();
    for (let text = await next(); text !== ""; text = await next()) {
      const [, name, value] = HEADER_LINE.exec(text) ?? [];
      if (name === undefined || value === undefined || /[\0\r]/.test(value)) throw wrong("a header that is none");
      headers.append(name, value);
    }
    const status = Number(first[1]);
    if (status === 101) throw wrong("it changes to another protocol");
    if (status >= 200) return { status, statusText: first[2] ?? "", headers };
  }
}

/** Bytes of the body; null when they end with the connection; `chunked`. */
function framing({ status, headers }: Omit<Answer, "body">, method: string): number | null | "chunked" {
  if (method === "HEAD" || status === 204 || status === 304) return 0;
  const coding = headers.get("transfer-encoding");
  const length = headers.get("content-length");
  if (coding !== null) {
    if (length !== null) throw wrong("it tells its length in two ways");
    if (coding.trim().toLowerCase() !== "chunked") throw wrong("a transfer coding that is not known");
    return "chunked";
  }
  if (length === null) return null;
  const all = new Set(length.split(",").map((text) => text.trim()));
  const [only = ""] = all;
  if (all.size > 1 || !/^\d{1,15}$/.test(only)) throw wrong("a length that is none");
  return Number(only);
}

async function* untilEnd(reader: ByteReader): AsyncGenerator<Uint8Array> {
  for (let piece = await reader.some(Infinity); piece !== null; piece = await reader.some(Infinity)) yield piece;
}

async function* chunks(reader: ByteReader): AsyncGenerator<Uint8Array> {
  for (;;) {
    const [, size] = /^([0-9A-Fa-f]{1,8})[\t ]*(?:;.*)?$/.exec(await line(reader, CHUNK_LINE_BYTES)) ?? [];
    if (size === undefined) throw wrong("a chunk without its length");
    const bytes = Number.parseInt(size, 16);
    if (bytes === 0) break;
    yield* reader.pieces(bytes, () => undefined);
    if ((await line(reader, 1)) !== "") throw wrong("a chunk that is longer than it says");
  }
  // Trailers are of no use to a `Response`.
  for (let left = HEAD_BYTES; ; ) {
    const text = await line(reader, left);
    if (text === "") return;
    left -= text.length;
  }
}

async function* explained(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (cause) {
    throw cause instanceof ShortRead ? wrong("it ends too early") : cause;
  }
}

/** Reads the head. `method` is the request's. @throws {WarrenError} `guest_protocol` – it is no HTTP; what `source` throws */
export async function answerOf(source: AsyncIterable<Uint8Array>, method: string): Promise<Answer> {
  const reader = new ByteReader(source);
  const head = await headOf(reader);
  const length = framing(head, method);
  if (length === 0) return { ...head, body: null };
  const body =
    length === "chunked" ? chunks(reader) : length === null ? untilEnd(reader) : reader.pieces(length, () => undefined);
  return { ...head, body: explained(body) };
}
