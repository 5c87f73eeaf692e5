/** Who is let in: keys, scopes, rates, and what of it costs a round trip to the database. */
import { expect, test } from "bun:test";
import { ADMIN, ensureAdmin } from "../../src/api/access/admin.ts";
import { Strangers } from "../../src/api/access/strangers.ts";
import { createKey, hashOf, isToken, mintToken, newKey, prefixOf } from "../../src/api/access/tokens.ts";
import { createLog } from "../../src/base/log.ts";
import { WarrenError } from "../../src/errors.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { MemoryStore } from "../harness/stores/memory-store.ts";
import { Api } from "./subject.ts";

test("API tells who has no key, or one that is not known, nothing but that", async () => {
  await using api = await Api.start();
  for (const key of [null, "wrn_nope", mintToken(), "x".repeat(9000)]) {
    const { status, body, headers } = await api.call("GET", "/v1/sandboxes", undefined, { key });
    expect({ status, body }).toMatchObject({ status: 401, body: { code: "unauthorized" } });
    expect(headers.get("www-authenticate")).toBe("Bearer");
  }
});

test("API takes a key from either header, and from the query of streams alone", async () => {
  await using api = await Api.start();
  const key = null;
  const byHeader = await api.call("GET", "/v1/me", undefined, { key, headers: { "x-api-key": api.admin } });
  expect(byHeader.status).toBe(200);
  const bearer = await api.call("GET", "/v1/me", undefined, { key, headers: { authorization: `bearer ${api.admin}` } });
  expect(bearer.status).toBe(200);
  expect((await api.call("GET", `/v1/me?access_token=${api.admin}`, undefined, { key })).status).toBe(401);
  const watch = `/v1/sandboxes/none/fs/watch?path=/&access_token=${api.admin}`;
  expect((await api.call("GET", watch, undefined, { key })).body).toMatchObject({ code: "not_found" });
  expect(JSON.stringify(api.lines)).not.toContain(api.admin);
});

test("API asks the database for a key once, and for one that is not known once in a while", async () => {
  await using api = await Api.start();
  for (let i = 0; i < 5; i++) expect((await api.call("GET", "/v1/sandboxes")).status).toBe(200);
  expect(api.store.calls.get("keyByHash")).toBe(1);
  const key = mintToken();
  for (let i = 0; i < 5; i++) expect((await api.call("GET", "/v1/sandboxes", undefined, { key })).status).toBe(401);
  expect(api.store.calls.get("keyByHash")).toBe(2);
  await Promise.all(
    Array.from({ length: 20 }, () => api.call("GET", "/v1/sandboxes", undefined, { key: mintToken() })),
  );
  expect(api.store.calls.get("keyByHash")).toBe(22);
});

test("API looks up so many wrong keys from an address, and then none for longer and longer; known keys pass", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ world: new World(clock) });
  const [good, late] = [await api.key(), await api.key()];
  const get = (key: string) => api.call("GET", "/v1/sandboxes", undefined, { key });
  expect((await get(good)).status).toBe(200);
  const codes = new Set<unknown>();
  for (let i = 0; i < 51; i++) codes.add((await get(i % 2 === 0 ? mintToken() : "none")).body["code"]);
  expect([...codes]).toEqual(["unauthorized"]);
  const asked = api.store.calls.get("keyByHash") ?? 0;
  const waits: (string | null)[] = [];
  for (let i = 0; i < 8; i++) {
    const refused = await get(mintToken());
    expect(refused).toMatchObject({ status: 429, body: { code: "rate_limited" } });
    waits.push(refused.headers.get("retry-after"));
    expect((await get(good)).status).toBe(200);
    await clock.advance(Number(refused.headers.get("retry-after")) * 1000);
    expect((await get("wrong")).status).toBe(401);
  }
  expect(waits).toEqual(["1", "2", "4", "8", "16", "32", "60", "60"]);
  expect(api.store.calls.get("keyByHash")).toBe(asked + 3); // the good one, whose half minute was over
  expect((await get(late)).status).toBe(429); // nobody here has seen it yet
  await clock.advance(60_000);
  expect((await get(late)).status).toBe(200);
  await clock.advance(60_000); // quiet for as long as forgets all
  await get("wrong");
  for (let i = 0; i < 50; i++) await get("wrong");
  expect((await get("wrong")).headers.get("retry-after")).toBe("1");
});

test("Strangers counts each address by itself, a network of IPv6 as one, and so many that the oldest is forgotten", () => {
  const clock = new FakeClock();
  const strangers = new Strangers(clock, createLog("silent"));
  const isRefused = (address: string): boolean => {
    try {
      strangers.admit(address);
      return false;
    } catch {
      return true; // the only way to say so
    }
  };
  const flood = (address: string): void => {
    for (let i = 0; i < 51; i++) strangers.wrong(address);
  };
  flood("192.0.2.1");
  flood("2001:db8::1");
  for (const [address, refused] of [
    ["192.0.2.1", true],
    ["::ffff:192.0.2.1", true],
    ["192.0.2.2", false],
    ["2001:db8:0:0:ffff::2", true],
    ["2001:db8::1%eth0", true],
    ["2001:db8:0:1::1", false],
    ["::1", false],
  ] as const)
    expect({ address, refused: isRefused(address) }).toEqual({ address, refused });
  for (let i = 0; i < 10_000; i++) strangers.wrong(`10.0.${i >> 8}.${i & 255}`);
  expect(isRefused("192.0.2.1")).toBe(false);
});

