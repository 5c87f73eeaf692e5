/** Answers: what every one of them carries, and what a failure looks like. A cause never leaves this process. */
import type { Log } from "../../base/log.ts";
import type { Route } from "../../contract/route.ts";
import { errorBody, statusOf } from "../../contract/status.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";

const ALWAYS = { "cache-control": "no-store", "x-content-type-options": "nosniff" } as const;
/** Seconds after which to try again, where a failure does not say. */
const RETRY_AFTER: Readonly<Partial<Record<WarrenError["code"], number>>> = {
  capacity_exhausted: 5,
  queue_full: 5,
  create_timeout: 5,
  quota_exceeded: 5,
  rate_limited: 1,
  template_baking: 5,
  store_unavailable: 2,
  shutting_down: 5,
};

export type HeaderFields = Readonly<Record<string, string>>;

export function json(value: unknown, status: number, headers: HeaderFields = {}): Response {
  return new Response(JSON.stringify(value), {
    status,
    headers: { ...ALWAYS, "content-type": "application/json; charset=utf-8", ...headers },
  });
}

export function empty(status: number, headers: HeaderFields = {}): Response {
  return new Response(null, { status, headers: { ...ALWAYS, ...headers } });
}

export function whole(body: string, type: string, headers: HeaderFields = {}): Response {
  return new Response(body, { status: 200, headers: { ...ALWAYS, "content-type": type, ...headers } });
}

export function stream(
  body: ReadableStream<Uint8Array>,
  type: string,
  headers: HeaderFields = {},
  status = 200,
): Response {
  return new Response(body, { status, headers: { ...ALWAYS, "content-type": type, ...headers } });
}

/** What a caller is told of any failure: what is no `WarrenError` is a bug here, and stays here. */
export function told(cause: unknown): WarrenError {
  return isWarrenError(cause)
    ? cause
    : new WarrenError("internal", "something went wrong here; the request id helps to find out what", { cause });
}

/** Failures of this host's are for its operator too. */
export function logged(error: WarrenError, log: Log, requestId: string): void {
  if (error.fault !== "ours" && error.fault !== "host") return;
  const cause = error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : error.cause;
  log.error("a request failed", {
    request: requestId,
    code: error.code,
    why: error.message,
    ...(cause === undefined ? {} : { cause: String(cause).slice(0, 4000) }),
  });
}

/** Headers that go with a failure. */
function headersOf({ code, details }: WarrenError): Record<string, string> {
  const headers: Record<string, string> = {};
  const retry = details["retryAfterSeconds"] ?? RETRY_AFTER[code];
  if (retry !== undefined) headers["retry-after"] = String(retry);
  if (code === "unauthorized") headers["www-authenticate"] = "Bearer";
  if (code === "range_not_satisfiable") headers["content-range"] = `bytes */${details["sizeBytes"]}`;
  if (code === "method_not_allowed") headers["allow"] = String(details["allow"]);
  return headers;
}

/** A failure as an answer. */
export function failure(error: WarrenError, requestId: string, route?: Route): Response {
  return json(errorBody(error, requestId), statusOf(error.code, route, error.details), headersOf(error));
}
