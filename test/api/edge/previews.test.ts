/** Previews: what their URLs open, to whom and for how long, and what visitors are never told. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createEdge } from "../../../src/api/edge/index.ts";
import { hostPreview } from "../../../src/api/edge/previews/mount.ts";
import { opens, plainPath, ruleOf } from "../../../src/api/edge/previews/rules.ts";
import { PreviewTokens } from "../../../src/api/edge/previews/token.ts";
import { FakeClock } from "../../harness/clock.ts";
import { World } from "../../harness/fakes.ts";
import { MemoryStore } from "../../harness/stores/memory-store.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";
import { answering, headOf, onLoopback, type Program, program } from "./programs.ts";

let api: Api;
let id: string;

beforeAll(async () => {
  const settings = { previewSuffix: "preview.test" };
  api = await Api.start({ edge: createEdge, around: (host) => onLoopback(host), settings });
  id = await created();
});
afterAll(() => api[Symbol.asyncDispose]());

async function created(key = api.admin): Promise<string> {
  return ((await api.call("POST", "/v1/sandboxes", {}, { key })).body as unknown as { id: string }).id;
}

interface Made {
  readonly url: string;
  readonly token: string;
  readonly expires_at: string;
}
async function preview(port: number, ask: object = {}, of = id): Promise<Made> {
  const { status, body } = await api.call("POST", `/v1/sandboxes/${of}/preview-token`, { port, ...ask });
  expect(status).toBe(201);
  return body as unknown as Made;
}

describe("Preview by token", () => {
  test("opens the whole port to anyone, with no credential in and no cookie out", async () => {
    using it = await answering("200 OK", ["Set-Cookie: a=1", "Content-Type: text/html"], "hello");
    const { url } = await preview(it.port);
    expect(url).toStartWith(`${api.url}/v1/p/`);
    const headers = { authorization: "Bearer secret", cookie: "a=secret", "x-api-key": "secret" };
    const response = await fetch(`${url}a//b?x=1&access_token=own&access_token=wrn_secret`, { headers });
    expect([response.status, await response.text(), response.headers.get("set-cookie")]).toEqual([200, "hello", null]);
    expect(response.headers.get("content-security-policy")).toStartWith("sandbox allow-scripts");
    expect(response.headers.get("content-security-policy")).not.toContain("same-origin");
    expect(headOf(it)[0]).toBe("GET /a//b?x=1&access_token=own HTTP/1.1");
    expect(it.heard()).not.toContain("secret");
  });

  test("says nothing of the sandbox and the account, also when nothing answers", async () => {
    using it = await program(() => undefined);
    const { url, token } = await preview(it.port);
    const payload = token
      .split(".")
      .map((part) => Buffer.from(part, "base64url").toString("latin1"))
      .join();
    for (const secret of [id, "admin", String(it.port)]) expect(payload).not.toContain(secret);
    it[Symbol.dispose]();
    const response = await fetch(url);
    const text = await response.text();
    expect(response.status).toBe(502);
    expect(text).not.toContain(id);
    expect(text).not.toContain(String(it.port));
    expect(response.headers.get("content-security-policy")).toContain("sandbox");
  });

  test("opens exact paths and folders, and nothing else however it is written", async () => {
    using it = await answering("200 OK", [], "open");
    const { url } = await preview(it.port, { paths: ["/report.html", "/static/*", "/ä b"] });
    expect(url).toEndWith("/report.html");
    const base = url.slice(0, -"/report.html".length);
    const status = async (path: string) => (await fetch(base + path)).status;
    for (const path of [
      "/report.html",
      "/report.html?x=/secret",
      "/%72eport.html",
      "/static/",
      "/static/a/b.css",
      "/%C3%A4%20b",
    ])
      expect([path, await status(path)]).toEqual([path, 200]);
    const before = it.heard().match(/^GET/gm)?.length;
    for (const path of [
      "/",
      "",
      "/report.html/",
      "/report.htm",
      "/REPORT.html",
      "/Static/a",
      "/static",
      "/static/../secret",
      "/static/%2e%2e/secret",
      "/static/.%2e/secret",
      "/static/%252e%252e/secret",
      "/static/..%2fsecret",
      "/static/..%5csecret",
      "/static\\..\\secret",
      "/static//secret",
      "/static/%2Fsecret",
      "//report.html",
      "/static/..;/secret",
      "/report.html;x",
      "/report.html%00",
      "/static/%c0%ae%c0%ae/secret",
      "/static/%ef%bc%8e%ef%bc%8e/secret",
      "/static/%zz",
      "/static/%",
    ])
      expect([path, await status(path)]).toEqual([path, 404]);
    expect(it.heard().match(/^GET/gm)?.length).toBe(before);
    expect((await fetch(`${base}/secret`, { headers: { "x-original-url": "/report.html" } })).status).toBe(404);
    await fetch(`${base}/report.html`, { headers: { "x-original-url": "/secret", "x-rewrite-url": "/secret" } });
    expect(it.heard()).not.toContain("rewrite");
  });

  test("refuses rules that could be read in two ways, and more than fit into a URL", async () => {
    for (const path of [
      "/a/../b",
      "/a//b",
      "/a*",
      "/*/b",
      "/a?b",
      "/a#b",
      "/a;b",
      "/a\\b",
      "/%2e%2e/x",
      "/%",
      "/a\u0000",
      "/\ud800",
    ]) {
      const { status, body } = await api.call("POST", `/v1/sandboxes/${id}/preview-token`, {
        port: 80,
        paths: ["/ok", path],
      });
      expect([path, status]).toEqual([path, 400]);
      expect(JSON.stringify(body)).toContain("paths");
    }
    const paths = Array.from({ length: 64 }, (_, i) => `/${"x".repeat(100)}${i}`);
    expect((await api.call("POST", `/v1/sandboxes/${id}/preview-token`, { port: 80, paths })).status).toBe(400);
    for (const [field, value] of [
      ["port", 0],
      ["ttl_seconds", 0],
      ["ttl_seconds", 31 * 24 * 3600],
      ["paths", ["x"]],
    ] as const)
      expect((await api.call("POST", `/v1/sandboxes/${id}/preview-token`, { port: 80, [field]: value })).status).toBe(
        400,
      );
    expect((await api.call("POST", "/v1/sandboxes/sb_none/preview-token", { port: 80 })).status).toBe(404);
    const key = await api.key("stranger");
    expect((await api.call("POST", `/v1/sandboxes/${id}/preview-token`, { port: 80 }, { key })).status).toBe(404);
  });

  test("is one page for whatever is wrong, and ends with its sandbox", async () => {
    using it = await answering("200 OK", [], "open");
    const of = await created();
    const { url, token } = await preview(it.port, {}, of);
    expect((await fetch(url)).status).toBe(200);
    const refused = async (path: string) => {
      const response = await fetch(`${api.url}/v1/p/${path}`);
      expect(response.status).toBe(404);
      return response.text();
    };
    const pages = [
      await refused("x/"),
      await refused(`${token.slice(0, -2)}xx/`),
      await refused(`${"a".repeat(10_000)}/`),
      await refused("eyJhbGciOiJub25lIn0.eyJhIjoiYWRtaW4iLCJzIjoieCIsInAiOjgwLCJhdWQiOiJwcmV2aWV3In0./"),
    ];
    await api.raw("DELETE", `/v1/sandboxes/${of}`);
    pages.push(await refused(`${token}/`));
    expect(new Set(pages).size).toBe(1);
  });

  test("keeps redirects under its URL, and leads to no other port", async () => {
    const to = async (location: string) => {
      using it = await answering("302 F", [`Location: ${location}`]);
      const { url, token } = await preview(it.port);
      const next = (await fetch(url, { redirect: "manual" })).headers.get("location");
      return next?.replace(`${api.url}/v1/p/${token}`, "~") ?? null;
    };
    expect(await to("/a?b")).toBe("~/a?b");
    expect(await to("../../../v1/me")).toBe("~/v1/me");
    expect(await to("http://localhost:1/")).toBeNull();
    expect(await to("https://example.com/")).toBe("https://example.com/");
    using it = await answering("200 OK");
    const { token } = await preview(it.port);
    const bare = await fetch(`${api.url}/v1/p/${token}?x=1`, { redirect: "manual" });
    expect([bare.status, bare.headers.get("location")]).toEqual([307, `${api.url}/v1/p/${token}/?x=1`]);
  });

  test("opens WebSockets, of the paths that it opens", async () => {
    using it = await program((socket, request) => {
      const key = /^sec-websocket-key: (\S+)/im.exec(request)?.[1] ?? "";
      const accept = new Bun.CryptoHasher("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
      socket.write(
        `HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
    });
    const { token } = await preview(it.port, { paths: ["/chat"] });
    const at = (path: string) => new WebSocket(`${api.url.replace("http", "ws")}/v1/p/${token}${path}`);
    const socket = at("/chat");
    await until("it is open", () => socket.readyState === WebSocket.OPEN);
    socket.close();
    const other = at("/other");
    await until("it is refused", () => other.readyState === WebSocket.CLOSED);
    expect(it.heard().match(/^GET \S+/gm)).toEqual(["GET /chat"]);
  });
});

describe("Preview by host", () => {
  const ask = (it: Program, path: string, name = `${it.port}-${id}.preview.test`) =>
    fetch(api.url + path, { headers: { host: name, cookie: "a=secret" }, redirect: "manual" });

  test("has all paths of its host, an origin of its own, and no cookies", async () => {
    using it = await answering("200 OK", ["Set-Cookie: a=1"], "hello");
    for (const path of ["/", "/v1/me", "/healthz", "/metrics", "/v1/p/x/"]) {
      const response = await ask(it, path);
      expect([path, await response.text(), response.headers.get("set-cookie")]).toEqual([path, "hello", null]);
      expect(response.headers.get("content-security-policy")).toContain("allow-same-origin");
    }
    expect(it.heard()).not.toContain("secret");
    expect(headOf(it)).toContain(`x-forwarded-host: ${it.port}-${id}.preview.test`);
  });

  test("opens nothing of a sandbox that has ended or is not, and leaves other names to the API", async () => {
    using it = await answering("200 OK", [], "hello");
    const of = await created();
    expect((await ask(it, "/", `${it.port}-${of}.preview.test`)).status).toBe(200);
    await api.raw("DELETE", `/v1/sandboxes/${of}`);
    expect((await ask(it, "/", `${it.port}-${of}.preview.test`)).status).toBe(404);
    expect((await ask(it, "/", `${it.port}-sb_none.preview.test`)).status).toBe(404);
    expect((await ask(it, "/healthz", "preview.test")).headers.get("content-type")).toContain("json");
    expect((await ask(it, "/healthz", "api.preview.test")).headers.get("content-type")).toContain("json");
  });
});

test("Without a suffix no host is a preview", async () => {
  await using other = await Api.start({ edge: createEdge, around: (host) => onLoopback(host) });
  const { body } = await other.call("POST", "/v1/sandboxes", {});
  using it = await answering("200 OK", [], "hello");
  const host = `${it.port}-${(body as unknown as { id: string }).id}.preview.test`;
  expect((await fetch(`${other.url}/healthz`, { headers: { host } })).headers.get("content-type")).toContain("json");
});

test("hostPreview reads names as the SDK writes them, and no others", () => {
  const of = (host: string) => hostPreview(host, "preview.test");
  expect(of("3000-sb_abc.preview.test")).toEqual({ port: 3000, sandbox: "sb_abc" });
  expect(of("3000-SB_ABC.Preview.Test:8443")).toEqual({ port: 3000, sandbox: "sb_abc" });
  for (const host of [
    "preview.test",
    "sb_abc.preview.test",
    "0-sb_a.preview.test",
    "65536-sb_a.preview.test",
    "1-a.b.preview.test",
    "1-sb_a.preview.test.evil.test",
    "1-sb_apreview.test",
  ])
    expect(of(host)).toBeNull();
});

test("A token is over at its time, on every server of the installation, and is of this installation alone", async () => {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const what = { account: "a", sandbox: "sb_a", port: 80, paths: ["/x"] };
  const token = await new PreviewTokens(store, clock).seal(what, clock.wallMs() + 60_000);
  const other = new PreviewTokens(store, clock);
  expect(await other.open(token)).toEqual(what);
  expect(await new PreviewTokens(new MemoryStore(), clock).open(token)).toBeNull();
  await clock.advance(61_000);
  expect(await other.open(token)).toBeNull();
});

test("A preview lives as long as was asked for", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ edge: createEdge, world: new World(clock), around: (host) => onLoopback(host) });
  const { body } = await api.call("POST", "/v1/sandboxes", {});
  const path = `/v1/sandboxes/${(body as unknown as { id: string }).id}/preview-token`;
  const asked = await api.call("POST", path, { port: 80, ttl_seconds: 10 });
  const { expires_at } = asked.body as unknown as Made;
  expect(Date.parse(expires_at)).toBe(clock.wallMs() + 10_000);
});

/** What servers of all sorts might make of a path: they decode again, go up, fold separators, ignore case of escapes. */
function readings(path: string): string[] {
  const seen = new Set<string>([path]);
  const decoded = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch {
      return unescape(text);
    }
  };
  let text = path;
  for (let i = 0; i < 3; i++) {
    text = decoded(text);
    seen.add(text);
  }
  const all = [...seen].flatMap((text) => [
    text,
    text.replaceAll("\\", "/"),
    text.replace(/;[^/]*/g, ""),
    text.normalize("NFKC"),
    text.split("\0")[0] ?? "",
  ]);
  return all
    .map(
      (text) =>
        new URL(
          text
            .replace(/\/{2,}/g, "/")
            .replaceAll("?", "%3F")
            .replaceAll("#", "%23"),
          "http://localhost/",
        ).pathname,
    )
    .map(decoded);
}

test("opens lets nothing through that some server would read as a path outside", () => {
  const bit = fc.constantFrom(
    "a",
    "/",
    "/static/",
    "..",
    ".",
    "%2e",
    "%2F",
    "%5c",
    "\\",
    "%25",
    "2e",
    ";",
    "%00",
    "%c0%ae",
    "%ef%bc%8f",
    "%E2%80%A4",
    "secret",
    "//",
    "%",
    "%2",
    "A",
  );
  const path = fc.array(bit, { maxLength: 8 }).map((bits) => `/static/${bits.join("")}`);
  const rules = [ruleOf("/static/*")].filter((rule) => rule !== null);
  let open = 0;
  fc.assert(
    fc.property(path, (text) => {
      if (!opens(rules, text)) return;
      open += 1;
      for (const reading of readings(text)) expect(reading).toStartWith("/static/");
    }),
    { numRuns: 20_000 },
  );
  expect(open).toBeGreaterThan(100);
});

test("plainPath gives a path that means itself: encoded again and decoded it is the same", () => {
  fc.assert(
    fc.property(fc.webPath(), (text) => {
      const plain = plainPath(text === "" ? "/" : text);
      if (plain !== null) expect(plainPath(encodeURI(plain))).toBe(plain);
    }),
    { numRuns: 3000 },
  );
  expect(plainPath("/a%2Fb")).toBeNull();
  expect(plainPath("a")).toBeNull();
});
