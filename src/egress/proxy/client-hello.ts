/**
 * The first message of a TLS client (RFC 8446 4.1.2, RFC 6066 3): the name that it asks for. Strict and bounded: what does not
 * parse to its last byte is refused. Of an encrypted ClientHello only the outer name is seen.
 */
import { BOUNDS } from "./bounds.ts";
import { parseName } from "./names.ts";

export type Hello =
  | { readonly kind: "hello"; readonly name: string | null; readonly protocols: readonly string[] | null }
  /** `bytes`: how many there must be in all before anything more can be said. */
  | { readonly kind: "more"; readonly bytes: number }
  | { readonly kind: "bad"; readonly reason: string };

/** What breaks a rule of the format; never leaves this file. */
class Malformed extends Error {}

const HANDSHAKE = 22;
const RECORD_HEADER = 5;
const RECORD_BYTES_MAX = 16_384;
const CLIENT_HELLO = 1;
const MESSAGE_HEADER = 4;
const SERVER_NAME = 0;
const PROTOCOLS = 16;

/** Reads forwards, and never past the end. */
class Cursor {
  #at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** Big-endian, 1 to 3 bytes. */
  number(size: number): number {
    return this.take(size).reduce((sum, byte) => (sum << 8) | byte, 0);
  }

  take(size: number): Uint8Array {
    if (size > this.left) throw new Malformed("a length points behind the end");
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  /** A vector with its length in front. */
  vector(lengthSize: number, least: number, most: number): Cursor {
    const length = this.number(lengthSize);
    if (length < least || length > most) throw new Malformed("a vector has a length that it may not have");
    return new Cursor(this.take(length));
  }

  rest(): Uint8Array {
    return this.take(this.left);
  }

  done(): void {
    if (this.left > 0) throw new Malformed("bytes are left over");
  }
}

const ascii = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** How long the message is in all, once its own header is there. */
function messageBytes(parts: readonly Uint8Array[], held: number): number {
  if (held < MESSAGE_HEADER) return MESSAGE_HEADER;
  const header = Buffer.concat(parts);
  if (header[0] !== CLIENT_HELLO) throw new Malformed("no ClientHello");
  const bytes = MESSAGE_HEADER + header.readUIntBE(1, 3);
  if (bytes > BOUNDS.helloBytes) throw new Malformed("too long");
  return bytes;
}

/** Where the record that begins at `at` ends; `bytes` may end before. */
function recordEnd(bytes: Uint8Array, at: number): number {
  const [type, major, , high = 0, low = 0] = bytes.subarray(at, at + RECORD_HEADER);
  const length = (high << 8) | low;
  if (type !== HANDSHAKE || major !== 3) throw new Malformed("no TLS handshake record");
  if (length === 0 || length > RECORD_BYTES_MAX) throw new Malformed("a record has a length that it may not have");
  const end = at + RECORD_HEADER + length;
  if (end > BOUNDS.helloWireBytes) throw new Malformed("too long");
  return end;
}

/** The handshake message without its record headers, or how many bytes are missing. */
function message(bytes: Uint8Array): Uint8Array | { readonly need: number } {
  const parts: Uint8Array[] = [];
  let [at, held, want] = [0, 0, MESSAGE_HEADER];
  for (let records = 1; held < want; records++) {
    if (records > BOUNDS.helloRecords) throw new Malformed("too many records");
    const start = at + RECORD_HEADER;
    if (bytes.length < start) return { need: start };
    at = recordEnd(bytes, at);
    if (bytes.length < at) return { need: at };
    parts.push(bytes.subarray(start, at));
    held += at - start;
    if (want === MESSAGE_HEADER) want = messageBytes(parts, held);
  }
  if (held > want) throw new Malformed("bytes are left over");
  return Buffer.concat(parts).subarray(MESSAGE_HEADER);
}

function serverName(data: Cursor): string {
  const list = data.vector(2, 1, 0xffff);
  data.done();
  if (list.number(1) !== 0) throw new Malformed("a server name of an unknown kind");
  const name = parseName(ascii(list.vector(2, 1, 0xffff).rest()));
  list.done();
  if (name === null) throw new Malformed("the server name is no DNS name");
  return name;
}

function protocols(data: Cursor): string[] {
  const list = data.vector(2, 2, 0xffff);
  data.done();
  const names: string[] = [];
  while (list.left > 0) names.push(ascii(list.vector(1, 1, 255).rest()));
  return names;
}

function hello(body: Uint8Array): Hello {
  const cursor = new Cursor(body);
  if (cursor.number(2) >> 8 !== 3) throw new Malformed("an unknown version");
  cursor.take(32); // its random
  cursor.vector(1, 0, 32); // session
  if (cursor.vector(2, 2, 0xfffe).left % 2 !== 0) throw new Malformed("half a cipher suite");
  cursor.vector(1, 1, 255); // compression
  const found: { name: string | null; protocols: string[] | null } = { name: null, protocols: null };
  if (cursor.left === 0) return { kind: "hello", ...found };
  const extensions = cursor.vector(2, 0, 0xffff);
  cursor.done();
  const seen = new Set<number>();
  while (extensions.left > 0) {
    const type = extensions.number(2);
    const data = extensions.vector(2, 0, 0xffff);
    if (seen.has(type)) throw new Malformed("an extension comes twice");
    seen.add(type);
    if (type === SERVER_NAME) found.name = serverName(data);
    if (type === PROTOCOLS) found.protocols = protocols(data);
  }
  return { kind: "hello", ...found };
}

/** What the first bytes of a connection say; never throws. */
export function parseClientHello(bytes: Uint8Array): Hello {
  try {
    const whole = message(bytes);
    return whole instanceof Uint8Array ? hello(whole) : { kind: "more", bytes: whole.need };
  } catch (error) {
    if (error instanceof Malformed) return { kind: "bad", reason: error.message };
    throw error;
  }
}
