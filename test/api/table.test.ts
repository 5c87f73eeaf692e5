/** Every row of the table, walked: what it answers without a key, to a stranger, to what is wrong, and to what is right. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { createEdge } from "../../src/api/edge/index.ts";
import { errorsOf } from "../../src/contract/openapi.ts";
import { SCOPES } from "../../src/contract/route.ts";
import { fromQuery, placeOf, toQuery } from "../../src/contract/split.ts";
import { ErrorBody, statusOf } from "../../src/contract/status.ts";
import type { RowName } from "../../src/contract/table.ts";
import { successOf, wireOf } from "../../src/contract/wire/wire.ts";
import { WarrenError } from "../../src/errors.ts";
import { broken, sample } from "../harness/arbitrary.ts";
import { type Asked, isSocket, isStream, ROWS, request, rowOf } from "./requests.ts";
import { stubHost } from "./stub-host.ts";
import { Api } from "./subject.ts";

/** What fits a row's input on the wire, `own` where it has these fields. */
function valid(name: RowName, own: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const { schema } = wireOf(name).input;
  const fields = sample(schema as TSchema) as Record<string, unknown>;
  const required = Object.entries(fields).filter(([key]) => schema.required?.includes(key) || key in own);
  const picked = Object.fromEntries(required.map(([key, value]) => [key, own[key] ?? value]));
  // Fields of which one is needed, which a schema does not say.
  if (name === "exec" || name === "run") return { ...picked, cmd: "true" };
  return name === "rename" ? { ...picked, path: "/a", to: "/b" } : picked;
}

async function ask(
  api: Api,
  { method, path, body }: Asked,
  key: string | null,
): Promise<{ status: number; body: unknown; type: string }> {
  const response = await api.raw(method, path, { key, ...(body === null ? {} : { body }) });
  const type = response.headers.get("content-type") ?? "";
  const text = await response.text();
  return { status: response.status, type, body: type.startsWith("application/json") ? JSON.parse(text) : text };
}

describe("Every row", () => {
  let api: Api;
  let stranger = "";
  const theirs: Record<string, string> = {};
  beforeAll(async () => {
    api = await Api.start({ edge: createEdge, settings: { bodyBytes: 2 ** 24 } });
    stranger = await api.key("stranger");
    const key = await api.key("owner");
    const id = (answer: { body: Record<string, unknown> }) => String(answer.body["id"]);
    theirs["sandbox"] = id(await api.call("POST", "/v1/sandboxes", {}, { key }));
    theirs["snapshot"] = id(await api.call("POST", `/v1/sandboxes/${theirs["sandbox"]}/snapshots`, {}, { key }));
    theirs["webhook"] = id(await api.call("POST", "/v1/webhooks", { url: "https://hooks.example/" }, { key }));
    theirs["volume"] = String(
      (await api.call("POST", "/v1/volumes", { name: "theirs", size_mb: 16 }, { key })).body["name"],
    );
  });
  afterAll(() => api[Symbol.asyncDispose]());

  test.each(ROWS)("%s asks for a key", async (name) => {
    expect(await ask(api, request(name, valid(name)), null)).toMatchObject({
      status: 401,
      body: { code: "unauthorized" },
    });
  });

  test.each(ROWS)("%s names the scope that a key lacks", async (name) => {
    const { scope } = rowOf(name);
    const key = await api.key(
      "acme",
      SCOPES.filter((one) => one !== scope && one !== "admin"),
    );
    const answer = await ask(api, request(name, valid(name)), key);
    expect(answer).toMatchObject({ status: 403, body: { code: "forbidden", details: { scope } } });
  });

  const owned = (name: RowName): string | undefined => {
    const { path } = rowOf(name);
    if (path.startsWith("/v1/sandboxes/:id")) return theirs["sandbox"];
    if (path.startsWith("/v1/snapshots/:id")) return theirs["snapshot"];
    if (path.startsWith("/v1/webhooks/:id")) return theirs["webhook"];
    return path.startsWith("/v1/volumes/:name") ? theirs["volume"] : undefined;
  };
  const ofOne = ROWS.filter((name) =>
    /^\/v1\/(sandboxes|snapshots|webhooks)\/:id|^\/v1\/volumes\/:name/.test(rowOf(name).path),
  );

  test.each(ofOne.filter((name) => !isSocket(name)))("%s knows nothing of another account's", async (name) => {
    const id = owned(name);
    const answer = await ask(api, request(name, valid(name, { id, name: id })), stranger);
    expect(answer).toMatchObject({ status: 404, body: { code: "not_found" } });
    expect(Value.Check(ErrorBody, answer.body)).toBe(true);
  });

  test.each(ROWS.filter((name) => !isSocket(name)))("%s names the field that is wrong", async (name) => {
    const right = valid(name);
    const ways = broken(wireOf(name).input.schema).filter(({ field, of }) =>
      isWrongOnTheWire(name, field, right, of(right)),
    );
    expect(ways.length).toBeGreaterThan(0);
    for (const { field, why, of } of ways) {
      const answer = await ask(api, request(name, of(right)), api.admin);
      const { details, code } = answer.body as { code?: string; details?: { field?: string } };
      const [top] = field.split(".");
      const told = { field, why, status: answer.status, code, named: details?.field?.split(".")[0] };
      expect(told).toEqual({ field, why, status: 400, code: "invalid_request", named: top });
    }
  });
});

