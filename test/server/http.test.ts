/** The whole of a server over fakes, asked over HTTP by the command line and by the client: no guests, no database, no mocks between. */
import { afterEach, describe, expect, test } from "bun:test";
import { ADMIN } from "../../src/api/access/admin.ts";
import { createApp } from "../../src/api/app.ts";
import { createEdge } from "../../src/api/edge/index.ts";
import { DEFAULT_SETTINGS } from "../../src/api/settings.ts";
import { systemClock } from "../../src/base/clock.ts";
import { connectedTo } from "../../src/cli/ground/connected.ts";
import { connect } from "../../src/client.ts";
import { type RunningServer, startServer } from "../../src/server/start.ts";
import { FakeIo } from "../cli/fake-io.ts";
import { until } from "../harness/until.ts";
import { type Fake, fake } from "./parts.ts";

const running: RunningServer[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.close()));
});

interface Served {
  readonly of: Fake;
  readonly url: string;
  readonly key: string;
}

async function served(): Promise<Served> {
  const key = `wrn_${"k".repeat(43)}`;
  const of = fake({ createApp: (parts) => createApp(parts, createEdge), adminKey: key });
  const server = await startServer(of.options);
  running.push(server);
  await server.ready;
  return { of, url: server.url, key };
}

/** One command line, over HTTP. */
async function warren({ url, key }: Served, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = new FakeIo({
    ground: {
      target: async () => ({ url, key }),
      connect: async (target) => connectedTo(connect(target).host, systemClock, async () => undefined),
    },
  });
  const code = await io.run(...args);
  return { code, out: io.text("out"), err: io.text("err") };
}

describe("a server, asked by the command line", () => {
  test("a sandbox is made, listed, used and ended", async () => {
    const server = await served();
    const made = await warren(server, "create", "--metadata", "who=me", "--ttl", "10m");
    expect([made.code, made.err]).toEqual([0, expect.stringContaining("it ends itself at 2")]);
    const id = made.out.trim();
    expect((await warren(server, "ls", "-q")).out).toBe(`${id}\n`);
    const [info] = JSON.parse((await warren(server, "ls", "--json")).out);
    expect(info).toMatchObject({ id, detached: true, metadata: { who: "me" }, state: "running" });
    expect(info).toEqual(JSON.parse(JSON.stringify(await server.of.engine.as(ADMIN).get({ id }))));
    expect((await warren(server, "pause", id)).out).toBe(`${id}\n`);
    expect((await warren(server, "ls", "-q", "--state", "paused")).out).toBe(`${id}\n`);
    expect((await warren(server, "resume", id)).code).toBe(0);
    const fork = await warren(server, "fork", id, "-n", "2");
    expect([fork.code, fork.out.trim().split("\n").length]).toEqual([0, 2]);
    const events = await warren(server, "events", id, "--json");
    expect(
      events.out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line).to),
    ).toEqual([...["creating", "running", "paused", "running"]]);
    expect((await warren(server, "rm", "--all")).code).toBe(0);
    expect((await warren(server, "ls", "-q")).out).toBe("");
    expect((await warren(server, "exec", id, "true")).code).not.toBe(0);
  });

  test("what is not there, or not allowed, ends with the code that it has here", async () => {
    const server = await served();
    expect(await warren(server, "exec", "sb_none", "true")).toMatchObject({ code: 2 });
    expect(await warren(server, "create", "--template", "nope")).toMatchObject({ code: 2 });
    expect(await warren(server, "volumes", "rm", "nope")).toMatchObject({ code: 2 });
    expect(await warren({ ...server, key: "wrn_wrong" }, "ls")).toMatchObject({ code: 2 });
    const key = await warren(server, "keys", "create", "--scope", "sandbox:read");
    const reader = { ...server, key: key.out.trim() };
    expect((await warren(reader, "ls")).code).toBe(0);
    expect(await warren(reader, "create")).toMatchObject({ code: 2, err: expect.stringContaining("sandbox:write") });
    const gone = { ...server, url: "http://127.0.0.1:1" };
    const { code, err } = await warren(gone, "ls");
    expect([code, err.startsWith("warren: ")]).toEqual([expect.any(Number), true]);
    expect(code).not.toBe(70);
  });

  test("accounts, keys and volumes are made and revoked", async () => {
    const server = await served();
    expect(await warren(server, "accounts", "create", "acme", "--sandboxes", "1")).toMatchObject({
      code: 0,
      out: "acme\n",
    });
    const key = (await warren(server, "accounts", "key", "acme", "--label", "ci")).out.trim();
    const acme = { ...server, key };
    expect((await warren(acme, "me")).out).toContain("sandboxes  0 of 1\n");
    expect((await warren(acme, "create")).code).toBe(0);
    expect((await warren(server, "ls", "-q")).out).toBe(""); // another account's
    expect((await warren(acme, "volumes", "create", "data", "--size", "64")).code).toBe(0);
    expect((await warren(acme, "volumes", "ls", "--json")).out).toContain('"name":"data"');
    expect((await warren(acme, "accounts", "ls")).code).toBe(2);
    expect((await warren(acme, "keys", "revoke", key.slice(0, 12))).code).toBe(0);
    expect((await warren(acme, "ls")).code).toBe(2);
  });

  test("a preview's URL is printed", async () => {
    const server = await served();
    const id = (await warren(server, "create")).out.trim();
    const { code, out } = await warren(server, "preview", id, "8000", "--ttl", "10m");
    expect([code, URL.canParse(out.trim())]).toEqual([0, true]);
  });
});

describe("a server that ends", () => {
  test("does not wait for those who follow something", async () => {
    const server = await served();
    const { host } = connect({ url: server.url, key: server.key });
    const { id } = await host.create({});
    const seen: string[] = [];
    const followed = (async () => {
      for await (const { to } of await host.events({ id, follow: true })) seen.push(to);
    })().catch(() => undefined); // it may be told of the end as a failure
    await until("it follows", () => seen.includes("running"));
    const startMs = systemClock.monotonicMs();
    await Promise.all(running.splice(0).map((one) => one.close()));
    expect(systemClock.monotonicMs() - startMs).toBeLessThan(DEFAULT_SETTINGS.drainMs / 2);
    await followed;
  });
});

describe("a server, asked by hand", () => {
  test("health, version and the document need no key, sandboxes do", async () => {
    const { url } = await served();
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect((await fetch(`${url}/version`)).status).toBe(200);
    expect((await fetch(`${url}/openapi.json`)).status).toBe(200);
    expect((await fetch(`${url}/v1/sandboxes`)).status).toBe(401);
  });
});
