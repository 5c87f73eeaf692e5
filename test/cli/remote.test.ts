/** Verbs over a server: which one is meant, that verbs give the same there, and what only a server can do. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { connectedTo } from "../../src/cli/ground/connected.ts";
import type { Target } from "../../src/cli/ground/ground.ts";
import { keepLogin, targetOf } from "../../src/cli/ground/login.ts";
import type { AccountInfo } from "../../src/contract/routes/api/accounts.ts";
import type { SandboxEventInfo } from "../../src/contract/routes/api/calls.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { ApiHost } from "../../src/contract/table.ts";
import { WarrenError } from "../../src/errors.ts";
import { StubHost } from "../batch/stub-host.ts";
import { FakeIo } from "./fake-io.ts";

let dir = "";
const cwd = process.cwd();
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-remote-"));
  process.chdir(dir);
});
afterEach(() => {
  process.chdir(cwd);
  rmSync(dir, { recursive: true, force: true });
});

const ACCOUNT: AccountInfo = {
  ...{ id: "acme", name: "Acme\x1b[2J", createdAt: "2030-01-01T00:00:00.000Z", suspended: false, creditUsd: "12.5" },
  quota: { sandboxes: 5, vcpus: null, memoryMb: null, storageMb: null, requestsPerSecond: null },
  ...{ onEmpty: "nothing", timeZone: "UTC", billTo: null },
};
const KEY = {
  ...{ prefix: "wrn_abcd", label: "ci", scopes: ["sandbox:read"] as const, createdAt: "2030-01-01T00:00:00.000Z" },
  ...{ lastUsedAt: null, expiresAt: null },
};

/** A server that writes down what is asked of it. */
class FakeServer {
  readonly stub = new StubHost();
  readonly asked: [string, unknown][] = [];
  readonly connected: Target[] = [];
  events: SandboxEventInfo[] = [];

  get client(): SandboxHost & ApiHost {
    const answers: Readonly<Record<string, unknown>> = {
      me: {
        account: ACCOUNT,
        key: { prefix: KEY.prefix, label: KEY.label, scopes: KEY.scopes },
        usage: { sandboxes: 2, vcpus: 4, memoryMb: 1024 },
      },
      tokens: { items: [KEY] },
      createToken: { ...KEY, token: "wrn_secret" },
      createAccountToken: { ...KEY, token: "wrn_secret" },
      accounts: { items: [ACCOUNT] },
      createAccount: ACCOUNT,
      updateAccount: { ...ACCOUNT, suspended: true },
      previewToken: { url: "https://p.test/?t=1", token: "t", expiresAt: "2030-01-01T01:00:00.000Z" },
    };
    const rows = (name: string) =>
      async function* () {
        if (name === "logs") yield* [{ line: "hello" }, { line: "\x1b[31mred" }];
        else yield* events();
      };
    const events = () => this.events;
    const call = (name: string) => async (input: unknown) => {
      this.asked.push([name, input]);
      return name === "events" || name === "logs" ? rows(name)() : answers[name];
    };
    const names = [...Object.keys(answers), "revokeToken", "events", "logs"];
    return {
      ...this.stub.host,
      ...Object.fromEntries(names.map((name) => [name, call(name)])),
    } as unknown as SandboxHost & ApiHost;
  }

  io(options: { readonly isTty?: boolean; readonly stdin?: string; readonly target?: Target | null } = {}): FakeIo {
    const ground = {
      connect: async (target: Target) => {
        this.connected.push(target);
        return connectedTo(this.client, systemClock, async () => undefined);
      },
      ...(options.target === undefined ? {} : { target: async () => options.target ?? null }),
    };
    return new FakeIo({ ...options, ground });
  }
}

