/** Requests out of the table: a row and its fields on the wire become a method, a URL and a body. */
import type { Route } from "../../src/contract/route.ts";
import { pathKeys, placeOf, takesBody, toPath, toQuery } from "../../src/contract/split.ts";
import { type RowName, table } from "../../src/contract/table.ts";

export const ROWS = Object.keys(table) as RowName[];

export function rowOf(name: RowName): Route {
  return table[name];
}

export function isSocket(name: RowName): boolean {
  const { returns, upload } = rowOf(name);
  return returns === "socket" || (upload === true && returns === "bytes");
}

export function isStream(name: RowName): boolean {
  const { returns } = rowOf(name);
  return typeof returns === "object" && Object.hasOwn(returns, "events");
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body: string | null;
}

/** As a client would send it. */
export function request(name: RowName, wire: Readonly<Record<string, unknown>>): Asked {
  const route = rowOf(name);
  const rest = Object.entries(wire).filter(([key]) => !pathKeys(route).includes(key));
  const inQuery = Object.fromEntries(rest.filter(([key]) => placeOf(route, key) === "query"));
  const inBody = Object.fromEntries(rest.filter(([key]) => placeOf(route, key) === "body"));
  const query = toQuery(inQuery).toString();
  const path = toPath(route.path, wire) + (query === "" ? "" : `?${query}`);
  const body = isSocket(name)
    ? null
    : takesBody(route)
      ? JSON.stringify(inBody)
      : route.upload === true
        ? "uploaded"
        : null;
  return { method: isSocket(name) ? "GET" : route.method, path, body };
}
