/** One row of the table as an OpenAPI operation. */
import { Kind, OptionalKind, type TSchema } from "@sinclair/typebox";
import type { Route } from "../route.ts";
import { placeOf } from "../split.ts";
import type { HttpStatus } from "../status.ts";
import { type RowName, table } from "../table.ts";
import { successOf, wireOf } from "../wire/wire.ts";
import { ANY_ROW_ERRORS, errorsByStatus } from "./errors.ts";
import { exampleOf } from "./examples.ts";
import type { Json, Schemas } from "./schemas.ts";
import { meaning, worded } from "./words.ts";

const AREAS: readonly (readonly [RegExp, string])[] = [
  [/^\/v1\/(pricing|usage|invoices|admin\/(pricing|billing))\b|\/:id\/usage$|\/:account\/plan$/, "Billing"],
  [/^\/v1\/(me|audit|admin)\b/, "Accounts"],
  [/^\/v1\/webhooks/, "Webhooks"],
  [/^\/v1\/templates/, "Templates"],
  [/^\/v1\/volumes|\/:id\/volumes/, "Volumes"],
  [/snapshots/, "Snapshots"],
  [/\/:id\/(fork|promote|pause|resume|hibernate|wake)/, "Forks and pauses"],
  [/\/:id\/(exec|processes)/, "Commands"],
  [/\/:id\/repl/, "Code"],
  [/\/:id\/fs/, "Files"],
  [/\/:id\/(ports|preview-token)/, "Ports"],
  [/\/:id\/network/, "Network"],
  [/^\/v1\/stats|\/:id\/(logs|events|metrics)/, "Observation"],
];

export function areaOf({ path }: Route): string {
  return AREAS.find(([pattern]) => pattern.test(path))?.[1] ?? "Sandboxes";
}

export const MEANINGS: Readonly<Record<HttpStatus, string>> = {
  400: "What was asked for is not valid; `details.field` names what",
  401: "No API key, or none that is known",
  402: "The account's credit is used up",
  403: "The key may not do this",
  404: "It is not there, or is another account's",
  405: "Another method is for this path",
  409: "Not in the state that it is in",
  413: "Too large",
  416: "The range is not in the file",
  429: "Over a quota or too often; `Retry-After` says when to try again",
  500: "A failure of this server's",
  503: "Not now; `Retry-After` says when to try again",
  504: "The command's time was over",
  507: "No room left on the server's disk",
};

const SOCKETS: { readonly [K in RowName]?: string } = {
  execSocket: [
    "Text frames, each one JSON object, any number of commands at once by an `id` of the caller's choice.",
    'Sent: `{"id","cmd","timeout_seconds"?}` begins a command, `{"id","stdin"}` writes to it, `{"id","signal"}` signals it, `{"id","cancel":true}` ends it.',
    'Received: `{"id","stream","data"}`, and at last `{"id","exit"}` or `{"id","error"}`.',
  ].join(" "),
  terminal: [
    "Binary frames are keystrokes, and output.",
    'Text frames: `{"resize":{"rows","cols"}}` is sent, `{"exit":N}` or `{"error"}` is received before the close.',
  ].join(" "),
  dial: [
    "Binary frames are bytes of the connection, each way.",
    'The text frame `{"end":true}` ends its sender\'s direction; `{"error","code"}` says what failed before the close.',
  ].join(" "),
};

const NOTES: { readonly [K in RowName]?: string } = {
  create:
    "With the header `Idempotency-Key` the same request makes one sandbox, however often it is sent. The template `ubuntu-24.04` of other systems is `base`.",
  list: "`X-Next-Cursor` and `Link` say where the list goes on.",
  readFile: "`Range` is honoured, as `offset` and `length` are.",
  logs: "Without `follow`, text: one line each. As server-sent events with `follow`, or where `Accept` asks for them.",
  events: "Without `follow`, a list. As server-sent events with `follow`, or where `Accept` asks for them.",
  exec: "With `args`, even empty, `cmd` is a program; without, it is a line for a shell. Exactly one of `cmd` and `python`.",
  usage:
    "With `format=csv` a table for spreadsheets: RFC 4180, UTF-8, and no cell that a spreadsheet would take for a formula.",
  usageEntries: "The sum of their amounts is the total of the report of the same range.",
  setPrices: "Days are of UTC. What a day that has begun costs is never changed.",
  settleBooks: "Doing it again, or by several servers at once, changes nothing.",
  run: "With `args`, even empty, `cmd` is a program; without, it is a line for a shell. Exactly one of `cmd` and `python`.",
};

