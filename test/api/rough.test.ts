/** Clients that are broken, hostile or slow, on raw connections: the server answers each with a 4xx or hangs up, and goes on. */
import { expect, test } from "bun:test";
import { connect } from "node:net";
import { Random } from "../fuzz/random.ts";
import { Api } from "./subject.ts";

const REQUESTS = Number(process.env["ROUGH_REQUESTS"] ?? 10_000);
const AT_ONCE = 50;
const ANSWER_MS = 5_000;

/** What comes back until the server hangs up, or until an answer's head is there. */
function answerTo(port: number, bytes: Uint8Array, { end = false } = {}): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
    if (end) socket.end(bytes);
    else socket.write(bytes);
  });
  const done = (): void => {
    socket.destroy();
    resolve(text);
  };
  // What is no whole request gets no answer: the test hangs up then, as clients do.
  socket.setTimeout(end ? ANSWER_MS : 60, done);
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    if (text.includes("\r\n\r\n") && !end) done();
  });
  socket.on("end", done);
  socket.on("error", done);
  return promise;
}

function whole(key: string): string {
  const body = '{"template":"base","metadata":{"a":"b"}}';
  const head = ["POST /v1/sandboxes HTTP/1.1", "Host: 127.0.0.1", `Authorization: Bearer ${key}`];
  return [...head, "Content-Type: application/json", `Content-Length: ${body.length}`, "", body].join("\r\n");
}

/** A request with something wrong in it: bytes changed, lost, doubled, or lines that contradict each other. */
function broken(text: string, random: Random): Uint8Array {
  let bytes = [...Buffer.from(text, "latin1")];
  const at = () => random.below(bytes.length);
  for (let i = 0; i <= random.below(4); i++) {
    const place = at();
    const kind = random.below(6);
    if (kind === 0) bytes[place] = random.below(256);
    else if (kind === 1) bytes = bytes.slice(0, place);
    else if (kind === 2) bytes.splice(place, 1 + random.below(20));
    else if (kind === 3) bytes.splice(place, 0, ...bytes.slice(place, place + random.below(200)));
    else if (kind === 4) bytes.splice(place, 0, 13, 10);
    else bytes.splice(place, 0, ...Buffer.from("\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n"));
    if (bytes.length === 0) bytes = [0];
  }
  return Uint8Array.from(bytes);
}

test(`API survives ${REQUESTS} malformed requests: none is answered as a failure of its own, none leaves memory behind`, async () => {
  await using api = await Api.start({ settings: { createWaitMs: 1000 } });
  const port = api.server.port ?? 0;
  const random = new Random(7);
  const valid = whole("wrn_".padEnd(47, "x")); // nobody's key, so that what happens to be whole makes nothing
  const seen = new Map<string, number>();
  const run = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i += AT_ONCE) {
      const answers = Array.from({ length: AT_ONCE }, () => answerTo(port, broken(valid, random)));
      for (const text of await Promise.all(answers)) {
        const status = /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? "none";
        seen.set(status, (seen.get(status) ?? 0) + 1);
      }
    }
  };
  await run(REQUESTS / 5);
  Bun.gc(true);
  const before = process.memoryUsage().rss;
  await run((REQUESTS / 5) * 4);
  Bun.gc(true);
  // 505 is the runtime's: a version of HTTP that there is none of.
  expect([...seen.keys()].filter((status) => status.startsWith("5") && status !== "505")).toEqual([]);
  expect(seen.get("401") ?? 0).toBeGreaterThan(0); // some are still whole
  expect(seen.get("400") ?? 0).toBeGreaterThan(0);
  expect(process.memoryUsage().rss - before).toBeLessThan(96 * 2 ** 20);
  expect((await api.call("GET", "/v1/sandboxes")).body).toEqual([] as never);
}, 180_000);

test("API answers a client that has closed its half of the connection", async () => {
  await using api = await Api.start();
  const request = whole(api.admin);
  const text = await answerTo(api.server.port ?? 0, Buffer.from(request), { end: true });
  expect(text).toMatch(/^HTTP\/1\.1 (201 |$)/); // made, or the connection was taken for gone and nothing was
  const made = text.startsWith("HTTP/1.1 201");
  const left = await api.engine.as("admin").list({});
  expect(left.length).toBe(made ? 1 : 0);
});

test("API serves others while 300 clients send their requests a byte at a time", async () => {
  await using api = await Api.start();
  const port = api.server.port ?? 0;
  const text = whole(api.admin);
  const sockets = Array.from({ length: 300 }, () => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    return socket;
  });
  for (let at = 0; at < 40; at++) {
    for (const socket of sockets) socket.write(text[at] ?? "");
    expect((await api.call("GET", "/v1/me")).status).toBe(200);
  }
  for (const socket of sockets) socket.destroy();
  expect((await api.call("GET", "/v1/sandboxes")).body).toEqual([] as never);
});
