/** One call and its answer: errors as they were thrown, tries that are safe, deadlines, aborts, and where the key goes. */
import { describe, expect, test } from "bun:test";
import { connect } from "../../src/client.ts";
import { errorBody, STATUS } from "../../src/contract/status.ts";
import { type ErrorCode, WarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock } from "../harness/clock.ts";
import { until } from "../harness/until.ts";
import { fails } from "../suites/sandbox/subject.ts";
import { fakeServer, KEY } from "./fake-server.ts";

function refusal(code: ErrorCode, headers: Record<string, string> = {}): Response {
  const body = errorBody(new WarrenError(code, `it is ${code}`, { details: { field: "memoryMb" } }), "req_1");
  return Response.json(body, { status: STATUS[code], headers });
}

const nothing = () => new Response(null, { status: 204 });
const RETRY = { "retry-after": "2" };

/** Lets the clock run until the promise is settled, as far as it takes. */
async function sped<T>(clock: FakeClock, promise: Promise<T>): Promise<T> {
  let isOver = false;
  const over = () => {
    isOver = true;
  };
  promise.then(over, over);
  await until("it is settled", async () => {
    await clock.advance(500);
    return isOver;
  });
  return promise;
}

describe("A refusal", () => {
  test("is thrown as the server says it, with its request's id", async () => {
    await using server = fakeServer(() => refusal("wrong_state"));
    const error = await fails("wrong_state", server.client.host.get({ id: "sb_1" }));
    expect(error.message).toBe("it is wrong_state");
    expect(error.details).toEqual({ field: "memoryMb", requestId: "req_1" });
  });

  test("of what is not the API is told by its status", async () => {
    const pages: [number, ErrorCode][] = [
      [401, "unauthorized"],
      [404, "not_found"],
      [413, "too_large"],
      [502, "internal"],
    ];
    for (const [status, code] of pages) {
      await using server = fakeServer(() => new Response("<h1>no</h1>", { status }));
      expect((await fails(code, server.client.host.get({ id: "sb_1" }))).message).toBe("<h1>no</h1>");
    }
  });

  test("is no value either, where a page is a success", async () => {
    await using server = fakeServer(
      () => new Response("<h1>welcome</h1>", { headers: { "content-type": "text/html" } }),
    );
    await fails("connection_failed", server.client.host.get({ id: "sb_1" }));
    await fails("connection_failed", server.client.host.exec({ id: "sb_1", cmd: "true" }));
    await using other = fakeServer(() => Response.json([1, 2, 3]));
    await fails("connection_failed", other.client.host.list({}));
  });
});

describe("Another try", () => {
  test("is made when the server asks for it, of what can be done twice", async () => {
    const clock = new FakeClock();
    await using server = fakeServer(
      (_, times) => (times < 2 ? refusal("rate_limited", RETRY) : Response.json({ snapshots: [] })),
      { clock },
    );
    const started = clock.monotonicMs();
    expect(await sped(clock, server.client.host.snapshots({}))).toEqual([]);
    expect(server.asked.length).toBe(3);
    expect(clock.monotonicMs() - started).toBeGreaterThanOrEqual(4000);
  });

  test("ends after a few, and is not made without being asked for, for a command, or for long", async () => {
    const cases: [string, Record<string, string>, "list" | "exec", number][] = [
      ["a few", RETRY, "list", LIMITS.clientTries],
      ["not asked for", {}, "list", 1],
      ["a command", RETRY, "exec", 1],
      ["too long", { "retry-after": "3600" }, "list", 1],
      ["no number", { "retry-after": "soon" }, "list", 1],
    ];
    for (const [says, headers, row, tries] of cases) {
      const clock = new FakeClock();
      await using server = fakeServer(() => refusal("capacity_exhausted", headers), { clock });
      const { host } = server.client;
      const call: Promise<unknown> = row === "list" ? host.list({}) : host.exec({ id: "sb_1", cmd: "true" });
      await fails("capacity_exhausted", sped(clock, call));
      expect({ says, tries: server.asked.length }).toEqual({ says, tries });
    }
  });

  test("of what is over a quota is made where that is over in a moment, and its caller told at once where not", async () => {
    for (const [seconds, tries] of [
      ["2", LIMITS.clientTries],
      ["3", 1],
      ["5", 1],
    ] as const) {
      const clock = new FakeClock();
      await using server = fakeServer(() => refusal("quota_exceeded", { "retry-after": seconds }), { clock });
      await fails("quota_exceeded", sped(clock, server.client.host.create({})));
      expect({ seconds, tries: server.asked.length }).toEqual({ seconds, tries });
    }
  });

  test("of a create has the same key, another create another one; a bake is waited for", async () => {
    const clock = new FakeClock();
    const tries = LIMITS.clientTries + 3;
    await using server = fakeServer(
      (_, times) => (times < tries ? refusal("template_baking", RETRY) : refusal("out_of_credit")),
      { clock },
    );
    await fails("out_of_credit", sped(clock, server.client.host.create({})));
    await fails("out_of_credit", server.client.host.create({}));
    const keys = server.asked.map(({ headers }) => headers.get("idempotency-key"));
    expect(keys.length).toBe(tries + 2);
    expect(new Set(keys.slice(0, -1)).size).toBe(1);
    expect(new Set(keys).size).toBe(2);
    expect(keys[0]?.length).toBeGreaterThan(30);
  });

  test("is made when there is no connection, of what can be done twice and of nothing else", async () => {
    const system = (code: string) => Object.assign(new TypeError("fetch failed"), { code });
    const cases: [string, string, number][] = [
      ["get", "ECONNREFUSED", LIMITS.clientTries],
      ["get", "ECONNRESET", LIMITS.clientTries],
      ["create", "ECONNRESET", LIMITS.clientTries],
      ["close", "ECONNRESET", LIMITS.clientTries],
      ["removeSnapshot", "ECONNREFUSED", LIMITS.clientTries],
      ["removeSnapshot", "ECONNRESET", 1],
      ["exec", "ECONNREFUSED", 1],
      ["pause", "ECONNREFUSED", 1],
    ];
    for (const [name, code, tries] of cases) {
      const clock = new FakeClock();
      let made = 0;
      const fetch = async () => {
        made += 1;
        throw system(code);
      };
      const { host } = connect({ url: "http://server.test", fetch, clock });
      const call = (host as unknown as Record<string, (input: object) => Promise<unknown>>)[name];
      if (call === undefined) throw new Error(name);
      const input = name === "exec" ? { id: "x", cmd: "true" } : name === "create" ? {} : { id: "x" };
      const error = await fails("connection_failed", sped(clock, call(input)));
      expect({ name, code, made, details: error.details }).toEqual({
        ...{ name, code, made: tries, details: { origin: "http://server.test", code } },
      });
    }
  });

  test("is not made of an upload that can be read once only", async () => {
    const clock = new FakeClock();
    await using server = fakeServer(() => refusal("rate_limited", RETRY), { clock });
    async function* body() {
      yield new Uint8Array(3);
    }
    const file = { id: "sb_1", path: "/x" };
    await fails("rate_limited", sped(clock, server.client.host.writeFile({ ...file, body: body() })));
    expect(server.asked.length).toBe(1);
    await fails("rate_limited", sped(clock, server.client.host.writeFile({ ...file, body: "again" })));
    expect(server.asked.length).toBe(1 + LIMITS.clientTries);
  });
});

