/** What a row can fail with over HTTP: what it says itself, what a server adds to it, and what any request can meet. */
import type { ErrorCode } from "../../errors.ts";
import type { Route } from "../route.ts";
import { pathKeys } from "../split.ts";
import { type HttpStatus, NAMES, STATUS, statusOf } from "../status.ts";
import { type RowName, table } from "../table.ts";

/** Of any request. */
export const ANY_ROW_ERRORS = [
  "invalid_request",
  "unauthorized",
  "forbidden",
  "too_large",
  "rate_limited",
  // Any call may wake a sandbox that hibernates.
  "quota_exceeded",
  "out_of_credit",
  "internal",
  "store_unavailable",
  "shutting_down",
] as const satisfies readonly ErrorCode[];

/** What an account's limits, keys of repeated requests and ranges add. */
const ADDED: { readonly [K in RowName]?: readonly ErrorCode[] } = {
  create: ["out_of_credit", "quota_exceeded", "idempotency_conflict", "template_baking"],
  fork: ["out_of_credit", "quota_exceeded"],
  forkTree: ["out_of_credit", "quota_exceeded"],
  snapshot: ["quota_exceeded"],
  createVolume: ["quota_exceeded"],
  resizeVolume: ["quota_exceeded"],
  readFile: ["range_not_satisfiable"],
};

/** Every code that a row can answer with, its own first. */
export function errorsOf(name: RowName): readonly ErrorCode[] {
  return [...new Set<ErrorCode>([...table[name].errors, ...(ADDED[name] ?? []), ...ANY_ROW_ERRORS])];
}

/** Under which statuses a code can come: two where a row names things both in its path and beside it. */
function statusesOf(code: ErrorCode, route: Route): readonly HttpStatus[] {
  const inPath = pathKeys(route).length;
  const isMixed = NAMES.has(code) && inPath > 0 && Object.keys(route.input.properties).length > inPath;
  return isMixed ? [400, STATUS[code]] : [statusOf(code, route)];
}

/** HTTP status → the codes that come with it. */
export function errorsByStatus(name: RowName): ReadonlyMap<HttpStatus, readonly ErrorCode[]> {
  const all = errorsOf(name).flatMap((code) => statusesOf(code, table[name]).map((status) => ({ code, status })));
  const grouped = Map.groupBy(all, ({ status }) => status);
  return new Map(
    [...grouped].sort(([a], [b]) => a - b).map(([status, list]) => [status, list.map(({ code }) => code)]),
  );
}
