/**
 * HTTP requests to a port of a sandbox, by the runtime's own `fetch` where it can be led there: bodies stream both ways as fast as
 * their reader reads. What a server in the sandbox answers never makes this host connect anywhere else.
 */
import { WarrenError } from "../../errors.ts";
import { hostOf, portWithin } from "./address.ts";
import { exchangeOver } from "./http/exchange.ts";
import { hasSockets } from "./runtime.ts";
import type { PortTarget } from "./splice.ts";
import { passThrough, type Through } from "./through.ts";

type Exchange = Pick<Through, "failure" | "end">;

/** As the standard's. */
const REDIRECTS = 20;
const MOVED: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Of these a `Response` may have no body. */
const EMPTY: ReadonlySet<number> = new Set([204, 205, 304]);
/** Of what it says of a body that is not sent on. */
const BODY_HEADERS = ["content-encoding", "content-language", "content-location", "content-length", "content-type"];

/** A path, a URL of which path and query count, or a whole request. */
export type PortRequest = string | URL | Request;

/** One request of a chain of redirects. */
interface Hop {
  readonly url: URL;
  readonly init: RequestInit;
  /** Its body is gone once it has been sent. */
  readonly isOnce: boolean;
}

function firstHop(port: number, input: PortRequest, init: RequestInit): Hop {
  const base = `http://${hostOf(port)}/`;
  if (!(input instanceof Request)) {
    const { pathname, search } = new URL(String(input), base);
    const { body } = init;
    const isOnce =
      body instanceof ReadableStream || (typeof body === "object" && body !== null && Symbol.asyncIterator in body);
    return { url: within(base, pathname, search), init, isOnce };
  }
  const { pathname, search } = new URL(input.url);
  const { method, headers, body, signal, redirect } = input;
  const own: RequestInit = { method, headers, signal, redirect, ...(body === null ? {} : { body }) };
  return { url: within(base, pathname, search), init: { ...own, ...init }, isOnce: body !== null };
}

/** A path that begins with two slashes is no name of a host. */
function within(base: string, pathname: string, search: string): URL {
  const url = new URL(base);
  url.pathname = pathname;
  url.search = search;
  return url;
}

/** The request that a redirect asks for; null when it is for the caller to decide. */
function nextHop({ url, init, isOnce }: Hop, response: Response): Hop | null {
  const location = response.headers.get("location");
  if (!MOVED.has(response.status) || location === null || !URL.canParse(location, url)) return null;
  const next = new URL(location, url);
  if (portWithin(next) === null) return null;
  const method = (init.method ?? "GET").toUpperCase();
  const isGet =
    response.status === 303 ? method !== "GET" && method !== "HEAD" : response.status < 303 && method === "POST";
  if (!isGet) return isOnce ? null : { url: next, init, isOnce };
  const { body: _, ...rest } = init;
  const headers = new Headers(init.headers);
  for (const name of BODY_HEADERS) headers.delete(name);
  return { url: next, init: { ...rest, headers, method: "GET" }, isOnce: false };
}

/** What the caller sees of a failure: its own abort, what broke the connection, or what the runtime says. */
function explained(cause: unknown, through: Exchange, signal: AbortSignal | null | undefined, port: number): unknown {
  if (signal?.aborted === true) return signal.reason;
  const failure = through.failure();
  if (failure instanceof WarrenError && failure.code !== "cancelled") return failure;
  const says = `the program behind port ${port} of the sandbox did not answer as HTTP`;
  return new WarrenError("guest_protocol", says, { details: { port }, cause });
}

/** The body, with errors that say what happened. At its end the client closes, and so the server does; one left early is reset. */
function bodyOf(
  response: Response,
  through: Exchange,
  fails: (cause: unknown) => unknown,
): ReadableStream<Uint8Array> | null {
  const { body } = response;
  if (body === null || EMPTY.has(response.status)) return null;
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (cause) {
          controller.error(fails(cause));
          through.end();
        }
      },
      cancel: async (reason) => {
        through.end();
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Over a connection of the handle's own. */
async function sendOver(target: PortTarget, { url, init }: Hop): Promise<{ response: Response; through: Exchange }> {
  const signal = init.signal ?? undefined;
  signal?.throwIfAborted();
  const headers = new Headers(init.headers);
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  try {
    const through = await exchangeOver(target, url, { ...init, headers });
    return { response: through.response, through };
  } catch (cause) {
    throw explained(cause, { failure: () => cause, end: () => undefined }, signal, target.port);
  }
}

async function send(target: PortTarget, { url, init }: Hop): Promise<{ response: Response; through: Exchange }> {
  const signal = init.signal ?? undefined;
  signal?.throwIfAborted();
  const through = await passThrough(target, "unix", signal).catch((cause: unknown) => {
    throw signal?.aborted === true ? signal.reason : cause;
  });
  const { at, prefix } = through.door;
  const headers = new Headers(init.headers);
  // Between a sandbox and its host compression costs more than it saves; and a small answer must not become a large one here.
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  // Each request has a connection of its own: the next one may find another machine behind the same handle.
  if (!headers.has("connection")) headers.set("connection", "close");
  const own = { headers, redirect: "manual", keepalive: false, decompress: false } as const;
  try {
    const unix = "unix" in at ? at.unix : "";
    const response = await fetch(`${url.origin}${prefix}${url.pathname}${url.search}`, { ...init, ...own, unix });
    return { response, through };
  } catch (cause) {
    through.end();
    throw explained(cause, through, signal, target.port);
  }
}

/** @throws {WarrenError} `wrong_state` – nothing listens there; `guest_protocol` – what does speaks no HTTP; as `dial` says */
export async function fetchPort(target: PortTarget, input: PortRequest, init: RequestInit = {}): Promise<Response> {
  let hop = firstHop(target.port, input, init);
  const mode = hop.init.redirect ?? "follow";
  for (let redirects = 0; ; redirects += 1) {
    const port = portWithin(hop.url) ?? target.port;
    const { response, through } = await (hasSockets() ? send : sendOver)({ ...target, port }, hop);
    const next = mode === "manual" ? null : nextHop(hop, response);
    if (next === null || (mode === "follow" && redirects === REDIRECTS)) {
      const { signal } = hop.init;
      return answer(response, through, hop.url, redirects > 0, (cause) => explained(cause, through, signal, port));
    }
    await response.body?.cancel();
    through.end();
    if (mode === "error") throw new TypeError(`${hop.url.pathname} redirects, and redirects were to be errors`);
    hop = next;
  }
}

function answer(
  response: Response,
  through: Exchange,
  url: URL,
  redirected: boolean,
  fails: (cause: unknown) => unknown,
): Response {
  const { status, statusText, headers } = response;
  try {
    const whole = new Response(bodyOf(response, through, fails), { status, statusText, headers });
    Object.defineProperties(whole, { url: { value: url.href }, redirected: { value: redirected } });
    return whole;
  } catch (cause) {
    through.end(); // a status that is none
    throw fails(cause);
  }
}
