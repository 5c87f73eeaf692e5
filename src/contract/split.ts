/**
 * What of an input travels where: keys that the path names in the path, then in the query for GET, DELETE and uploads, else
 * in a JSON body. Text of a path or a query becomes numbers, booleans, lists and records by the input's schema on the wire;
 * what does not fit stays the text that came, so that validation names it. Keys are those on the wire.
 */
import { Kind, type TObject, type TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { Route } from "./route.ts";

export type Place = "path" | "query" | "body";

/** Keys that a row's path names, in order. */
export function pathKeys({ path }: Pick<Route, "path">): string[] {
  return [...path.matchAll(/:(\w+)/g)].map(([, key]) => key ?? "");
}

/** True: what is not in the path is in a JSON body. */
export function takesBody({ method, upload }: Pick<Route, "method" | "upload">): boolean {
  return method !== "GET" && method !== "DELETE" && upload !== true;
}

export function placeOf(route: Pick<Route, "path" | "method" | "upload">, key: string): Place {
  if (pathKeys(route).includes(key)) return "path";
  return takesBody(route) ? "body" : "query";
}

const NUMBER = /^-?\d{1,300}(\.\d{1,300})?(e[+-]?\d{1,3})?$/i;
const BOOLEANS = new Map<string, boolean>([
  ["1", true],
  ["true", true],
  ["0", false],
  ["false", false],
]);

/** The value that a text stands for, or the text itself when it stands for none. */
function fromText(schema: TSchema, text: string): unknown {
  switch (schema[Kind]) {
    case "Integer":
    case "Number":
      return NUMBER.test(text) ? Number(text) : text;
    case "Boolean":
      return BOOLEANS.get(text) ?? text;
    case "Null":
      return text === "null" ? null : text;
    case "Literal":
      return String(schema["const"]) === text ? schema["const"] : text;
    case "Array":
      return [fromText(schema["items"] as TSchema, text)];
    case "Union": {
      const members = schema["anyOf"] as TSchema[];
      return members.map((member) => fromText(member, text)).find((value) => Value.Check(schema, value)) ?? text;
    }
    default:
      return text;
  }
}

/** `metadata.team` → the record `metadata` and its key `team`, where the schema has such a record. */
function entryOf(schema: TObject, key: string): readonly [string, string] | null {
  const dot = key.indexOf(".");
  const name = key.slice(0, dot);
  if (dot < 0 || !Object.hasOwn(schema.properties, name)) return null;
  return schema.properties[name]?.[Kind] === "Record" ? [name, key.slice(dot + 1)] : null;
}

function fromTexts(field: TSchema | undefined, texts: readonly string[]): unknown {
  if (field?.[Kind] === "Array") return texts.flatMap((text) => fromText(field, text));
  const [text = "", ...more] = texts;
  if (more.length > 0) return texts;
  return field === undefined ? text : fromText(field, text);
}

/** What a query says; a key that comes twice is a list, which fits where one is asked for. */
export function fromQuery(schema: TObject, query: URLSearchParams): Record<string, unknown> {
  const found = new Map<string, unknown>();
  const records = new Map<string, Map<string, string>>();
  for (const key of new Set(query.keys())) {
    const texts = query.getAll(key);
    const entry = entryOf(schema, key);
    if (entry === null) {
      found.set(key, fromTexts(Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined, texts));
      continue;
    }
    const entries = records.get(entry[0]) ?? new Map<string, string>();
    records.set(entry[0], entries.set(entry[1], texts[0] ?? ""));
  }
  for (const [key, entries] of records) found.set(key, Object.fromEntries(entries));
  return Object.fromEntries(found);
}

/** What a path's texts say, as they are after decoding of `%2F` and the like. */
export function fromPath(schema: TObject, params: Readonly<Record<string, string>>): Record<string, unknown> {
  const entries = Object.entries(params).map(([key, text]): [string, unknown] => {
    const field = Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined;
    return [key, field === undefined ? text : fromText(field, text)];
  });
  return Object.fromEntries(entries);
}

/** The query that `fromQuery` reads as these fields. */
export function toQuery(fields: Readonly<Record<string, unknown>>): URLSearchParams {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (Array.isArray(value)) for (const one of value) query.append(key, String(one));
    else if (typeof value === "object" && value !== null)
      for (const [entry, text] of Object.entries(value)) query.append(`${key}.${entry}`, String(text));
    else query.append(key, String(value));
  }
  return query;
}

/** The row's path with its keys filled in, each encoded. */
export function toPath(path: string, fields: Readonly<Record<string, unknown>>): string {
  return path.replace(/:(\w+)/g, (_, key: string) => encodeURIComponent(String(fields[key])));
}
