/**
 * The API: one Hono app out of the table, over whatever `hostFor` gives. It is let in to (`access/`), meets its account
 * (`tenancy/`), is called and answered (`dispatch.ts`). Nothing here knows an engine.
 */
import { Hono } from "hono";
import { Audit } from "./access/audit.ts";
import { createGate } from "./access/gate.ts";
import { Keys } from "./access/keys.ts";
import { Requests } from "./access/under-way.ts";
import { accountCalls } from "./calls/accounts.ts";
import { booksCalls } from "./calls/billing/books.ts";
import { billingCalls } from "./calls/billing/rows.ts";
import { runCalls } from "./calls/run.ts";
import { type AnyCall, mountRows } from "./dispatch.ts";
import { answerAll } from "./outermost.ts";
import { mountPages } from "./pages.ts";
import type { ApiEnv, ApiHono, ApiServer, AppParts, Edge, SocketEnd } from "./parts.ts";
import { socketCalls } from "./sockets/calls.ts";
import { websocketHandler } from "./sockets/handler.ts";
import { Waiting } from "./streams/budget.ts";
import { Tenancy } from "./tenancy/tenancy.ts";

export interface App {
  /** Without a server nothing can become a WebSocket. */
  fetch(request: Request, server: ApiServer | null): Response | Promise<Response>;
  readonly websocket: Bun.WebSocketHandler<SocketEnd>;
  /** Refuses what is new, waits for what is under way, cuts it off when it takes too long, and writes down what is left. */
  close(): Promise<void>;
}

/** `makeEdge` brings ports, webhooks, logs and metrics; null: rows of its own are refused. */
export function createApp(given: AppParts, makeEdge: ((parts: AppParts) => Edge) | null = null): App {
  const waiting = new Waiting();
  const edge = makeEdge?.({ ...given, waiting }) ?? null;
  const store = edge?.counted(given.store) ?? given.store;
  const parts: AppParts = { ...given, store };
  const { clock, log, settings } = parts;
  const keys = new Keys(store, clock, log);
  const audit = new Audit(store, clock, log);
  const requests = new Requests((kind) => edge?.opened(kind) ?? (() => undefined));
  const hostFor = (account: string) => {
    const host = parts.hostFor(account);
    return edge?.watched(host, account) ?? host;
  };
  const tenancy = new Tenancy({ ...parts, hostFor });
  const gate = createGate({ keys, clock, settings, requests, hostOf: (key, request) => tenancy.hostOf(key, request) });
  const hono: ApiHono = new Hono<ApiEnv>({ strict: false });

  answerAll(hono, { parts, audit, requests, edge });
  edge?.mountHosts(hono);
  mountPages(hono, parts, requests);
  edge?.mount(hono, gate);
  const money = { ...billingCalls(parts), ...booksCalls(parts) };
  const calls = { ...runCalls(), ...accountCalls(parts), ...money, ...edge?.calls };
  const named = new Map(Object.entries(calls)) as ReadonlyMap<string, unknown> as ReadonlyMap<string, AnyCall>;
  mountRows(hono, { ...parts, gate, calls: named, sockets: socketCalls(parts, waiting) });

  return {
    fetch: (request, server) => hono.fetch(request, { server }),
    websocket: websocketHandler,
    async close() {
      await requests.close(clock, settings.drainMs);
      await edge?.close();
      await keys[Symbol.asyncDispose]();
      await audit[Symbol.asyncDispose]();
    },
  };
}
