/** A request of HTTP/1.1 as the bytes of a connection of its own. */
import { WarrenError } from "../../../errors.ts";

const TOKEN = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
/** What the framing of a body is, is not for the caller to say. */
const FRAMING = ["content-length", "transfer-encoding", "connection", "host", "expect", "upgrade", "te", "trailer"];
const encoder = new TextEncoder();

/** `host` is its Host. @throws {WarrenError} `invalid_request` – a method that is none */
export async function requestBytes(url: URL, init: RequestInit, host: string): Promise<AsyncIterable<Uint8Array>> {
  const method = (init.method ?? "GET").toUpperCase();
  if (!TOKEN.test(method) || method === "CONNECT")
    throw new WarrenError("invalid_request", `method: got ${JSON.stringify(method)}`, { details: { field: "method" } });
  const headers = new Headers(init.headers);
  for (const name of FRAMING) headers.delete(name);
  headers.set("host", host);
  headers.set("connection", "close");
  if (!headers.has("accept")) headers.set("accept", "*/*");
  const { body } = init;
  const isStream = body instanceof ReadableStream || isIterable(body);
  const whole = body === undefined || body === null || isStream ? null : new Response(body);
  const type = whole?.headers.get("content-type");
  if (typeof type === "string" && !headers.has("content-type")) headers.set("content-type", type);
  const bytes = whole === null ? null : new Uint8Array(await whole.arrayBuffer());
  if (isStream) headers.set("transfer-encoding", "chunked");
  else if (bytes !== null) headers.set("content-length", String(bytes.length));
  else if (method !== "GET" && method !== "HEAD") headers.set("content-length", "0");
  const lines = [...headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  // Values of headers are bytes, one for each character.
  const head = latin1(`${method} ${url.pathname}${url.search} HTTP/1.1\r\n${lines}\r\n`);
  return message(head, bytes, isStream ? (body as ReadableStream<Uint8Array>) : null);
}

function isIterable(body: unknown): boolean {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

async function* message(
  head: Uint8Array,
  bytes: Uint8Array | null,
  stream: ReadableStream<Uint8Array> | null,
): AsyncGenerator<Uint8Array> {
  yield head;
  if (bytes !== null && bytes.length > 0) yield bytes;
  if (stream === null) return;
  for await (const piece of piecesOf(stream)) {
    if (piece.length === 0) continue; // would be the end
    yield encoder.encode(`${piece.length.toString(16)}\r\n`);
    yield piece;
    yield encoder.encode("\r\n");
  }
  yield encoder.encode("0\r\n\r\n");
}

/** Not every runtime can iterate over its streams. */
export async function* piecesOf(
  stream: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (!(stream instanceof ReadableStream)) {
    yield* stream;
    return;
  }
  const reader = stream.getReader();
  let isOver = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      isOver = done;
      if (done) return;
      yield value;
    }
  } finally {
    if (!isOver) await reader.cancel();
  }
}