describe("a server in place of this machine", () => {
  test("--host and --key stand before the verb or after it, in groups too", async () => {
    const server = new FakeServer();
    const lines = [
      ["--host", "https://a.test", "--key", "k", "ls"],
      ["ls", "--host", "https://a.test", "--key", "k"],
      ["--key", "k", "templates", "ls", "--host", "https://a.test"],
      ["templates", "--host", "https://a.test", "--key", "k", "ls"],
      ["exec", "--host", "https://a.test", "--key", "k", "sb_1", "print", "--host"],
    ];
    await server.stub.host.create({});
    for (const line of lines) {
      const io = server.io();
      expect([line.join(" "), await io.run(...line)]).toEqual([line.join(" "), 0]);
      expect(io.stub.calls).toEqual([]);
    }
    expect(server.connected.length).toBe(lines.length);
  });

  test("what is about this machine takes no server", async () => {
    for (const verb of ["doctor", "clean", "completion"]) {
      const io = new FakeServer().io();
      expect(await io.run("--host", "https://a.test", verb, ...(verb === "completion" ? ["bash"] : []))).toBe(2);
      expect(io.text("err")).toContain("about this machine");
      expect(await new FakeServer().io().run(verb, "--host", "https://a.test")).toBe(2);
    }
  });

  test("what only a server can do says so without one", async () => {
    for (const line of [["me"], ["keys", "ls"], ["accounts", "ls"], ["events", "sb_1"], ["preview", "sb_1", "80"]]) {
      const io = new FakeIo();
      expect([line[0], await io.run(...line)]).toEqual([line[0], 2]);
      expect(io.text("err")).toContain("name one with --host and --key, or once with `warren login`");
    }
  });

  test("verbs give over a server what they give here", async () => {
    writeFileSync("p.py", "print hello; error oops; exit 7");
    writeFileSync("f", "content");
    const lines = [
      ["create", "--metadata", "a=b"],
      ["ls", "-q"],
      ["exec", "sb_1", "print hi; exit 3"],
      ["run", "p.py"],
      ["cp", "f", "sb_1:/work/f"],
      ["cp", "sb_1:/work/f", "g"],
      ["templates", "ls"],
      ["exec", "sb_9", "true"],
      ["rm", "sb_1"],
    ];
    const server = new FakeServer();
    const here = new StubHost();
    for (const line of lines) {
      const [far, near] = [server.io({ target: { url: "https://a.test", key: "k" } }), new FakeIo({ stub: here })];
      const codes = [await far.run(...line), await near.run(...line)];
      expect([line.join(" "), codes[0], far.text("out"), far.text("err")]).toEqual([
        ...[line.join(" "), codes[1], near.text("out"), near.text("err")],
      ]);
    }
  });

  test("a batch over a server is priced by its events, or else by the clock", async () => {
    writeFileSync("i.jsonl", '{"id":1,"code":"print 1"}\n');
    const server = new FakeServer();
    const at = (sequence: number, from: string | null, to: string, ms: number): SandboxEventInfo => ({
      ...{ sequence, from, to, type: to, reason: null, at: new Date(ms).toISOString() },
    });
    const whole = [
      ...[at(1, null, "creating", 0), at(2, "creating", "running", 1000)],
      ...[at(3, "running", "stopping", 11_000), at(4, "stopping", "deleted", 11_100)],
    ];
    const vcpuSeconds = async () => {
      const io = server.io({ target: { url: "https://a.test", key: "k" } });
      expect(await io.run("batch", "i.jsonl", "--json", "--fresh")).toBe(0);
      return JSON.parse(io.text("out").trim().split("\n").at(-1) ?? "").summary.vcpu_seconds as number;
    };
    server.events = whole;
    expect(await vcpuSeconds()).toBe(10);
    server.events = whole.slice(0, 2); // it does not tell of the end
    expect(await vcpuSeconds()).toBeLessThan(5);
  });

  test("a key that may not bake is no hindrance to what is baked", async () => {
    const server = new FakeServer();
    const client = server.client;
    const forbidden = async () => {
      throw new WarrenError("forbidden", "this key may not: template:write");
    };
    const opened = connectedTo({ ...client, bake: forbidden }, systemClock, async () => undefined);
    const io = new FakeIo({
      ground: { target: async () => ({ url: "https://a.test", key: "k" }), connect: async () => opened },
    });
    expect(await io.run("create")).toBe(0);
    expect(await io.run("templates", "bake", "base")).toBe(2);
  });
});

