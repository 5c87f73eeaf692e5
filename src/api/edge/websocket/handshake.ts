/** The handshake that opens a WebSocket to a program in a sandbox: the request as text, and its answer, which is hostile. Pure. */
import { WarrenError } from "../../../errors.ts";
import { BOUNDS } from "../bounds.ts";

/** RFC 6455, section 1.3. */
const ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

export interface Opening {
  /** 16 bytes in base64. */
  readonly key: string;
  /** Path and query as a URL has them: without a space or a control character. */
  readonly path: string;
  readonly host: string;
  readonly headers: Headers;
  readonly protocols: readonly string[];
}

export function openingRequest({ key, path, host, headers, protocols }: Opening): Uint8Array {
  const own = [
    `GET ${path} HTTP/1.1`,
    `Host: ${host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${key}`,
    ...(protocols.length === 0 ? [] : [`Sec-WebSocket-Protocol: ${protocols.join(", ")}`]),
  ];
  const rest = [...headers].map(([name, value]) => `${name}: ${value}`);
  return new Uint8Array(Buffer.from(`${[...own, ...rest].join("\r\n")}\r\n\r\n`, "latin1"));
}

/** The head of an answer, collected until it ends; what came behind it belongs to the socket. */
export class HeadCollector {
  #bytes: Buffer = Buffer.alloc(0);

  /** Null until all of it is there. @throws {WarrenError} `guest_protocol` – it does not end */
  take(piece: Uint8Array): { readonly head: string; readonly rest: Uint8Array } | null {
    const from = Math.max(0, this.#bytes.length - 3);
    this.#bytes = Buffer.concat([this.#bytes, piece]);
    const at = this.#bytes.indexOf("\r\n\r\n", from, "latin1");
    if (at < 0 ? this.#bytes.length > BOUNDS.handshakeBytes : at > BOUNDS.handshakeBytes)
      throw new WarrenError("guest_protocol", `it answered with more than ${BOUNDS.handshakeBytes} bytes of HTTP head`);
    if (at < 0) return null;
    return { head: this.#bytes.toString("latin1", 0, at), rest: this.#bytes.subarray(at + 4) };
  }
}

/** The protocol that was agreed on; null without one. @throws {WarrenError} `guest_protocol` – it is no agreement */
export function agreed(head: string, { key, protocols }: Opening): string | null {
  const [status = "", ...lines] = head.split("\r\n");
  if (!/^HTTP\/1\.1 101(?: |$)/.test(status)) {
    const code = /^HTTP\/1\.[01] (\d{3})/.exec(status)?.[1];
    const says =
      code === undefined ? "it did not answer as HTTP" : `it answered ${code} instead of opening a WebSocket`;
    throw new WarrenError("guest_protocol", says, code === undefined ? {} : { details: { status: Number(code) } });
  }
  const named = new Map<string, string>();
  for (const line of lines) {
    const at = line.indexOf(":");
    const name = line.slice(0, Math.max(0, at)).toLowerCase();
    if (named.has(name) && name.startsWith("sec-websocket-"))
      throw new WarrenError("guest_protocol", `it said ${name} twice`);
    named.set(name, line.slice(at + 1).trim());
  }
  const accept = new Bun.CryptoHasher("sha1").update(key + ACCEPT_SUFFIX).digest("base64");
  if (named.get("sec-websocket-accept") !== accept || named.get("upgrade")?.toLowerCase() !== "websocket")
    throw new WarrenError("guest_protocol", "its answer opens no WebSocket");
  if (named.has("sec-websocket-extensions"))
    throw new WarrenError("guest_protocol", "it chose an extension that was not offered");
  const protocol = named.get("sec-websocket-protocol") ?? null;
  if (protocol !== null && !protocols.includes(protocol))
    throw new WarrenError("guest_protocol", "it chose a protocol that was not offered");
  return protocol;
}
