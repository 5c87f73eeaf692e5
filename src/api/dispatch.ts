/**
 * The app that follows from the table: for each row and each of its paths, let in, read, call, answer. What a row does is
 * not here: a `SandboxHost` or an API row of the same name does it.
 */
import type { Route } from "../contract/route.ts";
import { type RowName, table } from "../contract/table.ts";
import { namedOnWire } from "../contract/wire/fields.ts";
import { wireOf } from "../contract/wire/wire.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { empty } from "./answers/answer.ts";
import { answerOf } from "./answers/rows.ts";
import type { ApiContext, ApiHono, AppParts, Gate, RequestContext } from "./parts.ts";
import { type Fields, fieldsOf } from "./request.ts";
import { uploaded } from "./streams/upload.ts";

/** A row that is called with what was read of its request. */
export type AnyCall = (context: RequestContext, input: unknown) => Promise<unknown>;
/** A row that is a WebSocket: what it answers with, once upgraded. */
export type SocketCall = (context: ApiContext, asked: RequestContext, input: unknown) => Promise<Response>;

export interface Dispatch extends Pick<AppParts, "clock" | "log" | "settings" | "pricePerSecondUsd"> {
  readonly gate: Gate;
  /** Rows that only the API has. */
  readonly calls: ReadonlyMap<string, AnyCall>;
  readonly sockets: ReadonlyMap<string, SocketCall>;
}

function pathsOf({ path, aliases = [] }: Route): readonly string[] {
  return [path, ...aliases];
}

/** Everything that is told piece by piece: its key may be in the query, as browsers can set no header there. */
function isEvents({ returns }: Route): boolean {
  return typeof returns === "object" && Object.hasOwn(returns, "events");
}

function isSocket({ returns, upload }: Route): boolean {
  return returns === "socket" || (upload === true && returns === "bytes");
}

/** A WebSocket begins as a GET, whatever the row says. */
function methodOf(route: Route): string {
  return isSocket(route) ? "GET" : route.method;
}

export function mountRows(hono: ApiHono, parts: Dispatch): void {
  const methods = new Map<string, Set<string>>();
  for (const [name, route] of Object.entries(table) as [RowName, Route][]) {
    const handler = handlerOf(name, route, parts);
    for (const path of pathsOf(route)) {
      hono.on(methodOf(route), path, handler);
      const known = methods.get(path) ?? new Set();
      methods.set(path, known.add(methodOf(route)));
    }
  }
  for (const [path, known] of methods) {
    const allow = [...known, ...(known.has("GET") ? ["HEAD"] : []), "OPTIONS"].sort().join(", ");
    hono.all(path, ({ req }) => {
      if (req.method === "OPTIONS") return empty(204, { allow });
      throw new WarrenError("method_not_allowed", `${req.method} is not for this path: ${allow}`, {
        details: { allow },
      });
    });
  }
}

function handlerOf(name: RowName, route: Route, parts: Dispatch): (context: ApiContext) => Promise<Response> {
  const wire = wireOf(name);
  const streamed = isEvents(route) || isSocket(route) || route.returns === "bytes";
  const answer = answerOf(name, route, wire, parts);
  return async (context) => {
    const { req, var: vars } = context;
    vars.entry.changes = route.method !== "GET" || isSocket(route);
    const queryToken = isEvents(route) || isSocket(route);
    const asked = await parts.gate.authorize(context, { name, scope: route.scope, queryToken });
    if (req.raw.method === "HEAD" && streamed && name !== "readFile")
      throw new WarrenError("method_not_allowed", "HEAD is not for what is streamed", { details: { allow: "GET" } });
    const of = { route, codec: wire.input, params: req.param() as Record<string, string>, url: asked.url };
    const fields = await fieldsOf(of, req.raw, parts.settings.bodyBytes);
    vars.entry.target = targetOf(fields);
    const socket = parts.sockets.get(name);
    if (socket !== undefined) return socket(context, asked, fields.input);
    return answer(context, asked, fields, async () => {
      try {
        return await call(name, route, parts, context, asked, fields);
      } catch (cause) {
        throw isWarrenError(cause) ? namedOnWire(name, cause) : cause;
      }
    });
  };
}

/** What a change is done to, for the audit. */
function targetOf({ input }: Fields): string | null {
  const { id, name, account, prefix, addCreditUsd } = input;
  // Money that was added is told with it: afterwards nothing else shows how much it was.
  if (addCreditUsd !== undefined) return `${account} credit ${addCreditUsd} USD`;
  const target = id ?? name ?? account ?? prefix;
  return typeof target === "string" ? target : null;
}

function call(
  name: RowName,
  route: Route,
  parts: Dispatch,
  { req }: ApiContext,
  asked: RequestContext,
  { input }: Fields,
): Promise<unknown> {
  const given = route.upload === true ? { ...input, body: uploaded(req.raw, asked.signal) } : input;
  const own = parts.calls.get(name);
  if (own !== undefined) return own(asked, given);
  const { host, signal } = asked;
  const rows = host as unknown as Readonly<
    Record<string, ((input: unknown, options: { signal: AbortSignal }) => Promise<unknown>) | undefined>
  >;
  const row = rows[name];
  if (row === undefined) throw new WarrenError("unsupported", `${name} is not offered by this server`);
  return row(given, { signal });
}
