/**
 * `logs` and `events` for who asks for something plainer than events: text, a line each, and a list. The package of the older
 * clients reads logs so. Everyone else gets the table's rows.
 */

import { parse } from "../../contract/parse.ts";
import { fromQuery } from "../../contract/split.ts";
import { wireOf } from "../../contract/wire/wire.ts";
import type { ApiContext, ApiHono, Edge, Gate, RequestContext } from "../parts.ts";

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

/** One that has begun well, as text that streams; what breaks later breaks it off. */
async function asText(lines: AsyncIterable<{ readonly line: string }>): Promise<Response> {
  const iterator = lines[Symbol.asyncIterator]();
  let next: Promise<IteratorResult<{ readonly line: string }>> | null = Promise.resolve(await iterator.next());
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await (next ?? iterator.next());
          next = null;
          if (done === true) controller.close();
          else controller.enqueue(encoder.encode(`${value.line}\n`));
        } catch {
          controller.error(undefined); // without a reason, which the runtime would print
        }
      },
      cancel: async () => {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { headers: { ...HEADERS, "content-type": "text/plain; charset=utf-8" } });
}

const HEADERS = { "x-content-type-options": "nosniff", "cache-control": "no-store" };

async function asList(name: "events", input: unknown, events: AsyncIterable<unknown>): Promise<Response> {
  const encoder = wireOf(name).events?.encoder(input);
  const list: unknown[] = [];
  for await (const event of events) for (const { data } of encoder?.encode(event) ?? []) list.push(data);
  return new Response(JSON.stringify(list), { headers: { ...HEADERS, "content-type": "application/json" } });
}

export function mountPlain(hono: ApiHono, gate: Gate, calls: Calls): void {
  const authorized = (context: ApiContext, name: string): Promise<RequestContext> =>
    gate.authorize(context, { name, scope: "sandbox:read" });
  hono.get("/v1/sandboxes/:id/logs", async (context, next) => {
    if (!wants(context, "text/plain")) return next();
    const asked = await authorized(context, "logs");
    context.env.server?.timeout(context.req.raw, 0);
    return asText(await calls.logs(asked, inputOf("logs", context) as Parameters<Calls["logs"]>[1]));
  });
  hono.get("/v1/sandboxes/:id/events", async (context, next) => {
    if (!wants(context, "application/json")) return next();
    const asked = await authorized(context, "events");
    const input = inputOf("events", context) as Parameters<Calls["events"]>[1];
    return asList("events", input, await calls.events(asked, { ...input, follow: false }));
  });
}
