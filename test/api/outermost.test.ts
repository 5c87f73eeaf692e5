/** Around every request: ids, bounds, unknown paths, the access log and the audit. */

import { expect, test } from "bun:test";
import { connect } from "node:net";
import { until } from "../harness/until.ts";
import { Api } from "./subject.ts";

test("API echoes a request's id when it can stand in a log, else it makes one", async () => {
  await using api = await Api.start();
  const idOf = async (id: string) =>
    (await api.raw("GET", "/v1/me", { headers: { "x-request-id": id } })).headers.get("x-request-id");
  expect(await idOf("abc-123.z")).toBe("abc-123.z");
  for (const bad of ["a b", "x".repeat(129), "é", '"']) expect(await idOf(bad)).toMatch(/^req_[a-z0-9]{16}$/);
  const { headers, body } = await api.call("GET", "/v1/nothing", undefined, { headers: { "x-request-id": "mine" } });
  expect([headers.get("x-request-id"), body["request_id"]]).toEqual(["mine", "mine"] as never);
});

test("API says which methods a path has, and that there is nothing under any other", async () => {
  await using api = await Api.start();
  const wrong = await api.call("PATCH", "/v1/sandboxes");
  expect(wrong.body).toMatchObject({ code: "method_not_allowed" });
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS, POST"]);
  const options = await api.raw("OPTIONS", "/v1/sandboxes", { key: null });
  expect([options.status, options.headers.get("allow")]).toEqual([204, "GET, HEAD, OPTIONS, POST"]);
  expect(options.headers.get("access-control-allow-origin")).toBeNull();
  for (const path of ["/", "/v1", "/v2/sandboxes", "/v1/sandboxes/a/b/c/d", "/v1/%00"])
    expect((await api.call("GET", path)).body).toMatchObject({ code: "not_found" });
  const head = await api.raw("HEAD", "/v1/sandboxes");
  expect([head.status, await head.text()]).toEqual([200, ""]);
  expect((await api.raw("HEAD", "/v1/sandboxes/x/fs/archive?path=/a")).status).toBe(405);
});

test("API bounds a JSON body, by its length and as it comes", async () => {
  await using api = await Api.start({ settings: { bodyBytes: 1000 } });
  const big = JSON.stringify({ cmd: "x".repeat(2000) });
  const path = "/v1/sandboxes/sb_x/exec";
  expect((await api.call("POST", path, undefined, { body: big })).body).toMatchObject({ code: "too_large" });
  const chunked = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.enqueue(new Uint8Array(100).fill(32));
    },
  });
  const { status, body } = await api.call("POST", path, undefined, { body: chunked });
  expect({ status, body }).toMatchObject({ status: 413, body: { code: "too_large", details: { limit_bytes: 1000 } } });
});

test("API says what is wrong with a body that is no JSON object, and takes an empty one for none", async () => {
  await using api = await Api.start();
  for (const body of ["{", "[]", "3", "null", '"a"', "\ufeff{", '{"a":1}x', "[".repeat(100_000)]) {
    const answer = await api.call("POST", "/v1/sandboxes", undefined, { body });
    expect(answer).toMatchObject({
      status: 400,
      body: { code: "invalid_request", error: expect.stringContaining("JSON object") },
    });
  }
  const bytes = new Uint8Array([0x7b, 0xff, 0x7d]);
  expect((await api.call("POST", "/v1/sandboxes", undefined, { body: bytes })).status).toBe(400);
  for (const body of ["", " \n"]) {
    const made = await api.call("POST", "/v1/sandboxes", undefined, { body });
    expect(made.status).toBe(201);
  }
});

test("API bounds URLs and headers", async () => {
  await using api = await Api.start();
  expect((await api.raw("GET", `/v1/sandboxes?template=${"a".repeat(17_000)}`)).status).toBeOneOf([413, 431]);
  const headers = new Headers(Array.from({ length: 120 }, (_, i) => [`x-h${i}`, "v"]) as [string, string][]);
  expect((await api.call("GET", "/v1/sandboxes", undefined, { headers })).body).toMatchObject({ code: "too_large" });
  expect((await api.raw("GET", "/v1/sandboxes", { headers: { "x-big": "a".repeat(100_000) } })).status).toBeOneOf([
    413, 431,
  ]);
  expect((await api.call("GET", "/v1/sandboxes")).status).toBe(200);
});

test("API outlives connections that say nothing, or nonsense", async () => {
  await using api = await Api.start();
  const port = api.server.port ?? 0;
  const sockets = [
    "",
    "GET /v1/sand",
    "\u0000\u0001\u0002\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
  ].map((text) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write(text);
    return socket;
  });
  expect((await api.call("GET", "/v1/sandboxes")).status).toBe(200);
  for (const socket of sockets) socket.destroy();
});

