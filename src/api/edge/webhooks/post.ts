/**
 * One POST to an address that was chosen before, over a connection of its own. Of the answer only the first line is read: a
 * receiver that says more, slowly or for ever, costs nothing. Redirects are statuses like any other.
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { parseAddress } from "../../../base/address.ts";
import { BOUNDS } from "../bounds.ts";
import { hostnameOf } from "./address.ts";

export interface Post {
  readonly url: URL;
  /** What is connected to, whatever the URL's name resolves to by now. */
  readonly address: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Of the body; default JSON. */
  readonly contentType?: string;
  readonly signal: AbortSignal;
  /** Certificates that are trusted beside the system's, PEM. */
  readonly ca?: string;
}

const STATUS = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |\r?$)/;

/** A connection, and the event with which it can be written to. */
export function open({ url, address, ca }: Post): { readonly socket: Socket; readonly ready: string } {
  const isTls = url.protocol === "https:";
  const port = url.port === "" ? (isTls ? 443 : 80) : Number(url.port);
  if (!isTls) return { socket: connectTcp({ host: address, port }), ready: "connect" };
  const name = hostnameOf(url);
  // The certificate has to be the name's, not the address's.
  const servername = parseAddress(name) === null ? { servername: name } : {};
  const trusted = ca === undefined ? {} : { ca };
  return {
    socket: connectTls({ host: address, port, ...servername, ...trusted, ALPNProtocols: ["http/1.1"] }),
    ready: "secureConnect",
  };
}

export function requestOf({ url, headers, body, contentType = "application/json" }: Post): Buffer {
  const bytes = Buffer.from(body, "utf8");
  const lines = [
    `POST ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    "Connection: close",
    "User-Agent: warren-webhooks/1",
    `Content-Type: ${contentType}`,
    `Content-Length: ${bytes.length}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), bytes]);
}

/** The answer's status. @throws when there is none */
export function post(ask: Post): Promise<number> {
  const { signal } = ask;
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  if (signal.aborted) return Promise.reject(signal.reason);
  const { socket, ready } = open(ask);
  let heard = "";
  const stop = (): void => reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  socket.once(ready, () => socket.write(requestOf(ask)));
  socket.on("data", (chunk: Uint8Array) => {
    heard += Buffer.from(chunk.buffer, chunk.byteOffset, Math.min(chunk.length, BOUNDS.answerBytes)).toString("latin1");
    const end = heard.indexOf("\n");
    if (end < 0 && heard.length < BOUNDS.answerBytes) return;
    const status = STATUS.exec(heard.slice(0, Math.max(0, end)))?.[1];
    if (status === undefined) reject(new Error("the receiver did not answer as HTTP"));
    else resolve(Number(status));
  });
  socket.on("error", reject);
  socket.on("close", () => reject(new Error("the receiver hung up")));
  return promise.finally(() => {
    signal.removeEventListener("abort", stop);
    socket.destroy();
  });
}
