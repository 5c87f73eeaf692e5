/** `ANY /v1/sandboxes/{id}/proxy/{port}/…`: programs in a sandbox for whoever has a key to it. */
import { WarrenError } from "../../../errors.ts";
import type { ApiContext, ApiHono, Gate } from "../../parts.ts";
import { queryWithoutKey } from "./headers.ts";
import { badGateway } from "./refusal.ts";
import type { Serve } from "./serve.ts";

const PATH = /^\/v1\/sandboxes\/([^/]+)\/proxy\/([^/]+)(\/.*)?$/;
const SANDBOX_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** @throws {WarrenError} `invalid_request` */
export function portOf(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65_535) return Number(text);
  const says = `port: got ${JSON.stringify(text.slice(0, 20))}, allowed is a number from 1 to 65535`;
  throw new WarrenError("invalid_request", says, { details: { field: "port" } });
}

/** Browsers can give no header to a WebSocket or an EventSource. A page gets no key this way: its scripts could read it. */
function mayHaveQueryKey({ req }: ApiContext): boolean {
  const isSocket = req.header("upgrade")?.toLowerCase() === "websocket";
  return isSocket || req.header("accept") === "text/event-stream";
}

export function mountProxy(hono: ApiHono, gate: Gate, serve: Serve): void {
  const handler = async (context: ApiContext): Promise<Response> => {
    const queryToken = mayHaveQueryKey(context);
    const asked = await gate.authorize(context, { name: "proxy", scope: "sandbox:write", queryToken });
    const { pathname, search } = new URL(context.req.raw.url);
    const [, id = "", portText = "", rest] = PATH.exec(pathname) ?? [];
    if (!SANDBOX_ID.test(id)) throw new WarrenError("not_found", "there is no such sandbox");
    const port = portOf(portText);
    if (context.req.header("service-worker") !== undefined) {
      throw new WarrenError("forbidden", "programs of sandboxes get no service workers on this server's origin");
    }
    const { account, host, origin } = asked;
    const prefixOf = (other: number): string => `/v1/sandboxes/${id}/proxy/${other}`;
    const path = (rest ?? "/") + queryWithoutKey(search, "any");
    const passage = { account, target: { host, id, port }, origin, prefix: prefixOf(port), isAlone: false };
    try {
      return await serve(context, { ...passage, path, prefixOf });
    } catch (cause) {
      return badGateway(cause, asked.requestId);
    }
  };
  hono.all("/v1/sandboxes/:id/proxy/:port", handler);
  hono.all("/v1/sandboxes/:id/proxy/:port/*", handler);
}
