/** What ends early: clients that leave, and a server that is told to stop. */
import { expect, test } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { until } from "../harness/until.ts";
import { Api } from "./subject.ts";

test("A client that leaves during a create leaves no sandbox and no booking", async () => {
  const go = Promise.withResolvers<void>();
  let [waits, isKnown] = [false, false];
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    create: (input, options) => {
      options?.signal?.addEventListener("abort", () => (isKnown = true));
      return host.create(input, options);
    },
  });
  await using api = await Api.start({ around });
  api.world.driver.hooks = {
    vmm: async (step) => {
      if (step !== "load") return;
      waits = true;
      await go.promise;
    },
  };
  const leave = new AbortController();
  const asked = api.raw("POST", "/v1/sandboxes", { signal: leave.signal }).catch(() => null); // it leaves
  await until("it is made", () => waits);
  leave.abort();
  expect(await asked).toBeNull();
  await until("the server knows", () => isKnown);
  go.resolve();
  await until("the booking is given back", () => api.store.calls.get("cancel") === 1);
  expect(await api.engine.as("admin").list({})).toEqual([]);
  await until("its machine is gone", () => api.world.driver.machines.size === 0);
  expect((await api.store.inUse("admin")).sandboxes).toBe(0);
});

const slow =
  (go: Promise<void>, begun: () => void) =>
  (host: SandboxHost): SandboxHost => ({
    ...host,
    get: async (input, options) => {
      begun();
      await Promise.race([
        go,
        new Promise((_, reject) => options?.signal?.addEventListener("abort", () => reject(options.signal?.reason))),
      ]);
      return host.get(input);
    },
  });

test("A server that ends lets what is under way end, and refuses what is new", async () => {
  const go = Promise.withResolvers<void>();
  let begun = false;
  await using api = await Api.start({ around: slow(go.promise, () => (begun = true)) });
  const asked = api.call("GET", "/v1/sandboxes/sb_none");
  await until("it is under way", () => begun);
  let isClosed = false;
  const closing = api.app.close().then(() => (isClosed = true));
  const refused = await api.call("GET", "/v1/sandboxes");
  expect(refused).toMatchObject({ status: 503, body: { code: "shutting_down" } });
  expect(refused.headers.get("retry-after")).toBe("5");
  expect((await api.call("GET", "/healthz")).status).toBe(503);
  expect(isClosed).toBe(false);
  go.resolve();
  expect(await asked).toMatchObject({ status: 404, body: { code: "not_found" } });
  await closing;
});

test("A server that ends cuts off what takes too long, and says so", async () => {
  let begun = false;
  await using api = await Api.start({
    settings: { drainMs: 50 },
    around: slow(new Promise(() => undefined), () => (begun = true)),
  });
  const asked = api.call("GET", "/v1/sandboxes/sb_none");
  await until("it is under way", () => begun);
  await api.app.close();
  expect(await asked).toMatchObject({ status: 503, body: { code: "shutting_down" } });
});

test("A server that ends writes down the audit of what it did", async () => {
  await using api = await Api.start();
  await api.call("POST", "/v1/sandboxes", {});
  await api.app.close();
  expect(await api.store.auditLog(null, { limit: 10, before: null })).toMatchObject([
    { action: "create", status: 201 },
  ]);
});

test("A client that leaves before its stream has begun leaves nothing of it", async () => {
  const go = Promise.withResolvers<void>();
  let [begun, isKnown, ended] = [false, false, false];
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    exec: async (_input, options) => {
      begun = true;
      options?.signal?.addEventListener("abort", () => (isKnown = true));
      return (async function* () {
        try {
          await go.promise;
          for (;;) yield { kind: "started", process: 1, pid: 1 } as const;
        } finally {
          ended = true;
        }
      })();
    },
  });
  await using api = await Api.start({ around, settings: { drainMs: 3_600_000 } });
  const leave = new AbortController();
  const init = { body: '{"cmd":"a"}', signal: leave.signal };
  const asked = api.raw("POST", "/v1/sandboxes/x/exec/stream", init).catch(() => null); // it leaves
  await until("it has begun", () => begun);
  leave.abort();
  await asked;
  await until("the server knows", () => isKnown);
  go.resolve();
  await until("the stream was ended", () => ended);
  await api.app.close();
});
