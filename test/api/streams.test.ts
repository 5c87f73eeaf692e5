/** What is told piece by piece: events, uploads, downloads; no faster than it is taken, and over when somebody leaves. */
import { expect, test } from "bun:test";
import { connect } from "node:net";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { WarrenError } from "../../src/errors.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";
import { until } from "../harness/until.ts";
import { Api } from "./subject.ts";

type Around = (host: SandboxHost) => SandboxHost;
const STARTED = { kind: "started", process: 1, pid: 2 } as const;
const out = (text: string) => ({ kind: "stdout", bytes: new TextEncoder().encode(text) }) as const;
const EXIT = {
  kind: "exit",
  exitCode: 0,
  signal: null,
  timedOut: false,
  stdoutTruncated: false,
  stderrTruncated: false,
  durationMs: 1,
} as const;

async function box(api: Api): Promise<string> {
  return String((await api.call("POST", "/v1/sandboxes", {})).body["id"]);
}

test("Streams: events have the shape that clients read, and characters are never cut", async () => {
  const [first, second] = [new Uint8Array([0xe2, 0x82]), new Uint8Array([0xac])];
  const around: Around = (host) => ({
    ...host,
    exec: async () =>
      (async function* () {
        yield STARTED;
        yield { kind: "stdout", bytes: first } as const;
        yield { kind: "stdout", bytes: second } as const;
        yield EXIT;
      })(),
  });
  await using api = await Api.start({ around });
  const response = await api.raw("POST", "/v1/sandboxes/x/exec/stream", { body: '{"cmd":"a"}' });
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(await response.text()).toBe(
    'event: started\ndata: {"process":1,"pid":2}\n\n' +
      'event: stdout\ndata: {"chunk":"€"}\n\n' +
      'event: exit\ndata: {"exit_code":0,"signal":null,"duration_ms":1,"stdout_truncated":false,"stderr_truncated":false}\n\n',
  );
});

test("Streams: a failure before the first event has its own status, and one after it is an event", async () => {
  const lost = new WarrenError("sandbox_lost", "it ended");
  const around: Around = (host) => ({
    ...host,
    exec: async ({ cmd }) =>
      (async function* () {
        if (cmd === "late") yield STARTED;
        throw lost;
      })(),
  });
  await using api = await Api.start({ around });
  const early = await api.call("POST", "/v1/sandboxes/x/exec/stream", { cmd: "early" });
  expect(early).toMatchObject({ status: 409, body: { code: "sandbox_lost" } });
  const late = await api.raw("POST", "/v1/sandboxes/x/exec/stream", { body: '{"cmd":"late"}' });
  expect(late.status).toBe(200);
  expect(await late.text()).toMatch(
    /event: error\ndata: \{"error":"it ended","code":"sandbox_lost","request_id":"req_\w+"\}\n\n$/,
  );
});

