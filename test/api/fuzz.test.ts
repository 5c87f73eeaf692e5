/** Requests nobody would write: whatever comes, the answer is one that the contract has, and never a failure of this server's. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { TSchema } from "@sinclair/typebox";
import fc from "fast-check";
import { createEdge } from "../../src/api/edge/index.ts";
import { takesBody } from "../../src/contract/split.ts";
import { wireOf } from "../../src/contract/wire/wire.ts";
import { arbitrary } from "../harness/arbitrary.ts";
import { ROWS, request, rowOf } from "./requests.ts";
import { Api } from "./subject.ts";

const RUNS = Number(process.env["API_FUZZ_RUNS"] ?? 2000);

let api: Api;
let box = "";
beforeAll(async () => {
  api = await Api.start({ edge: createEdge, settings: { createWaitMs: 2000 } });
  const made = await api.call("POST", "/v1/sandboxes", {});
  box = String(made.body["id"]);
});
afterAll(() => api[Symbol.asyncDispose]());

/** Often something that is there. */
const overrides = {
  id: fc.constantFrom("BOX", "BOX", "BOX", "BOX", "sb_none"),
  name: fc.constantFrom("base", "vol", "nothing"),
  template: fc.constantFrom("base", "nothing"),
  cmd: fc.constantFrom("echo a", "true", "exit 3", "cat"),
  path: fc.constantFrom("/work/a", "/", "/no/where", "/etc/passwd"),
  timeout_seconds: fc.constant(1),
  timeout_ms: fc.constant(1000),
};
const noise = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.string({ unit: "binary" }));

const asked = fc
  .constantFrom(...ROWS.filter((name) => name !== "revokeToken" && name !== "updateAccount"))
  .chain((name) => {
    const { schema } = wireOf(name).input;
    const keys = Object.keys(schema.properties);
    const spoilt = fc.tuple(fc.constantFrom(...keys, "unknown", "__proto__", "constructor"), noise);
    return fc.record({
      name: fc.constant(name),
      fields: arbitrary(schema as TSchema, overrides) as fc.Arbitrary<Record<string, unknown>>,
      spoilt: fc.option(spoilt, { freq: 2 }),
      body: fc.option(fc.oneof(fc.json(), fc.string({ unit: "binary" })), { freq: 10 }),
      header: fc.option(
        fc.tuple(fc.constantFrom("range", "idempotency-key", "x-request-id", "accept", "upgrade"), fc.string()),
        { freq: 4 },
      ),
    });
  });

/** What is asked for ends it now and then. */
async function renewed(): Promise<void> {
  const found = await api.engine.as("admin").get({ id: box });
  if (found.state === "running") return;
  for (const { id } of await api.engine.as("admin").list({})) await api.engine.as("admin").close({ id }); // all that was made
  box = String((await api.call("POST", "/v1/sandboxes", {})).body["id"]);
}

test("API answers whatever it is asked, and never with a failure of its own", async () => {
  const seen = new Map<number, number>();
  await fc.assert(
    fc.asyncProperty(asked, async ({ name, fields, spoilt, body, header }) => {
      await renewed();
      const entries = Object.entries(fields).filter(([key]) => spoilt === null || key !== spoilt[0]);
      // A query has no objects: there, noise is text.
      const flat = (value: unknown) =>
        takesBody(rowOf(name)) || typeof value !== "object" ? value : JSON.stringify(value);
      const wire = Object.fromEntries(spoilt === null ? entries : [...entries, [spoilt[0], flat(spoilt[1])]]);
      if (wire["id"] === "BOX" && name !== "close") wire["id"] = box;
      const built = request(name, wire);
      const sent = body !== null && built.body !== null ? body : built.body;
      const headers = new Headers();
      if (header !== null && /^[\x20-\x7e]*$/.test(header[1])) headers.set(...header);
      const leave = new AbortController();
      const init = { headers, signal: leave.signal, ...(sent === null ? {} : { body: sent }) };
      const response = await api.raw(built.method, built.path, init);
      seen.set(response.status, (seen.get(response.status) ?? 0) + 1);
      const isWhole = response.headers.get("content-type")?.startsWith("application/json") === true;
      const text = isWhole ? await response.text() : "";
      leave.abort();
      expect({ status: response.status, text }).not.toMatchObject({ status: 500 });
      if (response.status < 400) return;
      expect(JSON.parse(text)).toMatchObject({
        error: expect.any(String),
        code: expect.any(String),
        request_id: expect.any(String),
      });
    }),
    { numRuns: RUNS },
  );
  console.log(`answers by status: ${JSON.stringify(Object.fromEntries([...seen].sort()))}`);
}, 3_600_000);

const segment = fc.oneof(
  fc.constantFrom(
    "v1",
    "sandboxes",
    "BOX",
    "fs",
    "exec",
    "snapshots",
    "volumes",
    "me",
    "tokens",
    "..",
    "%2e%2e",
    "%00",
    "%ff",
    "",
    "proxy",
    "80",
  ),
  fc.string({ maxLength: 8 }).map(encodeURIComponent),
);
const anything = fc.record({
  method: fc.constantFrom("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"),
  path: fc.array(segment, { maxLength: 6 }),
  query: fc.string({ maxLength: 20 }).map(encodeURIComponent),
});

test("API answers any path and method that it does not know", async () => {
  await fc.assert(
    fc.asyncProperty(anything, async ({ method, path, query }) => {
      const at = `/${path.map((part) => (part === "BOX" ? box : part)).join("/")}?${query}`;
      const leave = new AbortController();
      const response = await api.raw(method, at, { signal: leave.signal });
      leave.abort();
      expect({ method, at, status: response.status }).not.toMatchObject({ status: 500 });
      expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    }),
    { numRuns: Math.ceil(RUNS / 4) },
  );
}, 3_600_000);
