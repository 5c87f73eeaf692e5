/** WebSockets of the API: many commands over one, and terminals that may be left and come back to. */
import { expect, test } from "bun:test";
import { BOUNDS } from "../../src/api/bounds.ts";
import { createEdge } from "../../src/api/edge/index.ts";
import type { Waiting } from "../../src/api/streams/budget.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { WarrenError } from "../../src/errors.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { until } from "../harness/until.ts";
import { Api } from "./subject.ts";

/** A client that keeps all it was sent. */
class Client implements Disposable {
  readonly frames: Record<string, unknown>[] = [];
  bytes = "";
  closed: { code: number; reason: string } | null = null;
  readonly #socket: WebSocket;
  readonly opened: Promise<boolean>;

  constructor(api: Api, path: string, key: string = api.admin) {
    const joint = path.includes("?") ? "&" : "?";
    this.#socket = new WebSocket(`ws://127.0.0.1:${api.server.port}${path}${joint}access_token=${key}`);
    this.#socket.binaryType = "arraybuffer";
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.opened = promise;
    this.#socket.onopen = () => resolve(true);
    this.#socket.onerror = () => resolve(false);
    this.#socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.frames.push(JSON.parse(data));
      else this.bytes += new TextDecoder().decode(data);
    };
    this.#socket.onclose = ({ code, reason }) => {
      resolve(false);
      this.closed = { code, reason };
    };
  }

  say(frame: unknown): void {
    this.#socket.send(JSON.stringify(frame));
  }

  type(text: string): void {
    this.#socket.send(new TextEncoder().encode(text));
  }

  raw(data: string | Uint8Array<ArrayBuffer>): void {
    this.#socket.send(data);
  }

  of(id: string): Record<string, unknown>[] {
    return this.frames.filter((frame) => frame["id"] === id);
  }

  close(code = 1000): void {
    this.#socket.close(code);
  }

  /** Without a word, as when a network goes away. */
  drop(): void {
    (this.#socket as unknown as { terminate(): void }).terminate();
  }

  [Symbol.dispose](): void {
    this.drop();
  }
}

async function box(api: Api): Promise<string> {
  return String((await api.call("POST", "/v1/sandboxes", {})).body["id"]);
}

test("exec/ws runs many commands at once, each with its own frames", async () => {
  await using api = await Api.start();
  using client = new Client(api, `/v1/sandboxes/${await box(api)}/exec/ws`);
  await client.opened;
  client.say({ id: "a", cmd: "echo one" });
  client.say({ id: "b", cmd: "echo two >&2; exit 3" });
  client.say({ id: 3, cmd: "echo three", encoding: "base64" });
  await until("all have ended", () => client.frames.filter((frame) => "exit" in frame).length === 3);
  expect(client.of("a")).toMatchObject([
    { stream: "stdout", data: "one\n" },
    { exit: 0, signal: null },
  ]);
  expect(client.of("b")).toMatchObject([{ stream: "stderr", data: "two\n" }, { exit: 3 }]);
  expect(client.of("3")).toMatchObject([{ stream: "stdout", data_base64: btoa("three\n") }, { exit: 0 }]);
});

test("exec/ws takes stdin, signals and cancel by the command's id", async () => {
  await using api = await Api.start();
  using client = new Client(api, `/v1/sandboxes/${await box(api)}/exec/ws`);
  await client.opened;
  client.say({ id: "cat", cmd: "cat" });
  client.say({ id: "cat", stdin: "hello " });
  client.say({ id: "cat", stdin: "there" });
  client.say({ id: "cat", stdin: "" });
  await until("cat has ended", () => client.of("cat").some((frame) => "exit" in frame));
  expect(
    client
      .of("cat")
      .map(({ data }) => data ?? "")
      .join(""),
  ).toBe("hello there");
  client.say({ id: "nap", cmd: "sleep 1000" });
  client.say({ id: "nap", signal: "SIGTERM" });
  await until("nap has ended", () => client.of("nap").some((frame) => "exit" in frame));
  expect(client.of("nap").at(-1)).toMatchObject({ exit: 143, signal: "SIGTERM" });
  client.say({ id: "other", cmd: "sleep 1000" });
  client.say({ id: "other", cancel: true });
  await until("the other has ended", () => client.of("other").length > 0);
  expect(client.of("other").at(-1)).toMatchObject({ code: "cancelled" });
});