test("API refuses a revoked key at once, an expired one when its time is over, and all of a suspended account", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ world: new World(clock) });
  const key = await api.key("acme");
  const get = (asked: string) => api.call("GET", "/v1/sandboxes", undefined, { key: asked });
  expect((await get(key)).status).toBe(200);
  expect(await api.store.revokeKey("acme", prefixOf(key))).toBe(true);
  expect((await get(key)).body).toMatchObject({ code: "unauthorized" });

  const short = mintToken();
  const scopes = ["admin"] as const;
  await api.store.createKey("acme", newKey(short, { scopes, expiresInDays: 1 }, clock.wallMs()).key);
  expect((await get(short)).status).toBe(200);
  await clock.advance(24 * 3600 * 1000);
  expect((await get(short)).body).toMatchObject({ code: "unauthorized", error: expect.stringContaining("expired") });

  const other = await api.key("acme");
  expect((await get(other)).status).toBe(200);
  await api.store.updateAccount("acme", { suspended: true });
  expect((await get(other)).body).toMatchObject({ code: "forbidden" });
});

test("API forgets what it knows of keys after half a minute, if nobody says that they changed", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ world: new World(clock) });
  expect((await api.call("GET", "/v1/me")).status).toBe(200);
  api.store.away = new WarrenError("store_unavailable", "the database is away");
  expect((await api.call("GET", "/v1/sandboxes")).status).toBe(200);
  await clock.advance(30_001);
  const away = await api.call("GET", "/v1/sandboxes");
  expect(away.body).toMatchObject({ code: "store_unavailable" });
  expect([away.status, away.headers.get("retry-after")]).toEqual([503, "2"]);
  api.store.away = null;
  expect((await api.call("GET", "/v1/sandboxes")).status).toBe(200);
});

test("API names the scope that a key lacks", async () => {
  await using api = await Api.start();
  const key = await api.key("acme", ["sandbox:read"]);
  expect((await api.call("GET", "/v1/sandboxes", undefined, { key })).status).toBe(200);
  const { status, body } = await api.call("POST", "/v1/sandboxes", {}, { key });
  expect({ status, body }).toMatchObject({
    status: 403,
    body: { code: "forbidden", details: { scope: "sandbox:write" } },
  });
  const accounts = await api.call("GET", "/v1/admin/accounts", undefined, { key });
  expect(accounts.body).toMatchObject({ details: { scope: "admin" } });
});

test("API lets an account ask as often as its quota says, and says when to come again", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ world: new World(clock) });
  const key = await api.key("acme", ["admin"], { requestsPerSecond: 3 });
  const get = () => api.call("GET", "/v1/sandboxes", undefined, { key });
  for (let i = 0; i < 3; i++) expect((await get()).status).toBe(200);
  const refused = await get();
  expect(refused.body).toMatchObject({ code: "rate_limited", details: { limit: 3 } });
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
  expect((await api.call("GET", "/v1/sandboxes")).status).toBe(200); // another account
  await clock.advance(1000);
  expect((await get()).status).toBe(200);
});

test("API writes down when a key was last used, a moment later", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ world: new World(clock) });
  await api.call("GET", "/v1/me");
  expect((await api.store.keys(ADMIN))[0]?.lastUsedAt).toBeNull();
  await clock.advance(1000);
  expect((await api.store.keys(ADMIN))[0]?.lastUsedAt).not.toBeNull();
  expect(api.store.calls.get("touchKeys")).toBe(1);
});

test("A key that begins like another is made anew, and not for ever", async () => {
  const store = new MemoryStore();
  await ensureAdmin(store, undefined, new FakeClock());
  const taken = mintToken();
  const free = mintToken();
  const make = (...tokens: string[]) =>
    createKey(store, ADMIN, { scopes: ["sandbox:read"] }, { wallMs: 0, mint: () => tokens.shift() ?? "" });
  expect((await make(taken)).token).toBe(taken);
  const alike = `${taken.slice(0, 20)}${free.slice(20)}`;
  expect((await make(alike, alike, free)).token).toBe(free);
  await expect(make(alike, alike, alike, mintToken())).rejects.toMatchObject({ code: "already_exists" });
  const nobody = createKey(store, "nobody", { scopes: [] }, { wallMs: 0 });
  await expect(nobody).rejects.toMatchObject({ code: "not_found" });
});

test("ensureAdmin makes a key at the first start alone, and a preset takes the place of another", async () => {
  const [store, clock] = [new MemoryStore(), new FakeClock()];
  const token = await ensureAdmin(store, undefined, clock);
  expect(isToken(token ?? "")).toBe(true);
  expect(await store.keyByHash(hashOf(token ?? ""))).toMatchObject({ scopes: ["admin"], account: { id: ADMIN } });
  expect(await ensureAdmin(store, undefined, clock)).toBeNull();

  const [first, second] = [mintToken(), mintToken()];
  expect(await ensureAdmin(store, first, clock)).toBeNull();
  expect(await ensureAdmin(store, first, clock)).toBeNull();
  expect(await store.keys(ADMIN)).toHaveLength(2);
  await ensureAdmin(store, second, clock);
  expect(await store.keyByHash(hashOf(first))).toBeNull();
  expect(await store.keyByHash(hashOf(second))).not.toBeNull();
  expect(await store.keyByHash(hashOf(token ?? ""))).not.toBeNull();
  await expect(ensureAdmin(store, "short", clock)).rejects.toMatchObject({ code: "invalid_request" });
});
