/**
 * Which headers go on to a program in a sandbox, and which come back from it. No credential of the server's goes in; nothing comes
 * out that a browser or a proxy in front of this server would take for this server's own word. Pure.
 */

/** Where a program is seen from outside. */
export interface Front {
  /** Scheme, host and port that the client used, for instance `https://example.com`. */
  readonly origin: string;
  /** What stands before the program's own paths, without a slash at its end; empty when it has a host of its own. */
  readonly prefix: string;
  /** The program's own origin, for instance `http://localhost:8000`. */
  readonly inner: string;
  /** Address of the client; null when it is not known. */
  readonly peer: string | null;
  /** No other pages live under `origin`. */
  readonly isAlone: boolean;
}

/** Of one connection, RFC 9110 section 7.6.1, and what older ones used. */
const HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "expect",
]);

/** Credentials, words that only this server's own proxy may say to it, and how a body is framed, which is said anew. */
const NOT_IN: ReadonlySet<string> = new Set([
  "host",
  "content-length",
  "authorization",
  "x-api-key",
  "cookie",
  "cookie2",
  "referer",
  "forwarded",
  "via",
  "x-real-ip",
  "x-client-ip",
  "true-client-ip",
  // Some frameworks take the path from these: the rules of a preview's paths would look at another one.
  "x-original-url",
  "x-rewrite-url",
  "x-http-method-override",
  "x-http-method",
  "x-method-override",
]);
const NOT_IN_PREFIX = /^(x-forwarded-|x-original-|proxy-|cf-|sec-websocket-)/;

/** What would act on this origin, on its other pages, or on a proxy in front. */
const NOT_OUT: ReadonlySet<string> = new Set([
  "set-cookie",
  "set-cookie2",
  "www-authenticate",
  "authentication-info",
  "strict-transport-security",
  "public-key-pins",
  "public-key-pins-report-only",
  "expect-ct",
  "alt-svc",
  "clear-site-data",
  "service-worker-allowed",
  "access-control-allow-credentials",
  "report-to",
  "reporting-endpoints",
  "nel",
  "origin-agent-cluster",
  "sourcemap",
  "x-sourcemap",
  "x-sendfile",
  "x-lighttpd-send-file",
  "x-reproxy-url",
  "surrogate-control",
  "surrogate-key",
  "cache-tag",
  "x-request-id",
  "location",
  "refresh",
]);
const NOT_OUT_PREFIX = /^(x-accel-|proxy-|cdn-|cf-|sec-)/;

const MAY = "allow-scripts allow-forms allow-modals allow-popups allow-downloads allow-pointer-lock";

/** A page of a program gets an origin that nobody else has: without this a script in it would be one of this server's. */
function policyOf({ isAlone }: Front): string {
  return `sandbox ${MAY}${isAlone ? " allow-same-origin" : ""}`;
}

function hopsOf(headers: Headers): ReadonlySet<string> {
  const named = (headers.get("connection") ?? "").split(",").map((name) => name.trim().toLowerCase());
  return new Set([...HOP, ...named]);
}

/** What goes to the program. */
export function inward(from: Headers, front: Front): Headers {
  const hops = hopsOf(from);
  const to = new Headers();
  for (const [name, value] of from) {
    if (hops.has(name) || NOT_IN.has(name) || NOT_IN_PREFIX.test(name)) continue;
    // Its own pages are at home with it, whatever name they were reached by; those of others stay strangers.
    to.append(name, name === "origin" && value === front.origin ? front.inner : value);
  }
  const { protocol, host } = new URL(front.origin);
  to.set("x-forwarded-proto", protocol.slice(0, -1));
  to.set("x-forwarded-host", host);
  if (front.prefix !== "") to.set("x-forwarded-prefix", front.prefix);
  if (front.peer !== null) to.set("x-forwarded-for", front.peer);
  return to;
}

/** What goes to the client, but for `location`. */
export function outward(from: Headers, front: Front): Headers {
  const hops = hopsOf(from);
  const to = new Headers();
  const own: string[] = [];
  for (const [name, value] of from) {
    if (name === "content-security-policy") own.push(value);
    else if (!hops.has(name) && !NOT_OUT.has(name) && !NOT_OUT_PREFIX.test(name)) to.append(name, value);
  }
  // All policies hold: the program's may only narrow.
  to.set("content-security-policy", [policyOf(front), ...own].join(", "));
  to.set("x-content-type-options", "nosniff");
  to.set("referrer-policy", "no-referrer");
  return to;
}

/** How every key of this server begins. */
const KEY_PREFIX = "wrn_";

/**
 * A query without the key that a browser had to put there, byte for byte else; `?` in front when something is left. Where a key
 * opens nothing, `ours`, a program may have tokens of its own under that name.
 */
export function queryWithoutKey(search: string, which: "any" | "ours"): string {
  const kept = search
    .replace(/^\?/, "")
    .split("&")
    .filter((pair) => !isKey(pair, which));
  const rest = kept.join("&");
  return rest === "" ? "" : `?${rest}`;
}

function isKey(pair: string, which: "any" | "ours"): boolean {
  const [[name, value] = ["", ""]] = new URLSearchParams(pair);
  return name.toLowerCase() === "access_token" && (which === "any" || value.startsWith(KEY_PREFIX));
}