test("exec/ws says what it does not understand, and goes on", async () => {
  await using api = await Api.start({ settings: { socketCommands: 2 } });
  using client = new Client(api, `/v1/sandboxes/${await box(api)}/exec/ws`);
  await client.opened;
  const bad = [
    "{",
    "[]",
    "null",
    '{"cmd":"a"}',
    '{"id":"x"}',
    '{"id":"x","stdin":"a"}',
    '{"id":"x","cmd":1}',
    '{"id":"x","cmd":"a","nope":1}',
  ];
  for (const text of bad) client.raw(text);
  client.raw(new Uint8Array([1, 2]));
  await until("all are answered", () => client.frames.length === bad.length + 1);
  expect(client.frames.every((frame) => typeof frame["error"] === "string" && typeof frame["code"] === "string")).toBe(
    true,
  );
  for (const id of ["1", "2", "2", "3"]) client.say({ id, cmd: "sleep 1000" });
  await until("two are refused", () => client.of("3").length + client.of("2").length === 2);
  expect([client.of("2")[0]?.["code"], client.of("3")[0]?.["code"]]).toEqual(["already_exists", "queue_full"]);
});

test("exec/ws ends its commands when its client leaves", async () => {
  let [begun, ended] = [0, 0];
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    exec: async (_input, options) =>
      (async function* () {
        begun += 1;
        yield { kind: "started", process: 1, pid: 1 } as const;
        await new Promise<void>((resolve) => options?.signal?.addEventListener("abort", () => resolve()));
        ended += 1;
      })(),
  });
  await using api = await Api.start({ around });
  using client = new Client(api, `/v1/sandboxes/${await box(api)}/exec/ws`);
  await client.opened;
  client.say({ id: "a", cmd: "a" });
  client.say({ id: "b", cmd: "b" });
  await until("both run", () => begun === 2);
  client.drop();
  await until("both have ended", () => ended === 2);
});

test("exec/ws holds up a command whose output nobody takes", async () => {
  let given = 0;
  const bytes = new Uint8Array(64 * 1024).fill(120);
  const around = (host: SandboxHost): SandboxHost => ({
    ...host,
    exec: async () =>
      (async function* () {
        yield { kind: "started", process: 1, pid: 1 } as const;
        for (; given < 2 ** 30; given += bytes.length) yield { kind: "stdout", bytes } as const;
      })(),
  });
  await using api = await Api.start({ around });
  const id = await box(api);
  const { connect } = await import("node:net");
  const socket = connect(api.server.port ?? 0, "127.0.0.1");
  socket.pause();
  socket.write(
    `GET /v1/sandboxes/${id}/exec/ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${api.admin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`,
  );
  const payload = new TextEncoder().encode('{"id":"a","cmd":"yes"}');
  // A masked text frame whose mask is zero.
  socket.write(new Uint8Array([0x81, 0x80 | payload.length, 0, 0, 0, 0, ...payload]));
  let last = -1;
  await until("it stands still", () => {
    const same = given === last && given > 0;
    last = given;
    return same;
  });
  expect(given).toBeLessThan(64 * 1024 * 1024);
  socket.destroy();
});

test("WebSockets are refused before they are opened where there is nothing to open", async () => {
  await using api = await Api.start();
  const id = await box(api);
  for (const path of [
    "/v1/sandboxes/sb_none/exec/ws",
    "/v1/sandboxes/sb_none/exec/pty",
    `/v1/sandboxes/${id}/exec/pty?process=99`,
  ]) {
    using client = new Client(api, path);
    expect(await client.opened).toBe(false);
  }
  using stranger = new Client(api, `/v1/sandboxes/${id}/exec/ws`, "wrn_none");
  expect(await stranger.opened).toBe(false);
  const plain = await api.call("GET", `/v1/sandboxes/${id}/exec/ws`);
  expect(plain).toMatchObject({
    status: 400,
    body: { code: "invalid_request", error: expect.stringContaining("Upgrade") },
  });
});