describe("which server is meant", () => {
  const path = () => join(dir, "conf/credentials.json");
  const calling = (api: string | null = null, apiKey: string | null = null) => ({ api, apiKey, credentials: path() });

  test("targetOf: options, then the environment, then a login, else this machine", () => {
    expect(targetOf({}, calling())).toBeNull();
    keepLogin(path(), { url: "https://kept.test", key: "kept" });
    expect(targetOf({}, calling())).toEqual({ url: "https://kept.test", key: "kept" });
    expect(targetOf({ host: "local" }, calling("https://env.test", "env"))).toBeNull();
    expect(targetOf({}, calling("https://env.test/", "env"))).toEqual({ url: "https://env.test", key: "env" });
    expect(targetOf({ host: "a.test", key: "k" }, calling("https://env.test", "env"))).toEqual({
      ...{ url: "https://a.test", key: "k" },
    });
    expect(targetOf({ key: "other" }, calling())).toEqual({ url: "https://kept.test", key: "other" });
    expect(targetOf({ host: "https://kept.test" }, calling())).toEqual({ url: "https://kept.test", key: "kept" });
  });

  test("targetOf sends no key where it was not kept for", () => {
    keepLogin(path(), { url: "https://kept.test", key: "kept" });
    expect(() => targetOf({ host: "https://evil.test" }, calling())).toThrow("there is no key for https://evil.test");
    expect(() => targetOf({ host: "https://evil.test" }, calling("https://env.test", "env"))).toThrow(
      "there is no key",
    );
    expect(() => targetOf({}, calling("https://env.test"))).toThrow("there is no key");
  });

  test("targetOf says what is no URL, and that a key needs one", () => {
    for (const host of ["https://", "http://x:pw@a.test", "a b"]) {
      expect(() => targetOf({ host, key: "k" }, calling())).toThrow("allowed is a URL");
    }
    expect(() => targetOf({ key: "k" }, calling())).toThrow("goes with --host");
    mkdirSync(join(dir, "conf"));
    writeFileSync(path(), "garbage");
    expect(() => targetOf({}, calling())).toThrow("`warren logout` removes it");
  });

  test("keepLogin writes a file for its user alone, over a looser one too, and removes it", () => {
    mkdirSync(join(dir, "conf"));
    writeFileSync(path(), "old", { mode: 0o644 });
    keepLogin(path(), { url: "https://a.test", key: "k" });
    expect(statSync(path()).mode & 0o777).toBe(0o600);
    keepLogin(path(), null);
    expect(() => readFileSync(path())).toThrow();
    expect(keepLogin(path(), null)).toBe(path());
    expect(() => keepLogin(null, null)).toThrow("HOME");
  });
});

