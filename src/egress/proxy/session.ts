/**
 * HTTP/1.1 as a guest speaks it on one connection, plain or out of our own TLS: requests one after another, each understood
 * strictly, held to the policy of its moment, and carried to the host that it names.
 */
import { BOUNDS } from "./bounds.ts";
import { type Ending, exchange, type Request } from "./exchange.ts";
import { connectionTokens, isWebSocket, passedOn, requestFraming } from "./http/framing.ts";
import { encodeHead, parseRequestHead, type RequestHead, valuesOf } from "./http/head.ts";
import { readHead } from "./http/reader.ts";
import { type Authority, formatAuthority, parseAuthority } from "./names.ts";
import type { Destination, Outcome, Passage } from "./passage.ts";
import { type Dialled, dial, type Upstream } from "./upstream.ts";

/** What connections of this kind have in common. */
export interface Speech {
  readonly scheme: "http" | "https";
  /** The only host that may be asked for: the SNI's. */
  readonly only: string | null;
}

interface Asked {
  readonly kind: "asked";
  readonly to: Destination;
  readonly request: Request;
}

interface Rejected {
  readonly kind: "rejected";
  readonly status: number;
  readonly reason: string;
  readonly to: Destination | null;
}

const PHRASES: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  405: "Method Not Allowed",
  421: "Misdirected Request",
  502: "Bad Gateway",
};
const DEFAULT_PORT = { http: 80, https: 443 } as const;
/** Repeated on a new connection when the host had closed the old one meanwhile: they change nothing (RFC 9110 9.2.1). */
const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

/** Origin form of the target; null when it is none of a request to that authority. */
function pathOf(head: RequestHead, scheme: Speech["scheme"], host: Authority): string | null {
  if (head.target.startsWith("/") || (head.target === "*" && head.method === "OPTIONS")) return head.target;
  const match = /^(https?):\/\/([^/?@]+)([/?].*)?$/i.exec(head.target);
  if (match === null || match[1]?.toLowerCase() !== scheme) return null;
  const own = parseAuthority(match[2] ?? "");
  const port = DEFAULT_PORT[scheme];
  if (own?.name !== host.name || (own.port ?? port) !== (host.port ?? port)) return null;
  const path = match[3] ?? "/";
  return path.startsWith("/") ? path : `/${path}`;
}

/** @internal What a request head asks for, before any policy; shared with its fuzzer. */
export function understand(bytes: Uint8Array, { scheme, only }: Speech): Asked | Rejected {
  const rejected = (reason: string, status = 400, to: Destination | null = null): Rejected => {
    return { kind: "rejected", status, reason, to };
  };
  const parsed = parseRequestHead(bytes);
  if (parsed.kind === "bad") return rejected(parsed.reason);
  const { head } = parsed;
  const [host, ...more] = valuesOf(head.fields, "host");
  const authority = host === undefined || more.length > 0 ? null : parseAuthority(host);
  if (authority === null) return rejected("it has to have exactly one valid Host header");
  const to = { name: authority.name, port: authority.port ?? DEFAULT_PORT[scheme] };
  if (only !== null && (to.name !== only || to.port !== DEFAULT_PORT.https)) {
    return rejected(`its Host is not ${only}, which the connection is for`, 421, to);
  }
  if (head.method === "CONNECT") return rejected("CONNECT is for other proxies", 405, to);
  // What TRACE is answered with would show the guest a secret.
  if (head.method === "TRACE") return rejected("TRACE is not passed on", 405, to);
  const path = pathOf(head, scheme, authority);
  if (path === null) return rejected("its target is not one of its Host", 400, to);
  const framing = requestFraming(head);
  if (framing.kind === "bad") return rejected(framing.reason, 400, to);
  const webSocket = head.method === "GET" && head.minor === 1 && framing.kind === "none" && isWebSocket(head.fields);
  const keepAlive = head.minor === 1 && !connectionTokens(head.fields).has("close");
  const { method, minor, fields } = head;
  const request = {
    method,
    path,
    host: formatAuthority(authority),
    fields: passedOn(fields),
    framing,
    webSocket,
    minor,
  };
  return { kind: "asked", to, request: { ...request, keepAlive } };
}

function answer(status: number, text: string, goesOn: boolean): Uint8Array {
  const body = Buffer.from(`${text}\n`, "latin1");
  const head = encodeHead(`HTTP/1.1 ${status} ${PHRASES[status] ?? ""}`, [
    { name: "Content-Type", value: "text/plain; charset=utf-8" },
    { name: "Content-Length", value: String(body.length) },
    ...(goesOn ? [] : [{ name: "Connection", value: "close" }]),
  ]);
  return Buffer.concat([head, body]);
}

export class Session {
  readonly #passage: Passage;
  readonly #speech: Speech;

  constructor(passage: Passage, speech: Speech) {
    this.#passage = passage;
    this.#speech = speech;
  }

