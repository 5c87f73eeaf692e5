/** Bodies of HTTP/1.1 messages: how an answer's is framed, taken out of its frame, and a request's put into one. */
import { ByteReader } from "../../../base/byte-reader.ts";
import { HttpError, type ResponseHead } from "./head.ts";

export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunks" }
  | { readonly kind: "rest" };

const EMPTY: ReadonlySet<number> = new Set([204, 205, 304]);
/** A size in hex, with what nobody reads behind it; and trailers, which nobody reads either. */
const LINE_BYTES = 1024;
const TRAILERS = 64;

/** RFC 9112, section 6.3. @throws {HttpError} – it could be read in two ways */
export function framingOf(method: string, { status, headers }: ResponseHead): Framing {
  if (method === "HEAD" || EMPTY.has(status)) return { kind: "none" };
  const all = (wanted: string): string[] =>
    headers.filter(([name]) => name === wanted).flatMap(([, value]) => value.split(",").map((part) => part.trim()));
  const encodings = all("transfer-encoding");
  if (encodings.length > 0) {
    if (encodings.length === 1 && encodings[0]?.toLowerCase() === "chunked") return { kind: "chunks" };
    throw new HttpError("it answered with a transfer encoding that nobody asked for");
  }
  const [length, ...others] = new Set(all("content-length"));
  if (length === undefined) return { kind: "rest" };
  if (others.length > 0 || !/^\d{1,15}$/.test(length)) throw new HttpError("it answered with a length that is none");
  return { kind: "length", bytes: Number(length) };
}

/** The body's own bytes. @throws {HttpError} – it broke off, or its chunks are none */
export async function* unframed(framing: Framing, pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (framing.kind === "none" || (framing.kind === "length" && framing.bytes === 0)) return;
  if (framing.kind === "rest") yield* pieces;
  else if (framing.kind === "length") yield* exactly(framing.bytes, pieces);
  else yield* chunks(new ByteReader(pieces));
}

async function* exactly(bytes: number, pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let left = bytes;
  for await (const piece of pieces) {
    if (piece.length === 0) continue;
    const part = piece.subarray(0, left);
    left -= part.length;
    yield part;
    if (left === 0) return;
  }
  throw new HttpError("its answer broke off");
}

async function* chunks(reader: ByteReader): AsyncGenerator<Uint8Array> {
  for (;;) {
    const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(await line(reader))?.[1];
    if (size === undefined) throw new HttpError("its answer has a chunk without a size");
    let left = Number.parseInt(size, 16);
    if (left === 0) break;
    while (left > 0) {
      const part = await reader.some(left);
      if (part === null) throw new HttpError("its answer broke off");
      left -= part.length;
      yield part;
    }
    if ((await line(reader)) !== "") throw new HttpError("its answer has a chunk that is longer than it says");
  }
  for (let trailers = 0; (await line(reader)) !== ""; trailers += 1)
    if (trailers === TRAILERS) throw new HttpError("its answer has trailers without an end");
}

async function line(reader: ByteReader): Promise<string> {
  let text = "";
  while (text.length <= LINE_BYTES) {
    const byte = await reader.some(1);
    if (byte === null) throw new HttpError("its answer broke off");
    if (byte[0] === 0x0a) return text.replace(/\r$/, "");
    text += String.fromCharCode(byte[0] ?? 0);
  }
  throw new HttpError("its answer has a line without an end");
}

/** A request's body, in chunks or, when its length is known, exactly that long. @throws {HttpError} – it is not */
export async function* framed(body: AsyncIterable<Uint8Array>, length: number | null): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const piece of body) {
    if (piece.length === 0) continue;
    bytes += piece.length;
    if (length !== null && bytes > length) throw new HttpError("the request is longer than it says");
    if (length === null) yield new Uint8Array(Buffer.from(`${piece.length.toString(16)}\r\n`, "latin1"));
    yield piece;
    if (length === null) yield CRLF;
  }
  if (length === null) yield new Uint8Array(Buffer.from("0\r\n\r\n", "latin1"));
  else if (bytes < length) throw new HttpError("the request is shorter than it says");
}

const CRLF = Uint8Array.of(0x0d, 0x0a);
