/** The handshake that opens a WebSocket to a program in a sandbox: the request as text, and its answer, which is hostile. Pure. */
import { HttpError, type ResponseHead, requestBytes } from "../http/head.ts";

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
  const own: [string, string][] = [
    ["Upgrade", "websocket"],
    ["Sec-WebSocket-Version", "13"],
    ["Sec-WebSocket-Key", key],
  ];
  if (protocols.length > 0) own.push(["Sec-WebSocket-Protocol", protocols.join(", ")]);
  return requestBytes({ method: "GET", path, host, connection: "Upgrade", headers: [...own, ...headers] });
}

/** The protocol that was agreed on; null without one. @throws {HttpError} – it is no agreement */
export function agreed({ status, headers }: ResponseHead, { key, protocols }: Opening): string | null {
  if (status !== 101) throw new HttpError(`it answered ${status} instead`);
  const all = (wanted: string): string[] => headers.filter(([name]) => name === wanted).map(([, value]) => value);
  const accept = new Bun.CryptoHasher("sha1").update(key + ACCEPT_SUFFIX).digest("base64");
  const [accepts, upgrades] = [all("sec-websocket-accept"), all("upgrade")];
  if (accepts.length !== 1 || accepts[0] !== accept || upgrades.join().toLowerCase() !== "websocket")
    throw new HttpError("its answer opens none");
  if (all("sec-websocket-extensions").length > 0) throw new HttpError("it chose an extension that was not offered");
  const [protocol = null, ...others] = all("sec-websocket-protocol");
  if (others.length > 0 || (protocol !== null && !protocols.includes(protocol)))
    throw new HttpError("it chose a protocol that was not offered");
  return protocol;
}
