/**
 * The only place where a code meets an HTTP status, and what an error looks like on the wire: flat, with its sentence under
 * `error`. What a caller *names in a body or a query* and is not there is the caller's input, so 400; in the path it is 404.
 */
import { type Static, Type } from "@sinclair/typebox";
import { ERRORS, type ErrorCode, WarrenError } from "../errors.ts";
import type { Route } from "./route.ts";
import { pathKeys } from "./split.ts";
import { camel, isRecord, snake } from "./wire/derive.ts";

export type HttpStatus = 400 | 401 | 402 | 403 | 404 | 405 | 409 | 413 | 416 | 429 | 500 | 503 | 504 | 507;

export const STATUS = {
  invalid_request: 400,
  not_found: 404,
  template_not_found: 404,
  already_exists: 409,
  file_not_found: 404,
  file_error: 400,
  process_not_found: 404,
  context_not_found: 404,
  wrong_state: 409,
  unsupported: 400,
  cancelled: 409,
  capacity_exhausted: 503,
  queue_full: 503,
  create_timeout: 503,
  storage_exhausted: 507,
  host_unsupported: 503,
  permission_denied: 500,
  template_invalid: 503,
  bake_failed: 500,
  snapshot_in_use: 409,
  /** Damaged, or of another host: it is the snapshot's state, and no other call of this server is the worse for it. */
  snapshot_invalid: 409,
  volume_in_use: 409,
  /** Its guest ended; the server is well, and there is nothing to try again. */
  sandbox_lost: 409,
  guest_protocol: 500,
  guest_unresponsive: 503,
  driver_failed: 500,
  internal: 500,
  unauthorized: 401,
  forbidden: 403,
  out_of_credit: 402,
  quota_exceeded: 429,
  rate_limited: 429,
  idempotency_conflict: 409,
  too_large: 413,
  range_not_satisfiable: 416,
  method_not_allowed: 405,
  exec_timeout: 504,
  template_baking: 503,
  store_unavailable: 503,
  shutting_down: 503,
  /** Of a server that is itself a client of another. */
  connection_failed: 503,
} as const satisfies Record<ErrorCode, HttpStatus>;

/** Codes of something that a caller names. */
export const NAMES: ReadonlySet<ErrorCode> = new Set(["not_found", "template_not_found"]);

/**
 * What an error of this row is over HTTP. `details.field` says what was named, where a row names things both in its path and
 * in its body; without it, a row with something in its path has a 404.
 */
export function statusOf(
  code: ErrorCode,
  route?: Pick<Route, "path">,
  details: Readonly<Record<string, unknown>> = {},
): HttpStatus {
  if (route === undefined || !NAMES.has(code)) return STATUS[code];
  const keys = pathKeys(route);
  const field = details["field"];
  const inPath = typeof field === "string" ? keys.includes(field) : keys.length > 0;
  return inPath ? STATUS[code] : 400;
}

/** What every answer that is not a success is. */
export const ErrorBody = Type.Object({
  error: Type.String({ description: "What happened, to what, and what to do about it; for people" }),
  code: Type.String({ description: "Stable; one of those that the operation names" }),
  request_id: Type.Optional(Type.String({ description: "The same as the header X-Request-Id" })),
  details: Type.Optional(Type.Object({}, { additionalProperties: true, description: "Facts for programs" })),
});
export type ErrorBody = Static<typeof ErrorBody> & Readonly<Record<string, unknown>>;

/** What a command said until its time was over: beside the error's own fields. */
export const ExecTimeoutBody = Type.Composite([
  ErrorBody,
  Type.Object({
    timed_out: Type.Literal(true),
    stdout: Type.Optional(Type.String()),
    stderr: Type.Optional(Type.String()),
    stdout_base64: Type.Optional(Type.String()),
    stderr_base64: Type.Optional(Type.String()),
    exit_code: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
    signal: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    duration_ms: Type.Optional(Type.Number()),
    truncated: Type.Optional(Type.Boolean()),
  }),
]);

const keyed = (entries: Readonly<Record<string, unknown>>, name: (key: string) => string): Record<string, unknown> =>
  Object.fromEntries(Object.entries(entries).map(([key, value]) => [name(key), value]));

/** Details of a failure that is ours are about this server, and for its log alone. */
export function errorBody(error: WarrenError, requestId?: string): ErrorBody {
  const head = {
    error: error.message,
    code: error.code,
    ...(requestId === undefined ? {} : { request_id: requestId }),
  };
  if (error.code === "exec_timeout") return { ...keyed(error.details, snake), timed_out: true, ...head };
  const details = error.fault === "ours" ? {} : keyed(error.details, snake);
  return Object.keys(details).length === 0 ? head : { ...head, details };
}

/** Of an answer without a code: a proxy's, for instance. */
function codeOf(status: number | null): ErrorCode {
  if (status === 401) return "unauthorized";
  if (status === 402) return "out_of_credit";
  if (status === 403) return "forbidden";
  if (status === 404) return "not_found";
  if (status === 405) return "method_not_allowed";
  if (status === 409) return "wrong_state";
  if (status === 413) return "too_large";
  if (status === 416) return "range_not_satisfiable";
  if (status === 429) return "rate_limited";
  if (status === 503) return "capacity_exhausted";
  if (status === 507) return "storage_exhausted";
  return status !== null && status >= 400 && status < 500 ? "invalid_request" : "internal";
}

/**
 * The error that an answer stands for, for a client. `status` is null for an `error` event of a stream; `body` is its JSON,
 * or text that is none. A server's request id is in the details.
 */
export function errorOf(status: number | null, body: unknown): WarrenError {
  if (!isRecord(body)) {
    const says = typeof body === "string" && body !== "" ? body.slice(0, 1000) : "the server answered with no reason";
    return new WarrenError(codeOf(status), says, { details: status === null ? {} : { status } });
  }
  const { error, code, request_id, details, ...rest } = body;
  const known = typeof code === "string" && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : codeOf(status);
  const facts = known === "exec_timeout" ? keyed(rest, camel) : isRecord(details) ? keyed(details, camel) : {};
  return new WarrenError(known, typeof error === "string" && error !== "" ? error : `the server answered ${status}`, {
    details: {
      ...facts,
      ...(typeof request_id === "string" ? { requestId: request_id } : {}),
    },
  });
}
