/** A request and its account: quotas, credit, keys of repeated requests, defaults, pages, bakes, and what has ended. */
import { expect, test } from "bun:test";
import { prefixOf } from "../../src/api/access/tokens.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { WarrenError } from "../../src/errors.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { until } from "../harness/until.ts";
import { Api, type Reply } from "./subject.ts";

const path = "/v1/sandboxes";
const idOf = ({ body }: Reply): string => String(body["id"]);

test("Tenancy: accounts do not see each other's sandboxes", async () => {
  await using api = await Api.start();
  const [mine, theirs] = [await api.key("acme"), await api.key("other")];
  const id = idOf(await api.call("POST", path, {}, { key: mine }));
  const other = { key: theirs };
  expect((await api.call("GET", path, undefined, other)).body).toEqual([] as never);
  for (const [method, at] of [
    ["GET", ""],
    ["DELETE", ""],
    ["POST", "/exec"],
    ["POST", "/fork"],
  ] as const)
    expect(
      (
        await api.call(
          method,
          `${path}/${id}${at}`,
          method === "POST" ? { ...(at === "/exec" && { cmd: "a" }) } : undefined,
          other,
        )
      ).status,
    ).toBe(404);
  expect((await api.call("GET", `${path}/${id}`, undefined, { key: mine })).status).toBe(200);
});

test("Tenancy: a create costs one round trip to the database", async () => {
  await using api = await Api.start();
  await api.call("GET", "/v1/me");
  api.store.calls.clear();
  await api.call("POST", path, {});
  const { calls } = api.store;
  calls.delete("record"); // written after the answer
  calls.delete("describe");
  expect(Object.fromEntries(calls)).toEqual({ admit: 1 });
});

test("Tenancy: a create over the quota is refused and leaves nothing", async () => {
  await using api = await Api.start();
  const key = await api.key("acme", ["admin"], { sandboxes: 2, vcpus: 3 });
  const create = (body: object) => api.call("POST", path, body, { key });
  const first = await create({ cpu: 2 });
  expect(first.status).toBe(201);
  const wide = await create({ cpu: 2 });
  expect(wide).toMatchObject({
    status: 429,
    body: { code: "quota_exceeded", details: { quota: "vcpus", limit: 3, used: 2, asked: 2 } },
  });
  expect(wide.headers.get("retry-after")).toBe("5");
  expect((await create({ cpu: 1 })).status).toBe(201);
  expect((await create({ cpu: 1 })).body).toMatchObject({ details: { quota: "sandboxes" } });
  expect((await api.call("GET", path, undefined, { key })).body).toHaveLength(2);
  await api.raw("DELETE", `${path}/${idOf(first)}`, { key });
  expect((await create({ cpu: 1 })).status).toBe(201);
  expect(api.world.driver.machines.size).toBe(2);
});

test("Tenancy: a fork over the quota makes no child", async () => {
  await using api = await Api.start();
  const key = await api.key("acme", ["admin"], { sandboxes: 3 });
  const id = idOf(await api.call("POST", path, {}, { key }));
  const over = await api.call("POST", `${path}/${id}/fork`, { count: 3 }, { key });
  expect(over).toMatchObject({ status: 429, body: { code: "quota_exceeded", details: { used: 1, asked: 3 } } });
  expect((await api.call("GET", path, undefined, { key })).body).toHaveLength(1);
  const fits = await api.call("POST", `${path}/${id}/fork`, { count: 2 }, { key });
  expect(fits.status).toBe(201);
  expect(fits.body["children"]).toHaveLength(2);
});

test("Tenancy: nothing is made without credit", async () => {
  await using api = await Api.start();
  const key = await api.key("acme");
  await api.store.updateAccount("acme", { creditUsd: "0" });
  const refused = await api.call("POST", path, {}, { key });
  expect(refused).toMatchObject({ status: 402, body: { code: "out_of_credit" } });
  expect((await api.call("GET", path, undefined, { key })).body).toEqual([] as never);
});

test("Tenancy: a create that fails gives its booking back", async () => {
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    create: async (input, options) => {
      const { id } = await host.create(input, options);
      await host.close({ id });
      throw new WarrenError("driver_failed", "it broke");
    },
  });
  await using api = await Api.start({ around });
  const failed = await api.call("POST", path, {});
  expect(failed).toMatchObject({ status: 500, body: { code: "driver_failed" } });
  expect(api.store.calls.get("cancel")).toBe(1);
});

