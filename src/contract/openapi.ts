/** The OpenAPI 3.1 document, out of the table: the same rows, the same wire schemas, the same statuses that a server answers with. */
import { areaOf, methodOf, operation, sharedResponses } from "./openapi/operation.ts";
import { type Json, schemas } from "./openapi/schemas.ts";
import type { Route } from "./route.ts";
import { type RowName, table } from "./table.ts";

export { ANY_ROW_ERRORS, errorsByStatus, errorsOf } from "./openapi/errors.ts";

const DESCRIPTION = `Sandboxes over HTTP: each is a microVM of its own, restored from a snapshot.

Every request has an API key: \`Authorization: Bearer KEY\`, or \`X-API-Key: KEY\`; for WebSockets and server-sent events also
\`?access_token=KEY\`. Fields that an operation does not know are refused with their name. An error is a flat object: \`error\` is
a sentence, \`code\` is stable, \`request_id\` is what the header \`X-Request-Id\` says too.

Server-sent events have LF alone at the end of lines, and a comment as a heartbeat. A stream that fails after it began ends with
the event \`error\`.`;

const text = (description: string): Json => ({ description, schema: { type: "string" } });
const seconds = (description: string): Json => ({ description, schema: { type: "integer", minimum: 0 } });

const HEADERS: Json = {
  RequestId: text("Of this request: the one that came with it, or a new one"),
  RetryAfter: seconds("Seconds after which to try again"),
  NextCursor: text("`cursor` of the next page; left out on the last"),
  Link: text("The next page, `rel=next`"),
  ContentRange: text("Which bytes of how many"),
};

const PARAMETERS: Json = {
  IdempotencyKey: {
    name: "Idempotency-Key",
    in: "header",
    required: false,
    description:
      "The same key with the same body is answered with what the first one made; with another body it is refused",
    schema: { type: "string", minLength: 1, maxLength: 255 },
  },
  Range: {
    name: "Range",
    in: "header",
    required: false,
    description: "One range of bytes, `bytes=0-99`",
    schema: { type: "string" },
  },
};

const SECURITY: Json = {
  bearer: { type: "http", scheme: "bearer", description: "An API key" },
  apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: "An API key" },
  accessToken: {
    type: "apiKey",
    in: "query",
    name: "access_token",
    description: "An API key, where a browser can set no header: WebSockets and server-sent events",
  },
};

/** What is no row, and needs no key. */
function open(): Json {
  const json = (description: string): Json => ({
    description,
    content: { "application/json": { schema: { type: "object" } } },
  });
  const operationOf = (operationId: string, summary: string, responses: Json): Json => ({
    get: { operationId, summary, tags: ["Server"], security: [], responses },
  });
  return {
    "/healthz": operationOf("health", "Read whether this server can do its work, and why it cannot", {
      200: json("It can"),
      503: json("Not yet, or not any more; with reasons"),
    }),
    "/version": operationOf("version", "Read which version this server is", { 200: json("Its version") }),
    "/openapi.json": operationOf("openapi", "Read this document", { 200: json("An OpenAPI 3.1 document") }),
  };
}

const braced = (path: string): string => path.replace(/:(\w+)/g, "{$1}");

export interface OpenApiOptions {
  /** Of the server. */
  readonly version: string;
}

/** The document, as a value to be written as JSON. */
export function openapi({ version }: OpenApiOptions): Json {
  const all = schemas();
  const paths: Record<string, Json> = {};
  const tags = new Set<string>();
  for (const [name, route] of Object.entries(table) as [RowName, Route][]) {
    tags.add(areaOf(route));
    for (const [nth, path] of [route.path, ...(route.aliases ?? [])].entries())
      paths[braced(path)] = { ...paths[braced(path)], [methodOf(name)]: operation(name, nth, all) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Warren",
      version,
      description: DESCRIPTION,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: [...tags, "Server"].map((name) => ({ name })),
    security: [{ bearer: [] }, { apiKey: [] }],
    paths: { ...paths, ...open() },
    components: {
      schemas: all.components,
      responses: sharedResponses(),
      parameters: PARAMETERS,
      headers: HEADERS,
      securitySchemes: SECURITY,
    },
  };
}