test("exec/pty is a shell: keystrokes in, output out, its size, and how it ended", async () => {
  await using api = await Api.start();
  const id = await box(api);
  using client = new Client(
    api,
    `/v1/sandboxes/${id}/ssh?rows=10&cols=40&cmd=${encodeURIComponent("stty size; read; stty size; exit 4")}`,
  );
  expect(await client.opened).toBe(true);
  await until("it shows its size", () => client.bytes.includes("10 40"));
  client.say({ resize: { rows: 20, cols: 50 } });
  await until("the size has changed", async () => {
    const { body } = await api.call("GET", `/v1/sandboxes/${id}/processes`);
    return (body as unknown as unknown[]).length === 1;
  });
  client.type("\r");
  await until("it has ended", () => client.closed !== null);
  expect(client.bytes).toContain("20 50");
  expect(client.frames).toMatchObject([{ process: expect.any(Number) }, { exit: 4 }]);
  expect(client.closed?.code).toBe(1000);
});

const running = async (api: Api, id: string): Promise<boolean> => {
  const { body } = await api.call("GET", `/v1/sandboxes/${id}/processes`);
  return (body as unknown as { running: boolean }[]).some((one) => one.running);
};

test("exec/pty ends its shell when it is closed", async () => {
  await using api = await Api.start();
  const id = await box(api);
  using client = new Client(api, `/v1/sandboxes/${id}/exec/pty?cmd=cat`);
  await client.opened;
  await until("it runs", () => client.frames.length === 1);
  client.close();
  await until("the shell has ended", async () => !(await running(api, id)));
});

test("exec/pty keeps the shell of a connection that dropped for a minute, to come back to", async () => {
  const clock = new FakeClock();
  await using api = await Api.start({ world: new World(clock) });
  const id = await box(api);
  const at = `/v1/sandboxes/${id}/exec/pty`;
  const first = new Client(api, `${at}?cmd=cat`);
  await first.opened;
  await until("it runs", () => first.frames.length === 1);
  first.type("before\r");
  await until("it echoes", () => first.bytes.includes("before"));
  first.drop();
  const { process } = first.frames[0] as { process: number };
  await clock.advance(30_000);
  using second = new Client(api, `${at}?process=${process}`);
  await until("it replays", () => second.bytes.includes("before"));
  second.type("after\r");
  await until("it goes on", () => second.bytes.includes("after"));
  await clock.advance(60_000);
  expect(await running(api, id)).toBe(true);
  second.drop();
  await until("the connection is gone, and its minute over", async () => {
    await clock.advance(20_000);
    return !(await running(api, id));
  });
});

const refusingStdin =
  (error: WarrenError) =>
  (host: SandboxHost): SandboxHost => ({ ...host, stdin: () => Promise.reject(error) });
const UNREAD = new WarrenError("wrong_state", "command 1 does not read its stdin");
const CLOSED = new WarrenError("wrong_state", "the command's stdin is closed", { details: { errno: "EPIPE" } });

test("exec/ws ends a command that does not read what it is sent, and says why; one that closed its stdin goes on", async () => {
  await using api = await Api.start({ around: refusingStdin(UNREAD) });
  const id = await box(api);
  using client = new Client(api, `/v1/sandboxes/${id}/exec/ws`);
  await client.opened;
  client.say({ id: "nap", cmd: "sleep 1000" });
  client.say({ id: "nap", stdin: "lost" });
  await until("it is told", () => client.of("nap").length > 0);
  await until("it has ended", async () => !(await running(api, id)));
  client.say({ id: "nap", stdin: "more" });
  await until("it is no more", () => client.of("nap").length === 2);
  expect(client.of("nap")).toMatchObject([
    { code: "wrong_state", error: expect.stringContaining("does not read") },
    { code: "process_not_found" },
  ]);
  await using other = await Api.start({ around: refusingStdin(CLOSED) });
  using quiet = new Client(other, `/v1/sandboxes/${await box(other)}/exec/ws`);
  await quiet.opened;
  quiet.say({ id: "a", cmd: "sleep 1000" });
  quiet.say({ id: "a", stdin: "unread" });
  quiet.say({ id: "a", signal: "SIGTERM" });
  await until("it has ended", () => quiet.of("a").length > 0);
  expect(quiet.of("a")).toMatchObject([{ exit: 143 }]);
});