test("Tenancy: a create while the database is away fails, and leaves nothing", async () => {
  await using api = await Api.start();
  await api.call("GET", "/v1/me");
  api.store.away = new WarrenError("store_unavailable", "the database is away");
  expect((await api.call("POST", path, {})).body).toMatchObject({ code: "store_unavailable" });
  api.store.away = null;
  expect((await api.call("GET", path)).body).toEqual([] as never);
  expect(api.world.driver.machines.size).toBe(0);
});

/** The store books, and then does not say so; how often. */
function losesAnswers(api: Api, times: number): void {
  const admit = api.store.admit.bind(api.store);
  let left = times;
  api.store.admit = async (...asked) => {
    const verdict = await admit(...asked);
    if (left-- > 0) throw new WarrenError("store_unavailable", "the database does not answer");
    return verdict;
  };
}

test("Tenancy: a create whose booking was not answered is given back, and its key makes another", async () => {
  await using api = await Api.start();
  const key = await api.key("acme", ["admin"], { sandboxes: 1 });
  const create = () => api.call("POST", path, {}, { key, headers: { "idempotency-key": "k" } });
  losesAnswers(api, 1);
  expect((await create()).body).toMatchObject({ code: "store_unavailable" });
  await until("what was made is gone", () => api.world.driver.machines.size === 0);
  await until("its end is written down", async () => (await api.store.inUse("acme")).sandboxes === 0);
  expect(await create()).toMatchObject({ status: 201, body: { status: "running" } });
  expect(api.world.driver.machines.size).toBe(1);
});

test("Tenancy: a booking is given back until the store has taken it, and nobody is answered with it before", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ world: new World(clock) });
  const create = () => api.call("POST", path, {}, { headers: { "idempotency-key": "k" } });
  const given: string[][] = [];
  let isAway = true;
  const cancel = api.store.cancel.bind(api.store);
  api.store.cancel = async (account, ids) => {
    given.push([...ids]);
    if (isAway) throw new WarrenError("store_unavailable", "the database is away");
    await cancel(account, ids);
  };
  losesAnswers(api, 1);
  expect((await create()).body).toMatchObject({ code: "store_unavailable" });
  expect((await create()).body).toMatchObject({ code: "store_unavailable" });
  await until("what was made is gone", () => api.world.driver.machines.size === 0);
  const tries = given.length;
  await clock.advance(100_000);
  expect(given.length).toBeGreaterThan(tries + 8);
  expect(given.length).toBeLessThan(tries + 40);
  isAway = false;
  // At once, as it is asked for; the booking that waits is not told of as what the key has made.
  expect(await create()).toMatchObject({ status: 201, body: { status: "running" } });
  await clock.advance(20_000);
  const last = given.length;
  await clock.advance(100_000);
  expect(given.length).toBe(last);
  expect(api.lines.some(({ says }) => says === "bookings were given back")).toBe(true);
});

test("Tenancy: an Idempotency-Key makes one sandbox of requests one after another and at the same time", async () => {
  await using api = await Api.start();
  const create = (body: object, key = "k1") => api.call("POST", path, body, { headers: { "idempotency-key": key } });
  const all = await Promise.all(Array.from({ length: 8 }, () => create({ metadata: { a: "1", b: "2" } })));
  const again = await create({ metadata: { b: "2", a: "1" } });
  expect(new Set([...all, again].map(idOf)).size).toBe(1);
  expect(again.status).toBe(201);
  expect((await api.call("GET", path)).body).toHaveLength(1);
  const other = await create({ metadata: { a: "2" } });
  expect(other).toMatchObject({ status: 409, body: { code: "idempotency_conflict" } });
  expect(idOf(await create({ metadata: { a: "2" } }, "k2"))).not.toBe(idOf(again));
  await api.raw("DELETE", `${path}/${idOf(again)}`);
  expect((await create({ metadata: { a: "1", b: "2" } })).body).toMatchObject({ id: idOf(again), status: "deleted" });
  expect((await create({}, "x".repeat(256))).body).toMatchObject({
    code: "invalid_request",
    details: { field: "Idempotency-Key" },
  });
});

