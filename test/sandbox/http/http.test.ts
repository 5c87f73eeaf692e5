/** HTTP/1.1 over a connection of the handle's own: what servers of this machine understand, and what hostile ones answer. */
import { describe, expect, test } from "bun:test";
import { createServer as createHttp, type IncomingMessage } from "node:http";
import { createServer, type Socket } from "node:net";
import fc from "fast-check";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { WarrenError } from "../../../src/errors.ts";
import { exchangeOver } from "../../../src/sandbox/ports/http/exchange.ts";
import { answerOf } from "../../../src/sandbox/ports/http/response.ts";
import { until } from "../../harness/until.ts";
import { fails, pattern, sha256 } from "../../suites/sandbox/subject.ts";
import { dialTcp } from "./tcp.ts";

const MIB = 1024 * 1024;
const encoder = new TextEncoder();
const host = { dial: dialTcp } as unknown as SandboxHost;

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

async function* given(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) if (piece.length > 0) yield piece;
}

function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.slice(at[i], end));
}

async function read(pieces: readonly Uint8Array[], method = "GET") {
  const { status, statusText, headers, body } = await answerOf(given(pieces), method);
  const bytes = body === null ? null : Buffer.concat(await Array.fromAsync(body)).toString("latin1");
  return { status, statusText, headers: Object.fromEntries(headers), bytes };
}

describe("answerOf", () => {
  const body = fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 5 });

  test("reads the same answer however it is cut and framed", async () => {
    await fc.assert(
      fc.asyncProperty(
        body,
        fc.constantFrom("length", "chunked", "end"),
        fc.array(fc.nat()),
        async (parts, how, places) => {
          const all = Buffer.concat(parts).toString("latin1");
          const chunks = parts.map(
            (part) => `${part.length.toString(16)};a=b\r\n${Buffer.from(part).toString("latin1")}\r\n`,
          );
          const framed = {
            length: `Content-Length: ${all.length}\r\n\r\n${all}`,
            chunked: `Transfer-Encoding: Chunked\r\n\r\n${chunks.join("")}0\r\nx-trailer: 1\r\n\r\n`,
            end: `\r\n${all}`,
          }[how];
          const text = `HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 Fine é\r\nX-Own:  a b \t\r\n${framed}`;
          const got = await read(cut(latin1(text), places));
          expect(got).toMatchObject({ status: 200, statusText: "Fine é", headers: { "x-own": "a b" } });
          expect(got.bytes ?? "").toBe(all);
        },
      ),
    );
  });

  test("takes any bytes as an answer or as an error of the guest's", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 40 })), fc.boolean(), async (parts, begins) => {
        try {
          await read(begins ? [latin1("HTTP/1.1 200 \r\n"), ...parts] : parts);
        } catch (cause) {
          expect(cause).toBeInstanceOf(WarrenError);
          expect((cause as WarrenError).code).toBe("guest_protocol");
        }
      }),
    );
  });

  test("refuses what could be read in two ways, what is too long, and what is cut off", async () => {
    const ok = "HTTP/1.1 200 OK\r\n";
    const wrong = [
      "",
      "SSH-2.0-x\r\n",
      "HTTP/1.1 600 no\r\n\r\n",
      "HTTP/2 200\r\n\r\n",
      "HTTP/1.1 101 Switching\r\n\r\n",
      `${ok}content-length: 1\r\ncontent-length: 2\r\n\r\nab`,
      `${ok}content-length: +1\r\n\r\na`,
      `${ok}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      `${ok}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
      `${ok}no colon\r\n\r\n`,
      `${ok} folded: 1\r\n\r\n`,
      `${ok}bad name: 1\r\n\r\n`,
      `${ok}a: b\0c\r\n\r\n`,
      `${ok}content-length: 5\r\n\r\nabc`,
      `${ok}transfer-encoding: chunked\r\n\r\n3\r\nabc`,
      `${ok}transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n`,
      `${ok}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n`,
      `${ok}transfer-encoding: chunked\r\n\r\nfffffffff\r\n`,
      `${ok}transfer-encoding: chunked\r\n\r\n${"1".repeat(5000)}`,
      `${ok}${"a: b\r\n".repeat(20_000)}\r\n`,
      `${ok}a: ${"b".repeat(70_000)}\r\n\r\n`,
      `${"HTTP/1.1 103 Early\r\n\r\n".repeat(4_000)}`,
    ];
    for (const text of wrong) {
      const error = await fails("guest_protocol", read([latin1(text)]));
      expect({ text: text.slice(0, 60), says: error.message }).toMatchObject({ says: expect.stringContaining("HTTP") });
    }
  });

  test("has no body where there can be none", async () => {
    const head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    expect((await read([latin1(head)], "HEAD")).bytes).toBeNull();
    for (const status of [204, 304])
      expect((await read([latin1(`HTTP/1.1 ${status} x\r\ncontent-length: 5\r\n\r\n`)])).bytes).toBeNull();
  });
});

