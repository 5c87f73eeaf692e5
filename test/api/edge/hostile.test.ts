/** Whatever bytes a program answers: an answer that a client may have, or an error that says so; never more of it than is bounded. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Answer, exchange } from "../../../src/api/edge/http/exchange.ts";
import { type Front, inward, outward, queryWithoutKey } from "../../../src/api/edge/proxy/headers.ts";
import { located } from "../../../src/api/edge/proxy/location.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { WarrenError } from "../../../src/errors.ts";

const FRONT: Front = {
  origin: "https://api.example.test",
  prefix: "/v1/p/token",
  inner: "http://localhost:8000",
  peer: "192.0.2.1",
  isAlone: false,
};

/** Says these pieces to whoever dials, and counts what is left open. */
function saying(pieces: readonly Uint8Array[]): { readonly host: SandboxHost; readonly open: () => number } {
  let open = 0;
  const dial: SandboxHost["dial"] = async ({ body }, { signal } = {}) => {
    open += 1;
    void (async () => {
      for await (const _ of body as AsyncIterable<Uint8Array>);
    })();
    async function* said() {
      try {
        for (const piece of pieces) {
          signal?.throwIfAborted();
          yield piece;
        }
      } finally {
        open -= 1;
      }
    }
    return said();
  };
  return { host: { dial } as unknown as SandboxHost, open: () => open };
}

const token = fc.constantFrom(
  ..."HTTP/1.1 |200 |204 |101 |999|OK|\r\n|\n|\r|: |Content-Length|Transfer-Encoding|chunked|5|ffffffffffff|-1|Set-Cookie|a=b|Location|//evil.example/|javascript:1|http://localhost/x|hello|;|\0|é|\x1b[31m|Connection|close|X-A|,|0\r\n\r\n".split(
    "|",
  ),
);
const answer = fc.oneof(
  fc.array(token, { maxLength: 30 }).map((parts) => parts.join("")),
  fc.array(token, { maxLength: 20 }).map((parts) => `HTTP/1.1 200 OK\r\n${parts.join("")}\r\n\r\nhello`),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
);

/** A client may have it. */
function expectFit(got: Answer): void {
  const headers = outward(got.headers, FRONT);
  const location = got.headers.get("location");
  const next = location === null ? null : located(location, new URL("http://localhost:8000/"), FRONT, () => null);
  if (next !== null) headers.set("location", next);
  new Response(null, { status: got.status, headers });
  for (const [name, value] of headers) expect(`${name}${value}`).not.toMatch(/[\0\r\n]/);
  expect(headers.has("set-cookie")).toBe(false);
}

test("An exchange ends with an answer or with guest_protocol, and leaves nothing open, whatever is said and however it is cut", async () => {
  let answers = 0;
  await fc.assert(
    fc.asyncProperty(
      answer,
      fc.array(fc.nat(300), { maxLength: 5 }),
      fc.constantFrom("GET", "HEAD"),
      async (text, cuts, method) => {
        const bytes = Buffer.from(text, "latin1");
        const at = [0, ...cuts.toSorted((a, b) => a - b)];
        const { host, open } = saying(at.map((from, i) => bytes.subarray(from, at[i + 1] ?? bytes.length)));
        let over = 0;
        const target = { host, id: "sb_a", port: 8000 };
        const signal = new AbortController().signal;
        const ask = { target, method, path: "/", headers: new Headers(), body: null, length: null, signal };
        try {
          const got = await exchange({ ...ask, over: () => (over += 1) });
          answers += 1;
          expectFit(got);
          if (got.body !== null) for await (const _ of got.body);
        } catch (cause) {
          const isOurs =
            cause instanceof WarrenError ? cause.code === "guest_protocol" : (cause as Error).name === "HttpError";
          if (!isOurs) throw cause;
        }
        expect(over).toBeGreaterThan(0);
        expect(open()).toBe(0);
      },
    ),
    { numRuns: 3000 },
  );
  expect(answers).toBeGreaterThan(100);
});

test("An answer without an end is read no faster than it is taken, and left when its reader leaves", async () => {
  let said = 0;
  let isLeft = false;
  const dial = async () =>
    (async function* () {
      try {
        yield Buffer.from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (;;) {
          said += 1;
          yield Buffer.from(`10000\r\n${"x".repeat(65_536)}\r\n`);
        }
      } finally {
        isLeft = true;
      }
    })();
  const target = { host: { dial } as unknown as SandboxHost, id: "sb_a", port: 8000 };
  const signal = new AbortController().signal;
  const ask = { target, method: "GET", path: "/", headers: new Headers(), body: null, length: null, signal };
  const { body } = await exchange({ ...ask, over: () => undefined });
  for (let i = 0; i < 10; i++) await body?.next();
  expect(said).toBeLessThanOrEqual(11);
  await body?.return(undefined);
  expect(isLeft).toBe(true);
});

test("located leads nowhere but under the prefix, or to where another origin is named as such", () => {
  const location = fc.oneof(
    fc.webUrl(),
    fc.webPath(),
    fc.string({ maxLength: 40 }),
    fc.array(token, { maxLength: 6 }).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(location, (text) => {
      const next = located(text, new URL("http://localhost:8000/a/b"), FRONT, () => null);
      if (next === null) return;
      const url = new URL(next);
      expect(["http:", "https:"]).toContain(url.protocol);
      if (url.origin === FRONT.origin) expect(url.pathname.startsWith(`${FRONT.prefix}/`)).toBe(true);
    }),
    { numRuns: 5000 },
  );
  const alone = { ...FRONT, prefix: "", isAlone: true };
  expect(located("http://localhost:8000//evil.example/x", new URL("http://localhost:8000/"), alone, () => null)).toBe(
    "https://api.example.test//evil.example/x",
  );
});

test("inward hands on no name that carries a credential, whatever its case, and outward none that acts on the origin", () => {
  const names = [
    "Authorization",
    "COOKIE",
    "x-api-KEY",
    "Proxy-Authorization",
    "X-Forwarded-Prefix",
    "Sec-WebSocket-Protocol",
    "Connection",
    "X-Plain",
  ];
  const given = fc.array(fc.tuple(fc.constantFrom(...names), fc.constantFrom("secret", "x-plain", "close")), {
    maxLength: 10,
  });
  fc.assert(
    fc.property(given, (fields) => {
      const headers = new Headers();
      for (const [name, value] of fields) headers.append(name, value);
      const to = inward(headers, FRONT);
      for (const [name, value] of to) if (value.includes("secret")) expect(name).toBe("x-plain");
      if (headers.get("connection")?.includes("x-plain") === true) expect(to.has("x-plain")).toBe(false);
    }),
  );
});

test("queryWithoutKey takes the key away however its name is written, and not a byte of anything else", () => {
  const pair = fc.constantFrom("a=1", "", "b", "c=%zz", "d=%2F+", "access=1", "access_tokens=1", "=x");
  const key = fc.constantFrom(
    "access_token=wrn_x",
    "access%5ftoken=wrn_x",
    "%61ccess_token=wrn_x",
    "ACCESS_TOKEN=wrn_x",
    "access_token",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(pair, key), { maxLength: 8 }), (pairs) => {
      const kept = queryWithoutKey(`?${pairs.join("&")}`, "any");
      const expected = pairs.filter((one) => !/^(a|%61)ccess(_|%5f)token(=|$)/i.test(one)).join("&");
      expect(kept).toBe(expected === "" ? "" : `?${expected}`);
    }),
  );
  expect(queryWithoutKey("?access_token=own&access_token=wrn_x", "ours")).toBe("?access_token=own");
});