describe("warren login, keys, accounts, me, preview, events, logs", () => {
  const target = { url: "https://a.test", key: "k" };

  test("warren login tries the key, reads it unseen from a terminal, and keeps it", async () => {
    const server = new FakeServer();
    const kept: (Target | null)[] = [];
    const login = async (isTty: boolean, stdin: string, ...args: string[]) => {
      const made = server.io();
      const ground = await made.ground();
      const io = new FakeIo({
        ...{ isTty, stdin },
        ground: {
          ...ground,
          target: async ({ host = "", key = "" }) => ({ url: host, key }),
          keepLogin: async (t) => {
            kept.push(t);
            return "/f";
          },
        },
      });
      return { code: await io.run("login", "--host", "https://a.test", ...args), io };
    };
    const piped = await login(false, "wrn_piped\n");
    expect([piped.code, piped.io.text("out")]).toEqual([
      ...[0, "https://a.test: account acme, key wrn_abcd; kept in /f\n"],
    ]);
    const typed = await login(true, "wrn_typed\r");
    expect([typed.code, typed.io.unseen]).toEqual([0, 1]);
    expect((await login(false, "", "--key", "wrn_given")).code).toBe(0);
    expect(kept.map((one) => one?.key)).toEqual(["wrn_piped", "wrn_typed", "wrn_given"]);
    expect((await login(false, "")).code).toBe(2);
    expect((await login(true, "abc\u0003")).code).toBe(130);
    expect(kept.length).toBe(3);
    const io = server.io();
    expect(await io.run("login")).toBe(2);
    expect(await io.run("logout")).toBe(0);
  });

  test("warren keys lists, makes and revokes", async () => {
    const server = new FakeServer();
    const io = server.io({ target });
    expect(await io.run("keys", "ls")).toBe(0);
    expect(io.text("out")).toMatch(/KEY .*\nwrn_abcd .* never +never +sandbox:read +ci\n/);
    const made = server.io({ target });
    expect(await made.run("keys", "create", "--scope", "sandbox:read", "--scope", "admin", "--expires", "30")).toBe(0);
    expect(made.text("out")).toBe("wrn_secret\n");
    expect(server.asked.at(-1)).toEqual(["createToken", { scopes: ["sandbox:read", "admin"], expiresInDays: 30 }]);
    expect(await server.io({ target }).run("keys", "revoke", "wrn_a", "wrn_b")).toBe(0);
    expect(server.asked.slice(-2).map(([, input]) => input)).toEqual([{ prefix: "wrn_a" }, { prefix: "wrn_b" }]);
    expect(await server.io({ target }).run("keys", "create", "--scope", "root")).toBe(2);
    expect(await server.io({ target }).run("keys", "create", "--expires", "0")).toBe(2);
  });

  test("warren me and accounts tell quotas, escaped, and set them", async () => {
    const server = new FakeServer();
    const me = server.io({ target });
    expect(await me.run("me")).toBe(0);
    expect(me.text("out")).toContain("sandboxes  2 of 5\n");
    expect(me.text("out")).toContain("\\x1b[2J");
    const json = server.io({ target });
    expect(await json.run("me", "--json")).toBe(0);
    expect(JSON.parse(json.text("out"))).toMatchObject({ account: { id: "acme" }, usage: { vcpus: 4 } });
    const line = ["accounts", "create", "acme", "--sandboxes", "20", "--vcpus", "none", "--credit", "100"];
    expect(await server.io({ target }).run(...line)).toBe(0);
    expect(server.asked.at(-1)).toEqual([
      "createAccount",
      { id: "acme", name: "acme", quota: { sandboxes: 20, vcpus: null }, creditUsd: "100" },
    ]);
    const update = server.io({ target });
    expect(await update.run("accounts", "update", "acme", "--suspend", "--credit", "none")).toBe(0);
    expect(server.asked.at(-1)).toEqual(["updateAccount", { account: "acme", suspended: true, creditUsd: null }]);
    expect(update.text("out")).toContain("suspended");
    expect(await server.io({ target }).run("accounts", "update", "acme", "--add-credit=-2.50")).toBe(0);
    expect(server.asked.at(-1)).toEqual(["updateAccount", { account: "acme", addCreditUsd: "-2.50" }]);
    expect(await server.io({ target }).run("accounts", "update", "acme", "--credit", "1", "--add-credit", "2")).toBe(2);
    expect(await server.io({ target }).run("accounts", "update", "acme", "--add-credit", "none")).toBe(2);
    expect(await server.io({ target }).run("accounts", "update", "acme", "--suspend", "--resume")).toBe(2);
    const billed = ["--time-zone", "Asia/Kolkata", "--on-empty", "hibernate"];
    const to = ["--bill-to", "Acme Ltd; 1 Main St;; Springfield", "--tax-id", "DE1"];
    expect(await server.io({ target }).run("accounts", "update", "acme", ...billed, ...to)).toBe(0);
    expect(server.asked.at(-1)?.[1]).toEqual({
      ...{ account: "acme", timeZone: "Asia/Kolkata", onEmpty: "hibernate" },
      billTo: { name: "Acme Ltd", address: ["1 Main St", "Springfield"], taxId: "DE1" },
    });
    expect(await server.io({ target }).run("accounts", "create", "acme", "--bill-to", "none")).toBe(0);
    expect(server.asked.at(-1)?.[1]).toEqual({ id: "acme", name: "acme", billTo: null });
    for (const wrong of [
      ["--tax-id", "DE1"],
      ["--bill-to", " ; "],
      ["--on-empty", "close"],
    ])
      expect([wrong, await server.io({ target }).run("accounts", "update", "acme", ...wrong)]).toEqual([wrong, 2]);
    const key = server.io({ target });
    expect(await key.run("accounts", "key", "acme", "--label", "first")).toBe(0);
    expect(server.asked.at(-1)).toEqual(["createAccountToken", { account: "acme", label: "first" }]);
    expect(key.text("out")).toBe("wrn_secret\n");
  });

  test("warren preview prints a URL, with its bounds", async () => {
    const server = new FakeServer();
    const io = server.io({ target });
    expect(await io.run("preview", "sb_1", "8000", "--ttl", "10m", "--path", "/a", "--path", "/b/*")).toBe(0);
    expect(io.text("out")).toBe("https://p.test/?t=1\n");
    expect(server.asked.at(-1)).toEqual([
      "previewToken",
      { id: "sb_1", port: 8000, ttlSeconds: 600, paths: ["/a", "/b/*"] },
    ]);
    expect(await server.io({ target }).run("preview", "sb_1", "0")).toBe(2);
  });

  test("warren events and logs print lines: exact elsewhere, escaped on a terminal, JSON when asked", async () => {
    const server = new FakeServer();
    server.events = [
      { sequence: 1, at: "2030-01-01T00:00:00.000Z", type: "created", from: null, to: "creating", reason: null },
    ];
    const events = server.io({ target });
    expect(await events.run("events", "sb_1", "--follow", "--tail", "5")).toBe(0);
    expect(events.text("out")).toBe("2030-01-01T00:00:00.000Z  created  creating\n");
    expect(server.asked.at(-1)).toEqual(["events", { id: "sb_1", follow: true, tail: 5 }]);
    const [pipe, tty, json] = [server.io({ target }), server.io({ target, isTty: true }), server.io({ target })];
    expect(await pipe.run("logs", "sb_1")).toBe(0);
    expect(pipe.text("out")).toBe("hello\n\x1b[31mred\n");
    await tty.run("logs", "sb_1", "--stream", "kernel");
    expect(tty.text("out")).toBe("hello\n\\x1b[31mred\n");
    await json.run("logs", "sb_1", "--json");
    expect(json.text("out").split("\n")[0]).toBe('{"line":"hello"}');
  });
});