test("API logs each request with who and what, and never a key or a body", async () => {
  await using api = await Api.start();
  await api.call("POST", "/v1/sandboxes", { metadata: { secret: "hunter2" } });
  const line = api.lines.find((one) => one["row"] === "create");
  expect(line).toMatchObject({
    says: "request",
    account: "admin",
    key: api.admin.slice(0, 12),
    status: 201,
    method: "POST",
  });
  expect(line?.["ms"]).toBeNumber();
  expect(JSON.stringify(api.lines)).not.toContain("hunter2");
  expect(JSON.stringify(api.lines)).not.toContain(api.admin);
});

test("API keeps who changed what, refused changes too, and not who only looked", async () => {
  await using api = await Api.start();
  const made = await api.call("POST", "/v1/sandboxes", {});
  const id = String(made.body["id"]);
  await api.call("GET", `/v1/sandboxes/${id}`);
  await api.call("POST", `/v1/sandboxes/${id}/exec`, {});
  await api.raw("DELETE", `/v1/sandboxes/${id}`);
  const actor = api.admin.slice(0, 12);
  await until("three rows", async () => (await api.store.auditLog(null, { limit: 10, before: null })).length === 3);
  expect(await api.store.auditLog(null, { limit: 10, before: null })).toMatchObject([
    { action: "close", target: id, status: 204, actor, account: "admin" },
    { action: "run", status: 400, actor },
    { action: "create", target: id, status: 201, actor, requestId: expect.stringMatching(/^req_/) },
  ]);
  const { body } = await api.call("GET", "/v1/audit?limit=1");
  expect(body).toMatchObject({ items: [{ action: "close" }] });
});

test("API adds to an account's credit or sets it, not both, and the audit tells how much was added", async () => {
  await using api = await Api.start();
  await api.key("acme");
  const change = (body: Record<string, unknown>) => api.call("PATCH", "/v1/admin/accounts/acme", body);
  expect((await change({ credit_usd: "5" })).body).toMatchObject({ credit_usd: "5" });
  expect((await change({ add_credit_usd: "2.5" })).body).toMatchObject({ credit_usd: "7.5" });
  const both = await change({ credit_usd: "5", add_credit_usd: "1" });
  expect(both).toMatchObject({ status: 400, body: { code: "invalid_request", details: { field: "add_credit_usd" } } });
  expect((await change({ add_credit_usd: "much" })).status).toBe(400);
  expect((await api.store.account("acme"))?.creditUsd).toBe("7.5");
  const rows = () => api.store.auditLog(null, { limit: 10, before: null });
  await until("four rows", async () => (await rows()).length === 4);
  expect((await rows()).map(({ action, target, status }) => [action, target, status])).toContainEqual([
    ...["updateAccount", "acme credit 2.5 USD", 200],
  ]);
});

test("API tells its version, its health, and its document", async () => {
  await using api = await Api.start({ settings: { version: "1.2.3", node: "here" } });
  expect((await api.call("GET", "/version", undefined, { key: null })).body).toEqual({
    version: "1.2.3",
    node: "here",
  } as never);
  expect((await api.call("GET", "/healthz", undefined, { key: null })).body).toMatchObject({
    ready: true,
    status: "ready",
  });
  const document = await api.call("GET", "/openapi.json", undefined, { key: null });
  expect(document.body).toMatchObject({ openapi: expect.stringMatching(/^3\.1/), info: { version: "1.2.3" } });
  const docs = await api.raw("GET", "/docs", { key: null });
  expect([docs.status, docs.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
  expect(docs.headers.get("content-security-policy")).toContain("default-src 'none'");
});

test("API lets pages of the origins that it was told of read its answers, and no others", async () => {
  await using api = await Api.start({ settings: { corsOrigins: ["https://app.test"] } });
  const from = (origin: string) => ({ key: null, headers: { origin, "access-control-request-method": "POST" } });
  const mine = await api.raw("OPTIONS", "/v1/sandboxes", from("https://app.test"));
  expect([mine.status, mine.headers.get("access-control-allow-origin")]).toEqual([204, "https://app.test"]);
  expect(mine.headers.get("access-control-allow-headers")).toContain("authorization");
  const other = await api.raw("OPTIONS", "/v1/sandboxes", from("https://evil.test"));
  expect(other.headers.get("access-control-allow-origin")).toBeNull();
  const got = await api.raw("GET", "/v1/me", { headers: { origin: "https://app.test" } });
  expect(got.headers.get("access-control-allow-origin")).toBe("https://app.test");
});
