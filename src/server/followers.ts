/**
 * Streams that end with nothing but their server: events, logs, files and commands that are followed. A server that ends
 * waits for answers, but not for these: they are told that their client is gone.
 */
import type { Route } from "../contract/route.ts";
import { table } from "../contract/table.ts";

interface Followed {
  readonly path: RegExp;
  /** Only when it is asked to go on. */
  readonly whenAsked: boolean;
}

const FOLLOWED: readonly Followed[] = Object.values<Route>(table)
  .filter(({ method, returns }) => method === "GET" && typeof returns === "object" && "events" in returns)
  .map(({ path, input }) => ({
    path: new RegExp(`^${path.replaceAll(/:\w+/g, "[^/]+")}/?$`),
    whenAsked: "follow" in input.properties,
  }));

function isOne(request: Request): boolean {
  if (request.method !== "GET") return false;
  const { pathname, searchParams } = new URL(request.url);
  const follows = /^(true|1)$/.test(searchParams.get("follow") ?? "");
  return FOLLOWED.some(({ path, whenAsked }) => path.test(pathname) && (follows || !whenAsked));
}

export class Followers {
  readonly #ending = new AbortController();

  /** The same request; of one that may follow something, with a signal that ends with the server too. */
  seen(request: Request): Request {
    if (!isOne(request)) return request;
    return new Request(request, { signal: AbortSignal.any([request.signal, this.#ending.signal]) });
  }

  end(): void {
    this.#ending.abort(new Error("the server is ending"));
  }
}