  /** Until the guest or a rule ends it. @throws {Error} when the guest's connection broke */
  async serve(): Promise<void> {
    const { deadline, guest } = this.#passage;
    for (let first = true; ; first = false) {
      deadline.set(first ? BOUNDS.headMs : BOUNDS.idleMs);
      const read = await readHead(guest, () => first || deadline.set(BOUNDS.headMs));
      if (read.kind === "end") return;
      deadline.set(BOUNDS.exchangeIdleMs);
      const asked =
        read.kind === "head"
          ? understand(read.bytes, this.#speech)
          : { kind: "rejected" as const, status: 400, reason: read.reason, to: null };
      const goesOn = asked.kind === "asked" ? await this.#carry(asked) : await this.#reject(asked);
      this.#passage.carrying = null;
      if (!goesOn) return;
    }
  }

  /** True when the next request may come. */
  async #carry({ to, request }: Asked): Promise<boolean> {
    const { setting } = this.#passage;
    const { permits, vault } = setting.policy;
    if (!permits(to.name, to.port)) return await this.#refuse(to, request, "the policy does not allow it");
    this.#passage.carrying = to;
    const secure = this.#speech.scheme === "https";
    const fields = secure ? vault.applied(to.name, request.fields) : request.fields;
    for (;;) {
      const kept = this.#kept(to);
      const dialled: Dialled = kept === null ? await dial(this.#passage, to, secure) : { kind: "open", upstream: kept };
      if (dialled.kind !== "open") return await this.#unreached(to, request, dialled);
      const { upstream } = dialled;
      this.#passage.upstream = upstream;
      const tell = this.#teller(to, upstream);
      const ending = await exchange(this.#passage, upstream, { ...request, fields }, () => tell(null));
      const stale = kept !== null && ending.kind === "failed" && ending.unheard;
      if (stale && request.framing.kind === "none" && SAFE.has(request.method)) continue;
      tell(ending.kind === "failed" ? ending.reason : null);
      // A connection that ends without a word is what a client expects of a server that keeps none: it may ask again.
      return stale ? false : await this.#settle(to, request, upstream, ending);
    }
  }

  /** Reports the request once, with the first reason that it is told; null: it went well. */
  #teller(to: Destination, { address }: Upstream): (reason: string | null) => void {
    let told = false;
    return (reason) => {
      if (told) return;
      told = true;
      const plain = this.#speech.scheme === "http" && this.#passage.setting.policy.vault.has(to.name);
      const note = reason ?? (plain ? "without its secret, which is for https only" : null);
      const closed = this.#passage.signal.aborted;
      this.#report(to, "allowed", closed ? "the connection was closed before an answer" : note, address);
    };
  }

  /** The connection of the request before, if it is to the same place and still as it should be. */
  #kept(to: Destination): Upstream | null {
    const { upstream } = this.#passage;
    this.#passage.upstream = null;
    if (upstream === null) return null;
    if (upstream.name === to.name && upstream.port === to.port && upstream.wire.quiet) return upstream;
    upstream.wire.destroy();
    return null;
  }

  async #settle(to: Destination, request: Request, { wire }: Upstream, ending: Ending): Promise<boolean> {
    if (ending.kind === "again") {
      if (ending.reusable) wire.lookAhead();
      else wire.destroy();
      return true;
    }
    if (ending.kind === "close") await this.#passage.farewell();
    if (ending.kind === "failed")
      await this.#last(ending.status, `Warren: ${to.name}: ${ending.reason}`, request.method);
    return false;
  }

  async #unreached(to: Destination, request: Request, { kind, reason }: Exclude<Dialled, { kind: "open" }>) {
    if (kind === "refused") return await this.#refuse(to, request, reason);
    this.#report(to, "allowed", reason);
    return await this.#last(502, `Warren: ${to.name} (port ${to.port}): ${reason}`, request.method);
  }

  async #refuse(to: Destination, request: Request, reason: string): Promise<boolean> {
    this.#report(to, "refused", reason);
    const text = `Warren: this sandbox's egress policy does not allow ${to.name} (port ${to.port}).`;
    if (!request.keepAlive || request.framing.kind !== "none") return await this.#last(403, text, request.method);
    await this.#passage.guest.write(forMethod(request.method, answer(403, text, true)));
    return true;
  }

  async #reject({ status, reason, to }: Rejected): Promise<boolean> {
    this.#report(to, "refused", reason);
    return await this.#last(status, `Warren: the request was refused: ${reason}.`, "");
  }

  async #last(status: number, text: string, method: string): Promise<false> {
    await this.#passage.guest.write(forMethod(method, answer(status, text, false)));
    await this.#passage.farewell();
    return false;
  }

  #report(
    to: Destination | null,
    verdict: Outcome["verdict"],
    reason: string | null,
    address?: Outcome["address"],
  ): void {
    const where = address === undefined ? {} : { address };
    this.#passage.report({ name: to?.name ?? null, port: to?.port ?? null, verdict, reason, ...where });
  }
}

/** An answer to HEAD has no body. */
function forMethod(method: string, bytes: Uint8Array): Uint8Array {
  if (method !== "HEAD") return bytes;
  return bytes.subarray(0, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf("\r\n\r\n") + 4);
}