/** In a path or a query all is text, which may fit where JSON would not, or not be there at all. */
function isWrongOnTheWire(
  name: RowName,
  field: string,
  right: Readonly<Record<string, unknown>>,
  wrong: Readonly<Record<string, unknown>>,
): boolean {
  const [top = ""] = field.split(".");
  const { [top]: value } = wrong;
  const place = placeOf(rowOf(name), top);
  if (place === "body") return true;
  if (place === "path") return typeof value === "string" && value !== "" && !value.includes("\u0000");
  const { [top]: _, ...rest } = right;
  const { schema } = wireOf(name).input;
  const read = fromQuery(schema, toQuery({ [top]: value }));
  const isSent = value === undefined || top in read;
  return isSent && !Value.Check(schema, { ...rest, ...read });
}

describe("Every row over a host that answers anything", () => {
  let api: Api;
  let failing: { row: string; error: WarrenError } | null = null;
  beforeAll(async () => {
    const stub = stubHost(() => failing);
    api = await Api.start({ around: () => stub });
  });
  afterAll(() => api[Symbol.asyncDispose]());

  const ofHost = ROWS.filter((name) => name in stubHost(() => null) && !isSocket(name));

  test.each(ofHost)("%s answers what its schema on the wire says", async (name) => {
    failing = null;
    const { output, events } = wireOf(name);
    const answer = await ask(api, request(name, valid(name)), api.admin);
    expect([answer.status, answer.body]).toEqual([successOf(name), answer.body]);
    if (isStream(name)) {
      expect(answer.type).toBe("text/event-stream; charset=utf-8");
      const [, event = "", data = ""] = /^event: (.*)\ndata: (.*)\n\n/.exec(String(answer.body)) ?? [];
      expect(Object.keys(events?.schemas ?? {})).toContain(event);
      expect([...Value.Errors(events?.schemas[event] as TSchema, JSON.parse(data))]).toEqual([]);
    } else if (output !== null)
      expect([...Value.Errors(output.schema, answer.body)].map(({ path, message }) => [path, message])).toEqual([]);
    else expect(answer.body).toBe(rowOf(name).returns === "bytes" ? "bytes" : "");
  });

  test.each(ofHost)("%s passes on every failure that it documents, with its status", async (name) => {
    // Of a create and a fork, what is made is booked first: there, the host is asked for what it made too.
    for (const code of errorsOf(name)) {
      failing = {
        row: name,
        error: new WarrenError(code, `provoked ${code}`, code === "exec_timeout" ? {} : { details: { fact: 1 } }),
      };
      const answer = await ask(api, request(name, valid(name)), api.admin);
      // First: a matcher that fits takes the value's place in what it is held to.
      expect([...Value.Errors(ErrorBody, answer.body)]).toEqual([]);
      expect({ code, status: answer.status }).toEqual({ code, status: statusOf(code, rowOf(name), { fact: 1 }) });
      expect(answer.body).toMatchObject({
        code,
        error: expect.stringContaining(`provoked ${code}`),
        request_id: expect.stringMatching(/^req_/),
      });
    }
    failing = null;
  });
});
