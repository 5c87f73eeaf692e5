/** Ports with their labels and URLs. */
import { expect, test } from "bun:test";
import { createEdge } from "../../../src/api/edge/index.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";

test("Ports are those that are listened on and those with a label, of the account's own sandboxes", async () => {
  await using api = await Api.start({ edge: createEdge, settings: { publicUrl: "https://api.example.test" } });
  const { id } = (await api.call("POST", "/v1/sandboxes", {})).body as unknown as { id: string };
  const path = `/v1/sandboxes/${id}/ports`;
  expect((await api.call("GET", path)).body).toEqual([] as never);
  await api.call("POST", `/v1/sandboxes/${id}/exec`, { cmd: "echo-server 8080", background: true });
  const listed = async () => (await api.call("GET", path)).body as unknown as { port: number }[];
  await until("it listens", async () => (await listed()).length === 1);
  const url = (port: number) => `https://api.example.test/v1/sandboxes/${id}/proxy/${port}/`;
  const detected = { port: 8080, listening: true, source: "detected", url: url(8080) };
  expect(await listed()).toEqual([detected] as never);
  const made = await api.call("POST", path, { port: 80, label: "web" });
  const declared = { port: 80, label: "web", listening: false, source: "declared", url: url(80) };
  expect(made.status).toBe(201);
  expect(made.body).toEqual(declared as never);
  expect((await api.call("POST", path, { port: 8080 })).body).toEqual({ ...detected, source: "declared" } as never);
  expect(await listed()).toEqual([declared, { ...detected, source: "declared" }] as never);
  expect((await api.raw("DELETE", `${path}/80`)).status).toBe(204);
  expect((await api.raw("DELETE", `${path}/80`)).status).toBe(404);
  expect((await listed()).map(({ port }) => port)).toEqual([8080]);
  expect((await api.call("POST", path, { port: 0 })).status).toBe(400);
  expect((await api.call("GET", "/v1/sandboxes/sb_none/ports")).status).toBe(404);
  const key = await api.key("stranger");
  for (const [method, at, body] of [
    ["GET", path, undefined],
    ["POST", path, { port: 80 }],
    ["DELETE", `${path}/8080`, undefined],
  ] as const)
    expect((await api.call(method, at, body, { key })).status).toBe(404);
  await api.raw("DELETE", `/v1/sandboxes/${id}`);
  expect((await api.call("POST", path, { port: 80 })).status).toBe(409);
});
