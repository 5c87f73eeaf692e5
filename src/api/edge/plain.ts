/**
 * `logs` and `events` for who asks for something plainer than events: text, a line each, and a list. The package of the older
 * clients reads logs so. Everyone else gets the table's rows.
 */

import { parse } from "../../contract/parse.ts";
import { fromQuery } from "../../contract/split.ts";
import { wireOf } from "../../contract/wire/wire.ts";
import { WarrenError } from "../../errors.ts";
import { held } from "../answers/bytes.ts";
import type { ApiContext, ApiHono, AppParts, Edge, Gate, RequestContext } from "../parts.ts";
import { pulled } from "../streams/pull.ts";

type Calls = Edge["calls"];

/** What it was asked for comes first among all that is accepted. */
function wants({ req }: ApiContext, type: string): boolean {
  const accepted = req.header("accept")?.toLowerCase() ?? "";
  return accepted.includes(type) && !accepted.includes("text/event-stream");
}

function inputOf(name: "logs" | "events", context: ApiContext): Record<string, unknown> {
  const { input } = wireOf(name);
  const query = new URL(context.req.raw.url).searchParams;
  query.delete("access_token");
  const wire = { ...fromQuery(input.schema, query), id: context.req.param("id") ?? "" };
  return input.decode(parse(input.schema, wire)) as Record<string, unknown>;
}

/** As text, a piece each. Written out, since leaving a generator that was never read would not end its source. */
function asText(lines: AsyncIterable<{ readonly line: string }>): AsyncIterator<Uint8Array> {
  const source = lines[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    const { done, value } = await source.next();
    return done === true ? { done, value: undefined } : { done: false, value: encoder.encode(`${value.line}\n`) };
  };
  return {
    // What breaks, breaks it off: without a reason, which the runtime would print.
    next: () => next().catch(() => Promise.reject(undefined)),
    return: async () => {
      await source.return?.();
      return { done: true, value: undefined };
    },
  };
}

const HEADERS = { "x-content-type-options": "nosniff", "cache-control": "no-store" };

async function asList(name: "events", input: unknown, events: AsyncIterable<unknown>): Promise<Response> {
  const encoder = wireOf(name).events?.encoder(input);
  const list: unknown[] = [];
  for await (const event of events) for (const { data } of encoder?.encode(event) ?? []) list.push(data);
  return new Response(JSON.stringify(list), { headers: { ...HEADERS, "content-type": "application/json" } });
}

export function mountPlain(hono: ApiHono, gate: Gate, calls: Calls, parts: AppParts): void {
  const authorized = (context: ApiContext, name: string): Promise<RequestContext> =>
    gate.authorize(context, { name, scope: "sandbox:read" });
  hono.get("/v1/sandboxes/:id/logs", async (context, next) => {
    if (!wants(context, "text/plain")) return next();
    const asked = await authorized(context, "logs");
    if (context.req.raw.method === "HEAD")
      throw new WarrenError("method_not_allowed", "HEAD is not for what is streamed", { details: { allow: "GET" } });
    const lines = await calls.logs(asked, inputOf("logs", context) as Parameters<Calls["logs"]>[1]);
    const body = pulled(asText(lines), held(context, parts));
    return new Response(body, { headers: { ...HEADERS, "content-type": "text/plain; charset=utf-8" } });
  });
  hono.get("/v1/sandboxes/:id/events", async (context, next) => {
    if (!wants(context, "application/json")) return next();
    const asked = await authorized(context, "events");
    const input = inputOf("events", context) as Parameters<Calls["events"]>[1];
    return asList("events", input, await calls.events(asked, { ...input, follow: false }));
  });
}
