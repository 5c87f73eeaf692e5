/** What is no row: health, version, the OpenAPI document, and what browsers of other origins are told. */

import { openapi } from "../contract/openapi.ts";
import type { Requests } from "./access/under-way.ts";
import { empty, json } from "./answers/answer.ts";
import { DOCS_POLICY, DOCS_SCRIPT, docsPage } from "./docs.ts";
import type { ApiContext, ApiHono, AppParts } from "./parts.ts";

const ALLOWED_HEADERS = "authorization, content-type, x-api-key, x-request-id, idempotency-key, range, last-event-id";
const EXPOSED_HEADERS = "x-request-id, x-next-cursor, link, retry-after, content-range, content-disposition";

export function mountPages(hono: ApiHono, parts: AppParts, requests: Requests): void {
  const { settings, store } = parts;
  mountCors(hono, settings.corsOrigins);
  hono.get("/healthz", () => {
    const { ready, baking, reasons } = parts.health();
    const isReady = ready && !requests.closing;
    const status = requests.closing ? "ending" : isReady ? "ready" : "starting";
    const body = {
      ...{ status, ready: isReady, reasons, store: store.kind, version: settings.version },
      ...(store.note === null ? {} : { note: store.note }),
      ...(baking === undefined ? {} : { baking }),
    };
    return json(body, isReady ? 200 : 503, isReady ? {} : { "retry-after": "5" });
  });
  hono.get("/version", () => json({ version: settings.version, node: settings.node }, 200));
  mountDocs(hono, settings.version);
}

/** The document is made when it is first asked for: it is large, and most servers are never asked. */
function mountDocs(hono: ApiHono, version: string): void {
  let document: Record<string, unknown> | null = null;
  const page = (body: string, type: string) =>
    new Response(body, {
      headers: {
        "content-type": `${type}; charset=utf-8`,
        "content-security-policy": DOCS_POLICY,
        "cache-control": "public, max-age=600",
        "x-content-type-options": "nosniff",
      },
    });
  hono.get("/openapi.json", () => {
    document ??= openapi({ version });
    return json(document, 200);
  });
  hono.get("/docs", async () => page((await docsPage()).html, "text/html"));
  hono.get(DOCS_SCRIPT, async () => page((await docsPage()).script, "text/javascript"));
}

/** Off by default: a page of another origin then reads nothing, and can send no key. */
function mountCors(hono: ApiHono, origins: readonly string[]): void {
  if (origins.length === 0) return;
  const allowed = ({ req }: ApiContext): string | null => {
    const origin = req.header("origin");
    if (origin === undefined) return null;
    return origins.includes("*") || origins.includes(origin) ? origin : null;
  };
  hono.use("*", async (context, next) => {
    const origin = allowed(context);
    const isPreflight = context.req.method === "OPTIONS" && context.req.header("access-control-request-method");
    if (origin !== null && isPreflight) {
      return empty(204, {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers": ALLOWED_HEADERS,
        "access-control-max-age": "600",
        vary: "Origin",
      });
    }
    await next();
    if (origin === null) return;
    context.res.headers.set("access-control-allow-origin", origin);
    context.res.headers.set("access-control-expose-headers", EXPOSED_HEADERS);
    context.res.headers.append("vary", "Origin");
  });
}