test("exec/pty is closed with an error when its keys are lost, and its shell kept to come back to", async () => {
  await using api = await Api.start({ around: refusingStdin(UNREAD) });
  const id = await box(api);
  using client = new Client(api, `/v1/sandboxes/${id}/exec/pty?cmd=cat`);
  await client.opened;
  await until("it runs", () => client.frames.length === 1);
  client.type("\u0003");
  await until("it is closed", () => client.closed !== null);
  expect(client.frames[1]).toMatchObject({ code: "wrong_state", error: expect.stringContaining("does not read") });
  expect([client.closed?.code, await running(api, id)]).toEqual([1011, true]);
});

/** An API, and what waits in its sockets. */
async function counted(): Promise<{ readonly api: Api; readonly waiting: Waiting }> {
  let waiting: Waiting | undefined;
  const api = await Api.start({
    edge: (parts) => {
      waiting = parts.waiting;
      return createEdge(parts);
    },
    // It takes what it is given, and reads none of it.
    around: (host) => ({ ...host, stdin: () => new Promise(() => undefined) }),
  });
  if (waiting === undefined) throw new Error("the app counts nothing");
  return { api, waiting };
}

test("WebSockets of an account hold so much of what is not read, and no more, and give it back", async () => {
  const { api, waiting } = await counted();
  await using _ = api;
  using client = new Client(api, `/v1/sandboxes/${await box(api)}/exec/ws`);
  await client.opened;
  client.say({ id: "a", cmd: "sleep 1000" });
  client.say({ id: "a", stdin: "x".repeat(1000) });
  await until("it waits", () => waiting.bytes === 1000 + BOUNDS.waitingPieceBytes);
  const elsewhere = waiting.charge("admin");
  expect(elsewhere.level(BOUNDS.waitingBytesPerAccount - 2500)).toBe(true);
  client.say({ id: "a", stdin: "x".repeat(1000) });
  client.say({ id: "a", stdin: "x".repeat(1000) });
  await until("one is refused", () => client.of("a").length > 0);
  expect(client.of("a")).toMatchObject([{ code: "too_large" }]);
  elsewhere.close();
  client.close();
  await until("all is given back", () => waiting.bytes === 0);
});

test("WebSockets of an account are so many, and one more is refused until one is closed", async () => {
  const { api, waiting } = await counted();
  await using _ = api;
  const id = await box(api);
  const leave = Array.from({ length: BOUNDS.socketsPerAccount - 1 }, () => waiting.open("admin"));
  const path = `/v1/sandboxes/${id}/exec/ws`;
  using first = new Client(api, path);
  expect(await first.opened).toBe(true);
  const headers = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
  };
  for (const of of [path, `/v1/sandboxes/${id}/exec/pty`, `/v1/sandboxes/${id}/proxy/80/`]) {
    expect(await api.call("GET", of, undefined, { headers })).toMatchObject({
      status: 429,
      body: { code: "rate_limited", error: expect.stringContaining("WebSockets") },
    });
  }
  expect(await running(api, id)).toBe(false);
  const key = await api.key("stranger");
  expect((await api.call("GET", "/v1/sandboxes/sb_none/exec/ws", undefined, { headers, key })).status).toBe(404);
  first.close();
  await until("there is room again", async () => {
    using next = new Client(api, path);
    return await next.opened;
  });
  for (const one of leave) one();
});

test("WebSockets are told when the server ends", async () => {
  await using api = await Api.start({ settings: { drainMs: 10 } });
  using client = new Client(api, `/v1/sandboxes/${await box(api)}/exec/ws`);
  await client.opened;
  await api.app.close();
  await until("it is closed", () => client.closed !== null);
  expect(client.frames.at(-1)).toMatchObject({ code: "shutting_down" });
  expect(client.closed?.code).toBe(1001);
  expect(await api.call("GET", "/v1/sandboxes")).toMatchObject({ status: 503, body: { code: "shutting_down" } });
  expect((await api.call("GET", "/healthz")).body).toMatchObject({ status: "ending" });
});
