/** Sizes that were never asked for: baked once, for whoever may have them, and only so many. */
import { expect, test } from "bun:test";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";

const path = "/v1/sandboxes";

test("Tenancy: a size that was never baked is baked once for all who ask, who are told to come again", async () => {
  const clock = new FakeClock();
  const world = new World(clock);
  let [bakes, isBaked] = [0, false];
  const done = Promise.withResolvers<void>();
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    templates: async () => [
      {
        ...{ name: "base", description: "", diskBytes: 0 },
        baked: isBaked ? [{ cpu: 2, memoryMb: 512, digest: "d", sizeBytes: 1, bakedAt: "now", accel: "tcg" }] : [],
      },
    ],
    bake: async () => {
      bakes += 1;
      return (async function* () {
        yield { step: 3, steps: 12, says: "building", elapsedMs: 1 };
        await done.promise;
        isBaked = true;
      })();
    },
  });
  await using api = await Api.start({ around, world });
  const create = () => api.call("POST", path, { cpu: 2 });
  const waiting = Promise.all([create(), create(), create()]);
  await until("it bakes", () => bakes === 1);
  let answered = false;
  void waiting.then(() => (answered = true));
  await until("all are answered", async () => {
    await clock.advance(15_000);
    return answered;
  });
  for (const { status, body, headers } of await waiting) {
    expect({ status, body }).toMatchObject({
      status: 503,
      body: { code: "template_baking", error: expect.stringContaining("step 3 of 12") },
    });
    expect(headers.get("retry-after")).toBe("5");
  }
  done.resolve();
  await until("a create succeeds", async () => (await create()).status === 201);
  expect(bakes).toBe(1);
});

test("Tenancy: nothing is baked for who may not have it, and no more sizes than a server has room for", async () => {
  let bakes = 0;
  const baked = Array.from({ length: 16 }, (_, i) => ({
    ...{ cpu: 1, memoryMb: 512 + i, digest: "d", sizeBytes: 1, bakedAt: "now", accel: "tcg" },
  }));
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    templates: async () => [{ name: "base", description: "", diskBytes: 0, baked }],
    bake: async () => {
      bakes += 1;
      return (async function* () {})();
    },
  });
  await using api = await Api.start({ around });
  const poor = await api.key("poor");
  await api.store.updateAccount("poor", { creditUsd: "0", quota: { vcpus: 2 } });
  expect((await api.call("POST", path, { memory_mb: 1024 }, { key: poor })).status).toBe(402);
  await api.store.updateAccount("poor", { creditUsd: null });
  expect((await api.call("POST", path, { cpu: 3 }, { key: poor })).status).toBe(429);
  const refused = await api.call("POST", path, { memory_mb: 1024 });
  expect(refused).toMatchObject({ status: 400, body: { details: { field: "memory_mb" } } });
  expect(String(refused.body["error"])).toContain("527 MiB");
  expect((await api.call("POST", "/v1/templates/base/bake", { memory_mb: 1024 })).status).toBe(400);
  expect((await api.call("POST", path, { memory_mb: 527 })).status).toBe(201);
  expect(bakes).toBe(0);
});
