/** The proxy over real connections: what goes in, what comes out, and what a hostile program cannot do. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { createEdge } from "../../../src/api/edge/index.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";
import { answering, headOf, onLoopback, type Program, program } from "./programs.ts";

const MIB = 1024 * 1024;
let api: Api;
let id: string;
const listening: number[] = [];
/** A field of an answer as text. */
const said = (body: unknown, field: string): string => String((body as Record<string, unknown>)[field]);

beforeAll(async () => {
  api = await Api.start({ edge: createEdge, around: (host) => onLoopback(host, () => listening) });
  id = (await api.call("POST", "/v1/sandboxes", {})).body["id"] as string;
});
afterAll(() => api[Symbol.asyncDispose]());

const at = ({ port }: Program, path = "/") => `/v1/sandboxes/${id}/proxy/${port}${path}`;

/** A request as its bytes are, answered as its bytes are. */
function spoken(text: string): Promise<string> {
  return new Promise((resolve) => {
    let heard = "";
    const socket = connect(api.server.port as number, "127.0.0.1", () => socket.write(Buffer.from(text, "latin1")));
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(heard));
  });
}

describe("Proxy, inward", () => {
  test("hands on method, path, query and headers, by the port's own name", async () => {
    using it = await answering("200 OK", ["X-Own: 1"], "hello");
    const response = await api.raw("PROPFIND", at(it, "/a%20b//c;d?x=1&y=%2F&y"), { headers: { "x-mine": "2" } });
    expect([response.status, await response.text(), response.headers.get("x-own")]).toEqual([200, "hello", "1"]);
    const [first, ...rest] = headOf(it);
    expect(first).toBe("PROPFIND /a%20b//c;d?x=1&y=%2F&y HTTP/1.1");
    expect(rest).toContain(`host: localhost:${it.port}`);
    expect(rest).toContain("x-mine: 2");
    expect(rest).toContain("x-forwarded-proto: http");
    expect(rest).toContain(`x-forwarded-host: 127.0.0.1:${api.server.port}`);
    expect(rest).toContain(`x-forwarded-prefix: /v1/sandboxes/${id}/proxy/${it.port}`);
    expect(rest).toContain("x-forwarded-for: 127.0.0.1");
  });

  test("begins at the root when the path ends with the port, and keeps two slashes", async () => {
    using it = await answering("200 OK");
    await api.raw("GET", `/v1/sandboxes/${id}/proxy/${it.port}?q=1`);
    await api.raw("GET", at(it, "//example.com/x"));
    expect(it.heard().match(/^GET \S+/gm)).toEqual(["GET /?q=1", "GET //example.com/x"]);
  });

  test("hands on no credential, however it was given, and no word of a proxy that was not there", async () => {
    using it = await answering("200 OK");
    await api.raw(
      "GET",
      at(it, "/?a=1&access_token=wrn_secret&%61ccess_token=wrn_secret&ACCESS_TOKEN=wrn_secret&b=2"),
      {
        headers: {
          "x-api-key": api.admin,
          cookie: "session=secret",
          "proxy-authorization": "Basic secret",
          referer: "http://127.0.0.1/?access_token=secret",
          forwarded: "for=secret",
          "x-forwarded-for": "secret",
          "x-forwarded-user": "secret",
          "x-real-ip": "secret",
          "x-original-url": "/secret",
          "x-http-method-override": "secret",
          "x-hop": "secret",
          connection: "x-hop",
        },
      },
    );
    expect(it.heard()).toStartWith("GET /?a=1&b=2 HTTP/1.1\r\n");
    expect(it.heard()).not.toContain("secret");
    expect(it.heard()).not.toContain(api.admin);
    expect(it.heard().toLowerCase()).not.toContain("authorization");
  });

  test("tells a program that its own pages are its own, and that others are not", async () => {
    using it = await answering("200 OK");
    const heard = async (origin: string) => {
      await api.raw("POST", at(it), { headers: { origin } });
      return it
        .heard()
        .split("\r\n")
        .findLast((line) => /^origin:/i.test(line));
    };
    expect(await heard(api.url)).toMatch(new RegExp(`^origin: http://localhost:${it.port}$`, "i"));
    expect(await heard("http://example.com")).toMatch(/^origin: http:\/\/example.com$/i);
  });

  test("streams a body in, with its length when that is known", async () => {
    let all = 0;
    using it = await program((socket, first) => {
      const begin = first.indexOf("\r\n\r\n") + 4;
      all += first.length - begin;
      const done = () => socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Got: ${all}\r\n\r\n`);
      if (all >= 8 * MIB) return done();
      socket.on("data", (chunk) => {
        all += chunk.length;
        if (all >= 8 * MIB) done();
      });
    });
    const response = await api.raw("PUT", at(it), { body: new Uint8Array(8 * MIB) });
    expect(response.headers.get("x-got")).toBe(String(8 * MIB));
    expect(headOf(it)).toContain(`content-length: ${8 * MIB}`);
  });

  test("needs a key, its scope, the account's own sandbox, and a port", async () => {
    using it = await answering("200 OK");
    expect((await api.raw("GET", at(it), { key: null })).status).toBe(401);
    expect((await api.raw("GET", at(it), { key: await api.key("acme", ["sandbox:read"]) })).status).toBe(403);
    expect((await api.raw("GET", at(it), { key: await api.key("other") })).status).toBe(404);
    for (const port of ["0", "65536", "x", "080", "1e3", "%38"])
      expect((await api.raw("GET", `/v1/sandboxes/${id}/proxy/${port}/`)).status).toBe(400);
    expect((await api.raw("GET", "/v1/sandboxes/sb_none/proxy/80/")).status).toBe(404);
    expect((await api.raw("TRACE", at(it))).status).not.toBe(200);
    expect(it.heard()).toBe("");
  });

  test("takes a key from the query for event streams alone: a page could read it", async () => {
    using it = await answering("200 OK", ["Content-Type: text/event-stream"], "data: 1\n\n");
    const path = at(it, `/?access_token=${api.admin}`);
    const as = (accept: string) => api.raw("GET", path, { key: null, headers: { accept } });
    expect((await as("text/html")).status).toBe(401);
    expect((await as("*/*")).status).toBe(401);
    expect(await (await as("text/event-stream")).text()).toBe("data: 1\n\n");
    expect(it.heard()).not.toContain(api.admin);
  });

  test("gives nobody a service worker on this server's origin", async () => {
    using it = await answering("200 OK", ["Content-Type: text/javascript"], "1");
    expect((await api.raw("GET", at(it, "/sw.js"), { headers: { "service-worker": "script" } })).status).toBe(403);
    expect(it.heard()).toBe("");
  });
});

describe("Proxy, outward", () => {
  test("drops what would act on this origin or on a proxy in front, and says what a page may do", async () => {
    using it = await answering("200 OK", [
      "Set-Cookie: a=1",
      "Set-Cookie: b=2; Domain=example.com",
      "Clear-Site-Data: *",
      "Strict-Transport-Security: max-age=1",
      'Alt-Svc: h3=":1"',
      "Service-Worker-Allowed: /",
      "WWW-Authenticate: Basic",
      "X-Accel-Redirect: /internal",
      "X-Sendfile: /etc/passwd",
      "Access-Control-Allow-Credentials: true",
      "Keep-Alive: timeout=5",
      "Proxy-Authenticate: Basic",
      "Content-Security-Policy: default-src 'self'",
      "Content-Type: text/html",
      "ETag: x",
    ]);
    const { headers } = await api.raw("GET", at(it));
    const own = ["content-security-policy", "content-type", "etag", "referrer-policy", "x-content-type-options"];
    const names = [...headers.keys()].filter(
      (name) => !["date", "transfer-encoding", "x-request-id", "content-length"].includes(name),
    );
    expect(names.sort()).toEqual(own.sort());
    const policy = headers.get("content-security-policy") ?? "";
    expect(policy).toStartWith("sandbox allow-scripts ");
    expect(policy).toEndWith(", default-src 'self'");
    expect(policy).not.toContain("allow-same-origin");
    expect([headers.get("x-content-type-options"), headers.get("referrer-policy")]).toEqual(["nosniff", "no-referrer"]);
  });

  test("rewrites redirects within the sandbox, hands on others, drops what leads nowhere", async () => {
    const to = async (location: string) => {
      using it = await answering("302 Found", [`Location: ${location.replaceAll("PORT", "%PORT%")}`]);
      const response = await api.raw("GET", at(it, "/folder/page"), { redirect: "manual" });
      expect(response.status).toBe(302);
      return response.headers.get("location")?.replace(api.url, "").replace(at(it, ""), "~") ?? null;
    };
    expect(await to("/next?x=1#y")).toBe("~/next?x=1#y");
    expect(await to("next")).toBe("~/folder/next");
    expect(await to("../../../../../v1/me")).toBe("~/v1/me");
    expect(await to("//localhost:1/a")).toBe(`/v1/sandboxes/${id}/proxy/1/a`);
    expect(await to("http://127.0.0.1/a")).toBe(`/v1/sandboxes/${id}/proxy/80/a`);
    expect(await to(`${api.url}/docs`)).toBe("~/docs");
    expect(await to("https://example.com/a")).toBe("https://example.com/a");
    expect(await to("//example.com")).toBe("http://example.com/");
    expect(await to("javascript:alert(1)")).toBeNull();
    expect(await to("data:text/html,x")).toBeNull();
    expect(await to(`http://${"[bad"}`)).toBeNull();
  });

  test("keeps a redirect of a program that knows its prefix", async () => {
    const known: { port: number } = { port: 0 };
    using it = await program((socket) =>
      socket.end(
        `HTTP/1.1 302 F\r\nLocation: /v1/sandboxes/${id}/proxy/${known.port}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
      ),
    );
    known.port = it.port;
    const response = await api.raw("GET", at(it), { redirect: "manual" });
    expect(response.headers.get("location")).toBe(`${api.url}${at(it, "/x")}`);
  });

  test("hands on statuses, empty answers, HEAD and compressed bodies as they are", async () => {
    for (const status of [204, 304, 404, 418, 502]) {
      using it = await answering(`${status} Hm`, status === 304 ? ["ETag: x"] : []);
      expect((await api.raw("GET", at(it))).status).toBe(status);
    }
    using head = await answering("200 OK", ["Content-Length: 5"]);
    const answer = await api.raw("HEAD", at(head));
    expect([answer.status, await answer.text()]).toEqual([200, ""]);
    const body = Buffer.from(Bun.gzipSync(Buffer.from("hello")));
    using gzip = await program((socket) => {
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
      );
      socket.end(body);
    });
    expect(await (await api.raw("GET", at(gzip))).text()).toBe("hello");
  });

  test("streams a body out as it comes, and makes the program wait for its reader", async () => {
    let sent = 0;
    using it = await program((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${512 * MIB}\r\n\r\n`);
      const chunk = new Uint8Array(MIB / 4);
      const more = () => {
        while (sent < 512 * MIB && !socket.destroyed) {
          sent += chunk.length;
          if (!socket.write(chunk)) return;
        }
      };
      socket.on("drain", more);
      more();
    });
    const client = connect(api.server.port as number, "127.0.0.1", () =>
      client.write(`GET ${at(it)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.admin}\r\n\r\n`),
    );
    await new Promise((resolve) => client.once("data", resolve));
    client.pause();
    let [last, same] = [-1, 0];
    await until("the program has to wait", () => {
      same = sent === last ? same + 1 : 0;
      last = sent;
      return same > 30;
    });
    expect(sent).toBeLessThan(64 * MIB);
    client.destroy();
    await until("the program has lost it", () => it.sockets.size === 0);
  });

  test("ends the program's answer when its client leaves", async () => {
    using it = await program((socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome"));
    const abort = new AbortController();
    const response = await api.raw("GET", at(it), { signal: abort.signal });
    expect(new TextDecoder().decode((await response.body?.getReader().read())?.value)).toBe("some");
    abort.abort();
    await until("the program has lost it", () => it.sockets.size === 0);
    using silent = await program(() => undefined);
    const leaving = new AbortController();
    const waiting = api.raw("GET", at(silent), { signal: leaving.signal });
    await until("the request is there", () => silent.heard() !== "");
    leaving.abort();
    await expect(waiting).rejects.toThrow();
    await until("the program has lost it", () => silent.sockets.size === 0);
  });
});

describe("Proxy, with programs that do not answer well", () => {
  test("says that nothing listens, and what does", async () => {
    listening.push(8123);
    const port = await closedPort();
    const { status, body } = await api.call("GET", `/v1/sandboxes/${id}/proxy/${port}/`);
    listening.pop();
    expect(status).toBe(502);
    expect(said(body, "code")).toBe("guest_protocol");
    expect(said(body, "error")).toContain(`nothing listens on port ${port}`);
    expect(body["details"]).toMatchObject({ port, listening: [8123] });
    expect(body["request_id"]).toBeString();
  });

  for (const [what, bytes] of [
    ["no HTTP", "SSH-2.0-nothing\r\n\r\n"],
    ["nothing", ""],
    ["a status that is none", "HTTP/1.1 999999 What\r\n\r\n"],
    ["a status below 100", "HTTP/1.1 042 Low\r\nContent-Length: 0\r\n\r\n"],
    [
      "an upgrade that nobody asked for",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    ],
    ["a head without an end", `HTTP/1.1 200 OK\r\n${"X-A: ".padEnd(200_000, "y")}`],
    ["thousands of headers", `HTTP/1.1 200 OK\r\n${"X-A: b\r\n".repeat(20_000)}\r\n`],
  ] as const) {
    test(`answers 502 to ${what}`, async () => {
      using it = await program((socket) => socket.end(Buffer.from(bytes, "latin1")));
      const { status, body } = await api.call("GET", at(it));
      expect([status, said(body, "code")]).toEqual([502, "guest_protocol"]);
      expect(said(body, "error")).toContain(`port ${it.port}`);
    });
  }

  test("lets no header of theirs become two, and breaks off a body that breaks off", async () => {
    using injected = await program((socket) =>
      socket.end("HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: c=1\r\nX-B: d\nSet-Cookie: e=1\r\nContent-Length: 0\r\n\r\n"),
    );
    const answer = await spoken(
      `GET ${at(injected)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.admin}\r\nConnection: close\r\n\r\n`,
    );
    expect(answer.toLowerCase()).not.toMatch(/^set-cookie/m);
    using broken = await program((socket) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome", () => socket.end());
    });
    await expect(api.raw("GET", at(broken)).then((response) => response.text())).rejects.toThrow();
    using chunks = await program((socket) =>
      socket.end("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nx"),
    );
    const text = api.raw("GET", at(chunks)).then(async (response) => [response.status, await response.text()] as const);
    const outcome = await text.catch(() => "broke off" as const);
    expect(outcome === "broke off" || outcome[0] === 502).toBe(true);
    expect((await api.raw("GET", "/healthz", { key: null })).status).toBe(200);
  });

  test("announces no body that does not come", async () => {
    const lengths = async (status: number, length: string, method = "GET") => {
      using it = await program((socket) => socket.end(`HTTP/1.1 ${status} X\r\nContent-Length: ${length}\r\n\r\n`));
      const head = `Host: 127.0.0.1\r\nAuthorization: Bearer ${api.admin}\r\nConnection: close\r\n\r\n`;
      const answer = await spoken(`${method} ${at(it)} HTTP/1.1\r\n${head}`);
      expect(answer).toStartWith(`HTTP/1.1 ${status} `);
      return [...answer.matchAll(/^content-length: (.*?)\r$/gim)].map(([, value]) => value);
    };
    for (const status of [204, 205]) expect(["", "0"]).toContain((await lengths(status, "7")).join());
    expect(await lengths(200, "7", "HEAD")).toEqual(["7"]);
    expect(await lengths(200, "7, 8", "HEAD")).not.toContain("7, 8");
  });

  test("holds one sandbox to so many exchanges at a time, and lets go of each", async () => {
    using silent = await program(() => undefined);
    const request = `GET ${at(silent)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.admin}\r\n\r\n`;
    // Not with `fetch`, which has as few at a time.
    const clients = Array.from({ length: 256 }, () => {
      const client = connect(api.server.port as number, "127.0.0.1", () => client.write(request));
      client.on("error", () => undefined);
      return client;
    });
    await until("all are there", () => silent.sockets.size === 256);
    const refused = await api.call("GET", at(silent));
    expect([refused.status, said(refused.body, "code")]).toEqual([429, "rate_limited"]);
    for (const client of clients) client.destroy();
    await until("all are gone", () => silent.sockets.size === 0);
    using it = await answering("200 OK");
    expect((await api.raw("GET", at(it))).status).toBe(200);
  });
});

/** One that nobody has. */
async function closedPort(): Promise<number> {
  using it = await program(() => undefined);
  return it.port;
}