async function listening(server: { listen(port: number, host: string, done: () => void): unknown }): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = (server as unknown as { address(): { port: number } }).address();
  return address.port;
}

function streamOf(pieces: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
  });
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(request as AsyncIterable<Buffer>));
}

describe("exchangeOver", () => {
  test("is understood by a server: methods, headers, bodies of every kind", async () => {
    const server = createHttp((request, response) => {
      void bodyOf(request).then((body) => {
        const { method, url, headers } = request;
        response.setHeader("set-cookie", ["a=1", "b=2"]);
        response.end(JSON.stringify({ method, url, headers, size: body.length, sha: sha256(body) }));
      });
    });
    const port = await listening(server);
    const target = { host, id: "sb_1", port };
    const url = new URL(`http://localhost:${port}/a%20b?c=d#e`);
    const large = pattern(2 * MIB + 1);
    async function* pieces() {
      for (let at = 0; at < large.length; at += 99_991) yield large.subarray(at, at + 99_991);
    }
    const form = new FormData();
    form.append("file", new Blob(["x"]), "x.txt");
    const kinds: [string, RequestInit, Record<string, unknown>][] = [
      ["none", {}, { method: "GET", size: 0 }],
      ["text", { method: "post", body: "grüße" }, { method: "POST", size: 7 }],
      ["bytes", { method: "PUT", body: large.slice() }, { size: large.length, sha: sha256(large) }],
      ["stream", { method: "PUT", body: streamOf(pieces()) }, { size: large.length, sha: sha256(large) }],
      ["pieces", { method: "PUT", body: pieces() as unknown as string }, { size: large.length, sha: sha256(large) }],
      ["form", { method: "POST", body: new URLSearchParams({ a: "b c" }) }, { size: 5 }],
      ["empty", { method: "POST" }, { size: 0 }],
    ];
    for (const [kind, init, wanted] of kinds) {
      const { response } = await exchangeOver(target, url, init);
      const said = (await response.json()) as { headers: Record<string, string> };
      expect({ kind, said }).toMatchObject({ kind, said: { url: "/a%20b?c=d", ...wanted } });
      expect(said.headers["host"]).toBe(`localhost:${port}`);
      expect(response.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
    }
    const multipart = await exchangeOver(target, url, { method: "POST", body: form });
    const { headers } = (await multipart.response.json()) as { headers: Record<string, string> };
    expect(headers["content-type"]).toStartWith("multipart/form-data; boundary=");
    const own = { "x-own": "1", host: "evil.test", "content-length": "99", "transfer-encoding": "gzip" };
    const { response } = await exchangeOver(target, url, { method: "POST", body: "abc", headers: own });
    expect(await response.json()).toMatchObject({
      size: 3,
      headers: { "x-own": "1", host: `localhost:${port}`, "content-length": "3" },
    });
    await fails("invalid_request", exchangeOver(target, url, { method: "GET /other HTTP/1.1\r\nx:" }));
    await fails("wrong_state", exchangeOver({ ...target, port: 1 }, url, {}));
    server.close();
  });

  test("reads no faster than its reader, and ends the connection when it is left or aborted", async () => {
    const sockets = new Set<Socket>();
    let sent = 0;
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => sockets.delete(socket));
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        const piece = new Uint8Array(65_536);
        const more = () => {
          do sent += piece.length;
          while (!socket.destroyed && socket.write(piece));
          socket.once("drain", more);
        };
        more();
      });
    });
    const port = await listening(server);
    const url = new URL(`http://localhost:${port}/`);
    const { response } = await exchangeOver({ host, id: "sb_1", port }, url, {});
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    let before = -1;
    await until("nothing more is sent", () => {
      const same = before === sent;
      before = sent;
      return same;
    });
    expect(sent).toBeLessThan(32 * MIB);
    await reader.cancel();
    await until("it is closed", () => sockets.size === 0);
    const abort = new AbortController();
    const again = await exchangeOver({ host, id: "sb_1", port }, url, { signal: abort.signal });
    const reading = again.response.bytes();
    abort.abort();
    await expect(reading).rejects.toThrow();
    await until("it is closed too", () => sockets.size === 0);
    server.close();
  });

  test("answers before its body is sent, when the server does", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      socket.once("data", () => socket.end("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"));
    });
    const port = await listening(server);
    async function* endless() {
      for (;;) {
        await Promise.resolve();
        yield encoder.encode("x".repeat(1000));
      }
    }
    const init = { method: "POST", body: endless() as unknown as string };
    const { response } = await exchangeOver({ host, id: "sb_1", port }, new URL(`http://localhost:${port}/`), init);
    expect([response.status, await response.text()]).toEqual([413, "no"]);
    server.close();
  });
});
