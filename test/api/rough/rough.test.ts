/** Clients that are broken, hostile or slow, on raw connections: the server answers each with a 4xx or hangs up, and goes on. */
import { expect, test } from "bun:test";
import { connect } from "node:net";
import { Random } from "../../fuzz/random.ts";
import { Api } from "../subject.ts";
import { answerTo, broken, whole } from "./client.ts";

const REQUESTS = Number(process.env["ROUGH_REQUESTS"] ?? 10_000);
const AT_ONCE = 50;
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
  await api.call("GET", "/v1/me"); // what comes then is refused as a whole when its key is nobody's; one that is known is not
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
