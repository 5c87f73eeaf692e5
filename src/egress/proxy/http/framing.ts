/**
 * Where a message's body ends (RFC 9112 6.3), and which fields go on from one connection to the next. The framing that is sent is
 * always written anew from what was understood, so no two readers of it can disagree.
 */
import { type Bad, bad, type Field, type RequestHead, type ResponseHead, valuesOf } from "./head.ts";

export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  /** Only of responses. */
  | { readonly kind: "close" };

const NONE: Framing = { kind: "none" };

/** The tokens of Connection, lower case. */
export function connectionTokens(fields: readonly Field[]): ReadonlySet<string> {
  const tokens = valuesOf(fields, "connection").flatMap((value) => value.split(","));
  return new Set(tokens.map((token) => token.trim().toLowerCase()).filter((token) => token !== ""));
}

/** What Content-Length and Transfer-Encoding say; null when there is neither. */
function declared({ fields, minor }: RequestHead | ResponseHead): Framing | Bad | null {
  const [lengths, codings] = [valuesOf(fields, "content-length"), valuesOf(fields, "transfer-encoding")];
  if (lengths.length + codings.length === 0) return null;
  if (lengths.length + codings.length > 1) return bad("its length is said more than once");
  const [coding] = codings;
  if (coding !== undefined) {
    if (minor === 0) return bad("HTTP/1.0 has no Transfer-Encoding");
    return coding.toLowerCase() === "chunked" ? { kind: "chunked" } : bad("its Transfer-Encoding is not chunked");
  }
  const [length = ""] = lengths;
  return /^\d{1,15}$/.test(length) ? { kind: "length", bytes: Number(length) } : bad("its Content-Length is malformed");
}

export function requestFraming(head: RequestHead): Framing | Bad {
  return declared(head) ?? NONE;
}

/** Of a final response; `method` is what it answers. */
export function responseFraming(head: ResponseHead, method: string): Framing | Bad {
  const found = declared(head);
  if (found?.kind === "bad") return found;
  if (method === "HEAD" || head.status === 204 || head.status === 304) return NONE;
  return found ?? { kind: "close" };
}

/** Of one connection only (RFC 9110 7.6.1), or written anew by us. Trailers are not passed on, so nobody need offer them. */
const OWN = new Set([
  "connection",
  "content-length",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** True for a field that this proxy writes or removes, so that nobody else may set it. */
export function isFramingField(name: string): boolean {
  return OWN.has(name.toLowerCase());
}

/** The fields that go on. */
export function passedOn(fields: readonly Field[]): Field[] {
  const tokens = connectionTokens(fields);
  return fields.filter(({ name }) => !isFramingField(name) && !tokens.has(name.toLowerCase()));
}

export function framingFields(framing: Framing): Field[] {
  if (framing.kind === "length") return [{ name: "Content-Length", value: String(framing.bytes) }];
  return framing.kind === "chunked" ? [{ name: "Transfer-Encoding", value: "chunked" }] : [];
}

/** True when WebSocket is asked for or agreed on; no other protocol is let through, h2c least of all: its requests are unseen. */
export function isWebSocket(fields: readonly Field[]): boolean {
  const [upgrade, ...more] = valuesOf(fields, "upgrade");
  return more.length === 0 && upgrade?.toLowerCase() === "websocket" && connectionTokens(fields).has("upgrade");
}

export const WEBSOCKET_FIELDS: readonly Field[] = [
  { name: "Connection", value: "Upgrade" },
  { name: "Upgrade", value: "websocket" },
];
