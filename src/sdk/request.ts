/** A call of a row as an HTTP request: what travels in the path, the query, the body and the headers. */
import { parse } from "../contract/parse.ts";
import type { Body, Route } from "../contract/route.ts";
import { placeOf, takesBody, toPath, toQuery } from "../contract/split.ts";
import { type RowName, table } from "../contract/table.ts";
import { wireOf } from "../contract/wire/wire.ts";
import { WarrenError } from "../errors.ts";

export interface RowRequest {
  readonly name: RowName;
  readonly row: Route;
  /** Path and query, from the server's root. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON, or the bytes of an upload; null: none. */
  readonly body: { readonly json: string } | { readonly upload: Body } | null;
}

/** A URL's path would lose them, with what is before them: another operation would be called. */
function refuseDots(field: string, value: unknown): void {
  if (value !== "." && value !== "..") return;
  throw new WarrenError("invalid_request", `${field}: got "${value}", which is nothing's name`, { details: { field } });
}

/**
 * Checked as the engine checks it, so that fields are named as the caller has them.
 * @throws {WarrenError} `invalid_request` – naming the field
 */
export function requestOf(name: RowName, input: Readonly<Record<string, unknown>>): RowRequest {
  const row: Route = table[name];
  const { body, ...rest } = input;
  const fields = row.upload === true ? rest : input;
  parse(row.input, fields);
  const wire = wireOf(name).input.encode(fields) as Record<string, unknown>;
  const at = (place: string) => Object.fromEntries(Object.entries(wire).filter(([key]) => placeOf(row, key) === place));
  const path = at("path");
  for (const [key, value] of Object.entries(path)) refuseDots(key, value);
  const query = toQuery(at("query")).toString();
  const target = toPath(row.path, path) + (query === "" ? "" : `?${query}`);
  if (row.upload === true) {
    const headers = { "content-type": "application/octet-stream" };
    return { name, row, target, headers, body: { upload: body as Body } };
  }
  if (!takesBody(row)) return { name, row, target, headers: {}, body: null };
  const json = JSON.stringify(at("body"));
  return { name, row, target, headers: { "content-type": "application/json" }, body: { json } };
}