describe("A call", () => {
  test("that is not answered in time fails, and one that nobody listens to", async () => {
    const clock = new FakeClock();
    await using server = fakeServer(() => new Promise<Response>(() => undefined), { clock, timeoutMs: 10_000 });
    const error = await fails("connection_failed", sped(clock, server.client.host.pause({ id: "sb_1" })));
    expect(error.message).toContain("10000 ms");
    // An answer that stops in the middle, as a success and as a refusal.
    for (const status of [200, 500]) {
      const half = new ReadableStream<Uint8Array>({ start: (c) => c.enqueue(new TextEncoder().encode('{"error":')) });
      await using stuck = fakeServer(() => new Response(half, { status }), { clock, timeoutMs: 10_000 });
      await fails(status === 200 ? "connection_failed" : "internal", sped(clock, stuck.client.host.me({})));
      expect(stuck.asked.length).toBe(1);
    }
    const gone = fakeServer(nothing);
    await gone[Symbol.asyncDispose]();
    const refused = await fails("connection_failed", gone.client.host.pause({ id: "sb_1" }));
    expect(refused.details).toMatchObject({ code: "ECONNREFUSED" });
    expect(refused.retry).toBe(true);
  });

  test("that is aborted ends with the reason when it is ours, else as cancelled, also between tries", async () => {
    await using server = fakeServer(() => new Promise<Response>(() => undefined));
    for (const [reason, code] of [
      [new WarrenError("sandbox_lost", "ours"), "sandbox_lost"],
      [new Error("theirs"), "cancelled"],
    ] as const) {
      const abort = new AbortController();
      const call = fails(code, server.client.host.pause({ id: "sb_1" }, { signal: abort.signal }));
      await until("it was asked", () => server.asked.length > 0);
      abort.abort(reason);
      await call;
      server.asked.length = 0;
      await fails(code, server.client.host.pause({ id: "sb_1" }, { signal: AbortSignal.abort(reason) }));
      expect(server.asked.length).toBe(0);
    }
    const clock = new FakeClock();
    await using busy = fakeServer(() => refusal("rate_limited", RETRY), { clock });
    const abort = new AbortController();
    const call = fails("cancelled", busy.client.host.list({}, { signal: abort.signal }));
    await until("it waits", () => busy.asked.length === 1 && clock.waiting > 0);
    abort.abort();
    await call;
  });

  test("goes to the server's path, and its key to no other place", async () => {
    await using elsewhere = fakeServer(nothing);
    await using server = fakeServer(() => Response.redirect(elsewhere.url, 302));
    const { host } = server.connect({ url: `${server.url}/below/it/` });
    await fails("connection_failed", host.close({ id: "a/b?c#d" }));
    expect(server.asked[0]?.url.pathname).toBe("/below/it/v1/sandboxes/a%2Fb%3Fc%23d");
    expect(elsewhere.asked).toEqual([]);
    await using down = fakeServer(() => refusal("internal"));
    const error = await fails("internal", down.client.host.list({}));
    expect(JSON.stringify([error, error.message, error.stack])).not.toContain(KEY);
  });

  test("without a key sends none; a key or an address that cannot be is refused", async () => {
    await using server = fakeServer(nothing);
    await connect({ url: server.url }).host.pause({ id: "sb_1" });
    expect(server.asked[0]?.headers.has("authorization")).toBe(false);
    for (const url of ["", "server.test", "ftp://server.test", "http://x:secret@server.test", "http://x/?a=b"])
      expect(() => connect({ url })).toThrow("url");
    for (const key of ["", "two words", "line\nbreak", "ключ"]) expect(() => connect({ key })).toThrow("key");
  });

  test("that makes sandboxes tells their ids when it is answered", async () => {
    await using server = fakeServer(() => refusal("quota_exceeded"));
    const began: string[] = [];
    await fails("quota_exceeded", server.client.host.create({}, { began: (id) => began.push(id) }));
    expect(began).toEqual([]);
  });
});