/** Answers that are no JSON: the media type of each, in the form that asks for it. */
const FORMS: { readonly [K in RowName]?: readonly string[] } = {
  archiveOut: ["application/x-tar"],
  usageEntries: ["application/x-ndjson", "text/csv"],
  usage: ["text/csv"],
  invoicePdf: ["application/pdf"],
};

export function isSocket(name: RowName): boolean {
  return successOf(name) === 101;
}

function isEvents(name: RowName): boolean {
  return wireOf(name).events !== null;
}

/** A WebSocket begins as a GET. */
export function methodOf(name: RowName): string {
  return isSocket(name) ? "get" : table[name].method.toLowerCase();
}

function parameter(name: RowName, key: string, field: TSchema, { refer }: Schemas): Json {
  const place = placeOf(table[name], key);
  if (field[Kind] === "Record") {
    const description = `One for each entry, \`${key}.NAME=VALUE\`: only what has all of them`;
    return { name: `${key}.NAME`, in: place, required: false, description, schema: { type: "string" } };
  }
  const { description = meaning(name, key).description, ...schema } = refer(field);
  return {
    name: key,
    in: place,
    required: place === "path" || field[OptionalKind] !== "Optional",
    ...(description === undefined ? {} : { description }),
    schema,
  };
}

function parametersOf(name: RowName, all: Schemas): Json[] {
  const route = table[name];
  const fields = Object.entries(wireOf(name).input.schema.properties).flatMap(([key, field]): Json[] =>
    placeOf(route, key) === "body" ? [] : [parameter(name, key, field, all)],
  );
  if (name === "create") fields.push({ $ref: "#/components/parameters/IdempotencyKey" });
  if (name === "readFile") fields.push({ $ref: "#/components/parameters/Range" });
  return fields;
}

function bodyOf(name: RowName, { refer }: Schemas): Json | null {
  const route: Route = table[name];
  if (isSocket(name)) return null;
  if (route.upload === true) {
    const type = name === "archiveIn" ? "application/x-tar" : "application/octet-stream";
    return { required: false, content: { [type]: { schema: { type: "string", format: "binary" } } } };
  }
  const { properties } = wireOf(name).input.schema;
  const fields = Object.entries(properties).filter(([key]) => placeOf(route, key) === "body");
  if (fields.length === 0) return null;
  const required = fields.filter(([, field]) => field[OptionalKind] !== "Optional").map(([key]) => key);
  const schema = {
    type: "object",
    properties: Object.fromEntries(fields.map(([key, field]) => [key, refer(field)])),
    ...(required.length === 0 ? {} : { required }),
    additionalProperties: false,
  };
  // Viewers would make one up otherwise, of every field and of random letters, which is refused when it is sent.
  return { required: required.length > 0, content: { "application/json": { schema, example: exampleOf(name) } } };
}

/** Each block of a stream is one of these: `event: NAME`, `data: JSON`. */
function eventStream(name: RowName, { refer }: Schemas): Json {
  const blocks = Object.entries(wireOf(name).events?.schemas ?? {}).map(([event, data]) => ({
    type: "object",
    title: event,
    required: ["event", "data"],
    properties: { event: { const: event }, data: refer(data) },
  }));
  const failed = {
    type: "object",
    title: "error",
    description: "The stream ends with it",
    required: ["event", "data"],
    properties: { event: { const: "error" }, data: { $ref: "#/components/schemas/Error" } },
  };
  return { schema: { description: "Blocks of server-sent events; each is one of these", anyOf: [...blocks, failed] } };
}