test("Tenancy: one that has ended is read and deleted again, also when the engine has forgotten it", async () => {
  let forgets = false;
  const gone = () => Promise.reject(new WarrenError("not_found", "there is no such sandbox"));
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    get: (input) => (forgets ? gone() : host.get(input)),
    close: (input) => (forgets ? gone() : host.close(input)),
  });
  await using api = await Api.start({ around });
  const id = idOf(await api.call("POST", path, { metadata: { a: "b" } }));
  await api.raw("DELETE", `${path}/${id}`);
  await until("its end is written down", async () => (await api.store.endedSandbox("admin", id)) !== null);
  forgets = true;
  expect((await api.call("GET", `${path}/${id}`)).body).toMatchObject({ id, status: "deleted", metadata: { a: "b" } });
  expect((await api.raw("DELETE", `${path}/${id}`)).status).toBe(204);
  expect((await api.raw("DELETE", `${path}/sb_never`)).status).toBe(404);
  forgets = false;
});

test("Tenancy: what a create leaves open is the server's to say", async () => {
  await using api = await Api.start({ settings: { defaultTtlSeconds: 100, persistentIdleSeconds: 7 } });
  const create = async (body: object) => (await api.call("POST", path, body)).body;
  expect(await create({})).toMatchObject({ detached: true, ttl_seconds: 100, persistent: false });
  expect(await create({ ttl_seconds: 5 })).toMatchObject({ ttl_seconds: 5 });
  const kept = await create({ persistent: true });
  expect(kept).toMatchObject({ persistent: true, ttl_seconds: null, idle: { seconds: 7, action: "hibernate" } });
  expect(await create({ detached: false })).toMatchObject({ detached: false });
});

test("Tenancy: what a body names and is not there is the caller's input, with the field's name", async () => {
  await using api = await Api.start();
  for (const [body, code] of [
    [{ template: "nothing" }, "template_not_found"],
    [{ from_snapshot: "snap_none" }, "invalid_request"],
    [{ volumes: [{ name: "none" }] }, "not_found"],
  ] as const)
    expect(await api.call("POST", path, body)).toMatchObject({ status: 400, body: { code } });
});

test("Tenancy: lists come in pages, and every sandbox is on one of them", async () => {
  await using api = await Api.start();
  const made: string[] = [];
  for (let i = 0; i < 5; i++) made.push(idOf(await api.call("POST", path, { metadata: { odd: String(i % 2) } })));
  const seen: string[] = [];
  let next: string | null = `${path}?limit=2`;
  while (next !== null) {
    const page: Reply = await api.call("GET", next);
    seen.push(...(page.body as unknown as { id: string }[]).map(({ id }) => id));
    const link: string | undefined = /<([^>]+)>; rel="next"/.exec(page.headers.get("link") ?? "")?.[1];
    const cursor = page.headers.get("x-next-cursor");
    expect(link === undefined).toBe(cursor === null);
    next = link === undefined ? null : link.slice(api.url.length);
  }
  expect(seen).toEqual(made.reverse());
  expect((await api.call("GET", `${path}?metadata.odd=1`)).body).toHaveLength(2);
  expect((await api.call("GET", `${path}?limit=0`)).body).toMatchObject({ details: { field: "limit" } });
});

test("Tenancy: what is kept on disk has a quota", async () => {
  await using api = await Api.start();
  const key = await api.key("acme", ["admin"], { storageMb: 100 });
  const post = (at: string, body: object) => api.call("POST", at, body, { key });
  expect((await post("/v1/volumes", { name: "a", size_mb: 64 })).status).toBe(201);
  const over = await post("/v1/volumes", { name: "b", size_mb: 64 });
  expect(over).toMatchObject({ status: 429, body: { code: "quota_exceeded", details: { used: 64, asked: 64 } } });
  expect((await post("/v1/volumes/a/resize", { size_mb: 101 })).body).toMatchObject({ code: "quota_exceeded" });
  expect((await post("/v1/volumes", { name: "b", size_mb: 36 })).status).toBe(201);
  const id = idOf(await post(path, {}));
  expect((await post(`${path}/${id}/snapshots`, {})).body).toMatchObject({ code: "quota_exceeded" });
});

test("Tenancy: a create that finds no room is answered in time", async () => {
  const clock = new FakeClock();
  let began = false;
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    create: (_input, options) => {
      began = true;
      return new Promise((_, reject) =>
        options?.signal?.addEventListener("abort", () => reject(options.signal?.reason)),
      );
    },
  });
  await using api = await Api.start({ around, world: new World(clock) });
  const waiting = api.call("POST", path, {});
  await until("it waits", () => began);
  await clock.advance(20_000);
  expect(await waiting).toMatchObject({ status: 503, body: { code: "create_timeout" } });
});

