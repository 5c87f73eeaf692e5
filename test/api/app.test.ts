/** The API from outside: one request after another over a real connection. */
import { expect, test } from "bun:test";
import { Api } from "./subject.ts";

test("API creates, reads, lists, runs and deletes a sandbox", async () => {
  await using api = await Api.start();
  const made = await api.call("POST", "/v1/sandboxes", { template: "ubuntu-24.04", metadata: { a: "b" } });
  expect(made.status).toBe(201);
  const { id } = made.body as unknown as { id: string };
  expect(made.body).toMatchObject({ template: "base", status: "running", metadata: { a: "b" }, node: "local" });
  expect((await api.call("GET", `/v1/sandboxes/${id}`)).body).toMatchObject({ id, status: "running" });
  expect((await api.call("GET", "/v1/sandboxes")).body).toMatchObject([{ id }]);
  const ran = await api.call("POST", `/v1/sandboxes/${id}/exec`, { cmd: "echo hello" });
  expect(ran.body).toMatchObject({ stdout: "hello\n", exit_code: 0 });
  expect((await api.raw("DELETE", `/v1/sandboxes/${id}`)).status).toBe(204);
  expect((await api.raw("DELETE", `/v1/sandboxes/${id}`)).status).toBe(204);
  expect((await api.call("GET", `/v1/sandboxes/${id}`)).body).toMatchObject({ id, status: "deleted" });
});

test("API tells how a sandbox began: from a template, as a fork, or woken", async () => {
  await using api = await Api.start();
  const { body } = await api.call("POST", "/v1/sandboxes", {});
  const at = `/v1/sandboxes/${body["id"]}`;
  const now = async () => (await api.call("GET", at)).body;
  expect(body).toMatchObject({ boot_mode: "restore" });
  expect((await api.call("POST", `${at}/fork`, {})).body).toMatchObject({ children: [{ boot_mode: "fork" }] });
  await api.call("POST", `${at}/hibernate`, {});
  expect(await now()).toMatchObject({ boot_mode: "restore" });
  await api.call("POST", `${at}/wake`, {});
  expect(await now()).toMatchObject({ boot_mode: "wake", woken: true });
});