/** Content of a success. */
function contentOf(name: RowName, all: Schemas): Json | null {
  const { output, events } = wireOf(name);
  const { returns } = table[name];
  if (events !== null) {
    const list = { schema: { type: "array", items: all.refer(Object.values(events.schemas)[0] as TSchema) } };
    return {
      ...(name === "logs" ? { "text/plain": { schema: { type: "string" } } } : {}),
      ...(name === "events" ? { "application/json": list } : {}),
      "text/event-stream": eventStream(name, all),
    };
  }
  const bytes = (type: string) => [
    type,
    { schema: { type: "string", ...(type === "text/csv" ? {} : { format: "binary" }) } },
  ];
  const forms = Object.fromEntries((FORMS[name] ?? []).map(bytes)) as Json;
  if (output !== null) return { "application/json": { schema: all.refer(output.schema) }, ...forms };
  if (returns !== "bytes") return null;
  return FORMS[name] === undefined ? Object.fromEntries([bytes("application/octet-stream")]) : forms;
}

const SUCCESS: Readonly<Record<number, string>> = {
  101: "A WebSocket",
  200: "What was asked for",
  201: "Made",
  202: "Under way",
  204: "Done",
};

const header = (name: string): Json => ({ $ref: `#/components/headers/${name}` });

function successesOf(name: RowName, all: Schemas): Json {
  const status = successOf(name);
  const content = status === 101 ? null : contentOf(name, all);
  const paging = name === "list" ? { "X-Next-Cursor": header("NextCursor"), Link: header("Link") } : {};
  const success = {
    description: SUCCESS[status] ?? "Done",
    headers: { "X-Request-Id": header("RequestId"), ...paging },
    ...(content === null ? {} : { content }),
  };
  if (name !== "readFile") return { [status]: success };
  const part = {
    ...success,
    description: "The range",
    headers: { ...success.headers, "Content-Range": header("ContentRange") },
  };
  return { [status]: success, 206: part };
}

/** What an error of these codes looks like. */
export function failure(status: HttpStatus, codes: readonly string[]): Json {
  const base = status === 504 ? "ExecTimeout" : "Error";
  const later = status === 429 || status === 503 ? { "Retry-After": header("RetryAfter") } : {};
  return {
    description: MEANINGS[status],
    headers: { "X-Request-Id": header("RequestId"), ...later },
    content: {
      "application/json": {
        schema: { $ref: `#/components/schemas/${base}`, properties: { code: { enum: codes } } },
      },
    },
  };
}

/** Responses that are the same of nearly every row, by their status. */
const SHARED: ReadonlyMap<HttpStatus, string> = new Map([
  [401, "Unauthorized"],
  [403, "Forbidden"],
  [413, "TooLarge"],
  [429, "RateLimited"],
  [500, "Internal"],
  [503, "Unavailable"],
]);

const sharedAt = (name: RowName, status: HttpStatus): string =>
  (errorsByStatus(name).get(status) ?? [])
    .filter((code) => (ANY_ROW_ERRORS as readonly string[]).includes(code))
    .join();

export function sharedResponses(): Json {
  const codes = errorsByStatus("me");
  return Object.fromEntries([...SHARED].map(([status, name]) => [name, failure(status, codes.get(status) ?? [])]));
}

function failuresOf(name: RowName): Json {
  const entries = [...errorsByStatus(name)].map(([status, codes]): [string, Json] => {
    const shared = SHARED.get(status);
    const isShared = shared !== undefined && codes.join() === sharedAt(name, status);
    return [`${status}`, isShared ? { $ref: `#/components/responses/${shared}` } : failure(status, codes)];
  });
  return Object.fromEntries(entries);
}

/** @param nth 0 of the row's own path, then its aliases */
export function operation(name: RowName, nth: number, all: Schemas): Json {
  const route: Route = table[name];
  const { scope, says, path } = route;
  const notes = [
    SOCKETS[name],
    NOTES[name],
    nth === 0 ? undefined : `The same as \`${path.replace(/:(\w+)/g, "{$1}")}\`.`,
  ].filter((note) => note !== undefined);
  const parameters = parametersOf(name, all);
  const requestBody = bodyOf(name, all);
  const inQuery = isSocket(name) || isEvents(name) ? [{ accessToken: [scope] }] : [];
  return {
    operationId: nth === 0 ? name : `${name}_${nth + 1}`,
    summary: says,
    ...(notes.length === 0 ? {} : { description: notes.join("\n\n") }),
    tags: [areaOf(route)],
    security: [{ bearer: [scope] }, { apiKey: [scope] }, ...inQuery],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(requestBody === null ? {} : { requestBody: worded(name, requestBody) }),
    responses: { ...(worded(name, successesOf(name, all)) as Json), ...failuresOf(name) },
  };
}