test("Streams: a reader that stops holds up the source, and one that leaves ends it", async () => {
  let [given, ended] = [0, false];
  const chunk = out("x".repeat(64 * 1024));
  const around: Around = (host) => ({
    ...host,
    exec: async (_input, options) =>
      (async function* () {
        try {
          yield STARTED;
          for (;;) {
            given += chunk.bytes.length;
            yield chunk;
          }
        } finally {
          ended = options?.signal?.aborted === true;
        }
      })(),
  });
  await using api = await Api.start({ around });
  const socket = connect(api.server.port ?? 0, "127.0.0.1");
  socket.pause();
  const body = '{"cmd":"yes"}';
  socket.write(
    `POST /v1/sandboxes/x/exec/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${api.admin}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  let last = -1;
  // It stands still once the buffers between are full: twice the same.
  await until("the source stands still", () => {
    const same = given === last && given > 0;
    last = given;
    return same;
  });
  const stoodAt = given;
  expect(stoodAt).toBeLessThan(64 * 1024 * 1024);
  expect(ended).toBe(false);
  socket.destroy();
  await until("the source was ended", () => ended);
});

test("Streams: leaving one ends the command, even while it says nothing", async () => {
  let aborted = false;
  const around: Around = (host) => ({
    ...host,
    exec: async (_input, options) =>
      (async function* () {
        yield STARTED;
        await new Promise<void>((resolve) => options?.signal?.addEventListener("abort", () => resolve()));
        aborted = true;
      })(),
  });
  await using api = await Api.start({ around });
  const leave = new AbortController();
  const response = await api.raw("POST", "/v1/sandboxes/x/exec/stream", { body: '{"cmd":"a"}', signal: leave.signal });
  expect(response.status).toBe(200);
  leave.abort();
  await until("the command was ended", () => aborted);
});

test("Streams: an idle one is kept open by comments, and begins before it says anything", async () => {
  const clock = new FakeClock();
  const around: Around = (host) => ({
    ...host,
    attach: async () =>
      (async function* () {
        await new Promise(() => undefined);
        yield STARTED;
      })(),
  });
  await using api = await Api.start({ around, world: new World(clock) });
  const leave = new AbortController();
  const asked = api.raw("GET", "/v1/sandboxes/x/processes/1", { signal: leave.signal });
  await until("it is asked for", async () => {
    await clock.advance(500);
    return api.store.calls.get("keyByHash") === 1;
  });
  let answered = false;
  void asked.then(() => (answered = true));
  await until("it begins", async () => {
    await clock.advance(500);
    return answered;
  });
  const reader = (await asked).body?.getReader();
  expect(new TextDecoder().decode((await reader?.read())?.value)).toStartWith(": ping\n\n");
  const next = reader?.read();
  await clock.advance(15_000);
  expect(new TextDecoder().decode((await next)?.value)).toStartWith(": ping\n\n");
  leave.abort();
  await next?.catch(() => undefined); // cut off, as was asked for
});

test("Streams: HEAD of a file says what GET would, and reads nothing", async () => {
  const reads: string[] = [];
  const around: Around = (host) => ({
    ...host,
    readFile: (input, options) => {
      reads.push(input.path);
      return host.readFile(input, options);
    },
  });
  await using api = await Api.start({ around });
  const at = `/v1/sandboxes/${await box(api)}/fs`;
  const file = `${at}?path=/tmp/a`;
  await api.raw("PUT", file, { body: "0123456789" });
  const headers = (response: Response) =>
    ["content-length", "content-range", "content-type", "content-disposition"].map((name) =>
      response.headers.get(name),
    );
  for (const [path, range] of [
    [file, null],
    [file, "bytes=2-4"],
    [`${file}&offset=3`, null],
    [`${file}&offset=3&length=2`, "bytes=0-0"],
  ] as const) {
    const asked = range === null ? {} : { headers: { range } };
    const head = await api.raw("HEAD", path, asked);
    expect([await head.text(), reads.length]).toEqual(["", 0]);
    const get = await api.raw("GET", path, asked);
    const [length, ...rest] = headers(head);
    expect([head.status, length]).toEqual([get.status, String((await get.bytes()).length)]);
    expect(rest).toEqual(headers(get).slice(1));
    reads.length = 0;
  }
  expect((await api.raw("HEAD", file, { headers: { range: "bytes=10-" } })).status).toBe(416);
  for (const path of ["/tmp/missing", "/tmp"])
    expect((await api.raw("HEAD", `${at}?path=${path}`)).status).toBe(
      (await api.raw("GET", `${at}?path=${path}`)).status,
    );
  expect((await api.raw("HEAD", file, { key: null })).status).toBe(401);
});

test("Streams: a file goes in and comes out, whole and in ranges, and is never a page of this server's", async () => {
  await using api = await Api.start();
  const path = `/v1/sandboxes/${await box(api)}/fs?path=/work/a`;
  const written = await api.call("PUT", path, undefined, { body: "0123456789" });
  expect(written.body).toMatchObject({ path: "/work/a", bytes: 10, size: 10 });
  const get = async (range?: string) => {
    const response = await api.raw("GET", path, range === undefined ? {} : { headers: { range } });
    return [response.status, await response.text(), response.headers.get("content-range")];
  };
  expect(await get()).toEqual([200, "0123456789", null]);
  expect(await get("bytes=2-4")).toEqual([206, "234", "bytes 2-4/10"]);
  expect(await get("bytes=7-")).toEqual([206, "789", "bytes 7-9/10"]);
  expect(await get("bytes=-3")).toEqual([206, "789", "bytes 7-9/10"]);
  expect(await get("bytes=0-99")).toEqual([206, "0123456789", "bytes 0-9/10"]);
  expect(await get("bytes=1-2,4-5")).toEqual([200, "0123456789", null]);
  expect(await get("bytes=5-2")).toEqual([200, "0123456789", null]);
  expect((await get("bytes=10-"))[0]).toBe(416);
  expect((await get("bytes=10-"))[2]).toBe("bytes */10");
  const explicit = await api.raw("GET", `${path}&offset=3&length=2`);
  expect([explicit.status, await explicit.text()]).toEqual([200, "34"]);
  const { headers } = explicit;
  expect(headers.get("content-disposition")).toBe("attachment");
  expect(headers.get("content-security-policy")).toBe("sandbox");
  expect(headers.get("x-content-type-options")).toBe("nosniff");
  const missing = await api.call("GET", path.replace("/work/a", "/work/none"));
  expect(missing).toMatchObject({ status: 404, body: { code: "file_not_found" } });
});

test("Streams: an upload is passed on as it comes, held up by who takes it, and fails when its client breaks off", async () => {
  let [took, failure] = [0, ""];
  let go = Promise.withResolvers<void>();
  const around: Around = (host) => ({
    ...host,
    async writeFile({ body }) {
      try {
        for await (const chunk of body as AsyncIterable<Uint8Array>) {
          took += chunk.length;
          await go.promise;
        }
      } catch (cause) {
        failure = (cause as WarrenError).code;
        throw cause;
      }
      throw new WarrenError("file_error", "not in this test");
    },
  });
  await using api = await Api.start({ around });
  const socket = connect(api.server.port ?? 0, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write(
    `PUT /v1/sandboxes/x/fs?path=/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${api.admin}\r\nContent-Length: 100000000\r\n\r\n`,
  );
  let sent = 0;
  const piece = Buffer.alloc(1024 * 1024);
  const pump = (): void => {
    while (sent < 90_000_000 && !socket.destroyed) {
      sent += piece.length;
      if (!socket.write(piece)) return void socket.once("drain", pump);
    }
  };
  pump();
  let last = -1;
  await until("the client is held up", () => {
    const same = sent === last && took > 0;
    last = sent;
    return same;
  });
  expect(sent).toBeLessThan(60_000_000);
  expect(took).toBeLessThan(4_000_000);
  socket.destroy();
  go.resolve();
  go = Promise.withResolvers();
  go.resolve();
  await until("the upload failed", () => failure !== "");
  expect(failure).toBe("cancelled");
});
