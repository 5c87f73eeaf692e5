/**
 * What a request says, before it is believed: its id, its key, its fields out of path, query and JSON body, each bounded
 * before it is read.
 */
import { nonce } from "../base/id.ts";
import { parse } from "../contract/parse.ts";
import type { Route } from "../contract/route.ts";
import { fromPath, fromQuery, takesBody } from "../contract/split.ts";
import type { ObjectCodec } from "../contract/wire/codec.ts";
import { WarrenError } from "../errors.ts";
import { BOUNDS } from "./bounds.ts";

const REQUEST_ID = /^[A-Za-z0-9._:/+=-]+$/;

/** The client's own, when it is one that may stand in a header and a log line. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get("x-request-id");
  const fits = given !== null && given.length <= BOUNDS.requestIdChars && REQUEST_ID.test(given);
  return fits ? given : `req_${nonce()}`;
}

/** @throws {WarrenError} `too_large`; `invalid_request` – its Host header is none */
export function refuseUnfit(request: Request): void {
  if (request.url.length > BOUNDS.urlChars)
    throw new WarrenError(
      "too_large",
      `the URL has ${request.url.length} characters, at most ${BOUNDS.urlChars} are allowed`,
    );
  let [count, chars] = [0, 0];
  request.headers.forEach((value, name) => {
    count += 1;
    chars += name.length + value.length;
  });
  if (count > BOUNDS.headers || chars > BOUNDS.headerChars)
    throw new WarrenError("too_large", `${count} headers of ${chars} characters are more than is allowed`);
  // The runtime puts it before the path as it came, for instance `127.0.0.999`.
  if (!URL.canParse(request.url))
    throw new WarrenError("invalid_request", "Host: what came is no name or address of a host", {
      details: { field: "Host" },
    });
}

/** The key that a request comes with; null when it has none. `query`: `?access_token=` counts, for who cannot set headers. */
export function tokenOf(request: Request, url: URL, { query }: { readonly query: boolean }): string | null {
  const authorization = request.headers.get("authorization");
  const bearer = authorization === null ? null : /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
  if (bearer !== undefined && bearer !== null) return bearer;
  return request.headers.get("x-api-key") ?? (query ? url.searchParams.get("access_token") : null);
}

/** The body, whole. @throws {WarrenError} `too_large` – as soon as that is known, however it comes */
async function bodyOf(request: Request, limitBytes: number): Promise<Uint8Array> {
  const refusal = () =>
    new WarrenError("too_large", `the body has more than ${limitBytes} bytes`, { details: { limitBytes } });
  if (Number(request.headers.get("content-length") ?? 0) > limitBytes) throw refusal();
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > limitBytes) throw refusal();
    parts.push(chunk);
  }
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
}

/** An object out of JSON; an empty body is an empty object. @throws {WarrenError} `invalid_request`, `too_large` */
export async function jsonOf(request: Request, limitBytes: number): Promise<Record<string, unknown>> {
  const bytes = await bodyOf(request, limitBytes);
  const bad = (why: string) => new WarrenError("invalid_request", `the body is not a JSON object: ${why}`);
  let value: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (text.trim() === "") return {};
    value = JSON.parse(text);
  } catch (cause) {
    // A SyntaxError; a TypeError of the decoder; a RangeError for what is nested too deeply.
    throw bad(cause instanceof Error ? cause.message.slice(0, 200) : "it cannot be read");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad(`it is ${typeNameOf(value)}`);
  return value as Record<string, unknown>;
}

function typeNameOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}

/** A row's fields as they came, keys as on the wire, fit for its schema. */
export interface Fields {
  readonly wire: Record<string, unknown>;
  /** The same as the contract has it. */
  readonly input: Record<string, unknown>;
}

/** @throws {WarrenError} `invalid_request` – naming the field; `too_large` */
export async function fieldsOf(
  asked: {
    readonly route: Route;
    readonly codec: ObjectCodec;
    readonly params: Record<string, string>;
    readonly url: URL;
  },
  request: Request,
  limitBytes: number,
): Promise<Fields> {
  const { route, codec, params, url } = asked;
  const query = new URLSearchParams(url.searchParams);
  query.delete("access_token");
  const rest = takesBody(route) ? await jsonOf(request, limitBytes) : fromQuery(codec.schema, query);
  const path = fromPath(codec.schema, params);
  for (const key of Object.keys(path))
    if (Object.hasOwn(rest, key) && rest[key] !== path[key])
      throw new WarrenError("invalid_request", `${key}: is in the path already`, { details: { field: key } });
  const wire = parse(codec.schema, { ...rest, ...path }) as Record<string, unknown>;
  return { wire, input: codec.decode(wire) as Record<string, unknown> };
}