test("Tenancy: keys are told and revoked within their account, and give no more than they have", async () => {
  await using api = await Api.start();
  const [key, other] = [
    await api.key("acme", ["account:read", "account:write", "sandbox:read"]),
    await api.key("other"),
  ];
  const made = await api.call("POST", "/v1/me/tokens", { label: "ci" }, { key });
  expect(made).toMatchObject({
    status: 201,
    body: { label: "ci", scopes: ["account:read", "account:write", "sandbox:read"] },
  });
  const token = String(made.body["token"]);
  expect((await api.call("GET", path, undefined, { key: token })).status).toBe(200);
  const more = await api.call("POST", "/v1/me/tokens", { scopes: ["sandbox:write"] }, { key });
  expect(more).toMatchObject({ status: 403, body: { code: "forbidden", details: { scope: "sandbox:write" } } });
  const { items } = (await api.call("GET", "/v1/me/tokens", undefined, { key })).body as unknown as {
    items: { prefix: string }[];
  };
  expect(items.map(({ prefix }) => prefix)).toContain(prefixOf(token));
  expect(JSON.stringify(items)).not.toContain(token);
  const at = `/v1/me/tokens/${prefixOf(token)}`;
  expect((await api.call("DELETE", at, undefined, { key: other })).status).toBe(404);
  expect((await api.raw("DELETE", at, { key })).status).toBe(204);
  expect((await api.call("GET", path, undefined, { key: token })).status).toBe(401);
  const me = await api.call("GET", "/v1/me", undefined, { key });
  expect(me.body).toMatchObject({ account: { id: "acme" }, key: { prefix: prefixOf(key) }, usage: { sandboxes: 0 } });
});

test("Tenancy: an administrator makes accounts, bounds them, suspends them, and gives them keys", async () => {
  await using api = await Api.start();
  const made = await api.call("POST", "/v1/admin/accounts", { id: "acme", name: "Acme", quota: { sandboxes: 1 } });
  expect(made).toMatchObject({
    status: 201,
    body: { id: "acme", suspended: false, quota: { sandboxes: 1, vcpus: null }, credit_usd: null },
  });
  expect((await api.call("POST", "/v1/admin/accounts", { id: "acme", name: "Again" })).body).toMatchObject({
    code: "already_exists",
  });
  const token = await api.call("POST", "/v1/admin/accounts/acme/tokens", {});
  const key = String(token.body["token"]);
  expect(token.body["scopes"]).not.toContain("admin");
  expect((await api.call("POST", path, {}, { key })).status).toBe(201);
  expect((await api.call("GET", "/v1/admin/accounts", undefined, { key })).status).toBe(403);
  expect((await api.call("POST", path, {}, { key })).status).toBe(429);
  await api.call("PATCH", "/v1/admin/accounts/acme", { quota: { sandboxes: 5 } });
  expect((await api.call("POST", path, {}, { key })).status).toBe(201);
  await api.call("PATCH", "/v1/admin/accounts/acme", { suspended: true });
  expect((await api.call("POST", path, {}, { key })).status).toBe(403);
  expect((await api.call("GET", "/v1/admin/accounts/none")).status).toBe(404);
  expect((await api.call("PATCH", "/v1/admin/accounts/none", {})).status).toBe(404);
  expect((await api.call("POST", "/v1/admin/accounts/none/tokens", {})).status).toBe(404);
});

test("Tenancy: templates are everyone's, so that only an administrator takes them away", async () => {
  await using api = await Api.start();
  const key = await api.key("acme", ["template:read", "template:write"]);
  expect((await api.call("GET", "/v1/templates/base", undefined, { key })).status).toBe(200);
  expect((await api.raw("POST", "/v1/templates/base/bake", { key })).status).toBe(200);
  const again = await api.call("POST", "/v1/templates/base/bake", { force: true }, { key });
  expect(again).toMatchObject({ status: 403, body: { code: "forbidden", details: { scope: "admin" } } });
  expect((await api.call("DELETE", "/v1/templates/base", undefined, { key })).status).toBe(403);
  expect((await api.raw("DELETE", "/v1/templates/base")).status).toBe(204);
  const { id } = (await api.call("POST", path, {}, { key: api.admin })).body;
  const snapshot = await api.call("POST", `${path}/${id}/snapshots`, {});
  const promote = `/v1/snapshots/${snapshot.body["id"]}/promote`;
  expect((await api.call("POST", promote, { name: "python-3" }, { key })).status).toBe(403);
  expect((await api.raw("POST", promote, { body: JSON.stringify({ name: "python-3" }) })).status).toBe(204);
});
