/** HTTP and WebSockets to ports, as the handle has them, over the real agent; the servers are of this machine, some of them hostile. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { WarrenError } from "../../src/errors.ts";
import { openDoorway } from "../../src/sandbox/ports/doorway.ts";
import { HeadGuard } from "../../src/sandbox/ports/head-guard.ts";
import { BUILD_MS, binaries } from "../guest/process.ts";
import { gate } from "../harness/gates.ts";
import { until } from "../harness/until.ts";
import { fails } from "../suites/sandbox/subject.ts";
import { type Near, near } from "./near.ts";

const MIB = 1024 * 1024;
/** Where clouds tell their machines secrets. */
const METADATA = "169.254.169.254";

interface Raw extends Disposable {
  readonly port: number;
  readonly sockets: Set<Socket>;
  /** All that came, as text. */
  readonly heard: () => string;
}

/** A server that answers each connection's first bytes with `answer`, whatever they are. */
async function raw(answer: (socket: Socket) => void): Promise<Raw> {
  const sockets = new Set<Socket>();
  let heard = "";
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    socket.once("data", () => answer(socket));
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
    });
    socket.on("end", () => socket.end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const stop = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { port, sockets, heard: () => heard, [Symbol.dispose]: stop };
}

/** Doors of this process, by the kernel's table; other processes of the machine may have some too. */
async function doors(): Promise<number> {
  const own = new Set(readdirSync("/proc/self/fd").map(socketOf));
  const table = (await Bun.file("/proc/net/unix").text()).split("\n");
  return table.filter((line) => line.includes("@warren-door-") && own.has(line.split(/\s+/)[6] ?? "")).length;
}

/** The inode of a socket; empty for what is none. */
function socketOf(fd: string): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? "";
  } catch {
    return ""; // closed since it was listed
  }
}

if (gate("gcc")) {
  beforeAll(() => binaries(), BUILD_MS);

  describe("fetch", () => {
    let it: Near;
    beforeAll(async () => {
      it = await near();
    }, BUILD_MS);
    afterAll(async () => {
      await until("no connection is left open", () => it.open() === 0);
      await until("no door is left open", async () => (await doors()) === 0);
      await it[Symbol.asyncDispose]();
    });

    test("fetch has a door open while it waits, and none after", async () => {
      using silent = await raw(() => undefined);
      const abort = new AbortController();
      const waiting = it.sandbox.fetch(silent.port, "/", { signal: abort.signal });
      await until("the request is there", () => silent.heard() !== "");
      expect(await doors()).toBe(1);
      abort.abort(new Error("enough"));
      await expect(waiting).rejects.toThrow("enough");
      await until("the door is shut", async () => (await doors()) === 0);
    });

    test("fetch sends the request as it is, without the door's secret, to the port by its own name", async () => {
      using server = await raw((socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
      const response = await it.sandbox.fetch(server.port, "/a%20path?q=1", { headers: { "x-own": "1" } });
      expect(await response.text()).toBe("ok");
      const lines = server.heard().split("\r\n");
      expect(lines[0]).toBe("GET /a%20path?q=1 HTTP/1.1");
      const headers = lines.slice(1).map((line) => line.toLowerCase());
      expect(headers).toContain(`host: localhost:${server.port}`);
      expect(headers).toContain("x-own: 1");
      expect(headers).toContain("connection: close");
    });

    test("fetch goes to the port whatever host a URL names", async () => {
      using server = await raw((socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
      const response = await it.sandbox.fetch(server.port, "http://example.com/there");
      expect([response.url, response.status]).toEqual([`http://localhost:${server.port}/there`, 200]);
      expect(server.heard()).toStartWith("GET /there HTTP/1.1\r\n");
    });

    test("fetch makes the server wait when nobody reads the body", async () => {
      let sent = 0;
      using server = await raw((socket) => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${256 * MIB}\r\n\r\n`);
        const chunk = new Uint8Array(MIB / 4);
        const more = () => {
          while (sent < 256 * MIB) {
            sent += chunk.length;
            if (!socket.write(chunk)) return;
          }
        };
        socket.on("drain", more);
        more();
      });
      const response = await it.sandbox.fetch(server.port, "/");
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      await reader.read();
      for (let i = 0; i < 50; i++) await it.agent.ping();
      expect(sent).toBeLessThan(32 * MIB);
      await reader.cancel();
      await until("the server has lost it", () => server.sockets.size === 0);
    });

    for (const [what, first, again] of [
      ["one header without an end", "HTTP/1.1 200 OK\r\nA: ", "y".repeat(1000)],
      ["no line at all", "", "x".repeat(1000)],
      ["interim answers without an end", "", "HTTP/1.1 100 Continue\r\n\r\n"],
    ] as const) {
      test(`fetch gives up on ${what}`, async () => {
        using server = await raw((socket) => {
          socket.write(first);
          const more = () => {
            while (!socket.destroyed && socket.write(again));
          };
          socket.on("drain", more);
          more();
        });
        const error = await fails("guest_protocol", it.sandbox.fetch(server.port, "/"));
        expect(error.message).toContain(`port ${server.port}`);
        await until("the server has lost it", () => server.sockets.size === 0);
      });
    }

    test("fetch says so when what listens speaks no HTTP, hangs up or resets", async () => {
      for (const answer of [
        "SSH-2.0-nothing\r\n\r\n",
        "HTTP/1.1 999999 What\r\n\r\n",
        "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        "",
      ]) {
        using server = await raw((socket) => socket.end(answer));
        await fails("guest_protocol", it.sandbox.fetch(server.port, "/"));
      }
      using reset = await raw((socket) => socket.resetAndDestroy());
      const error = await fails("wrong_state", it.sandbox.fetch(reset.port, "/"));
      expect(error.message).toContain("reset the connection");
    });

    test("fetch fails in the body when the connection breaks there", async () => {
      using server = await raw((socket) => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome", () => {
          socket.on("data", () => undefined);
          void until("it has been seen", () => isSeen).then(() => socket.resetAndDestroy());
        });
      });
      let isSeen = false;
      const response = await it.sandbox.fetch(server.port, "/");
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      expect(new TextDecoder().decode((await reader.read()).value)).toBe("some");
      isSeen = true;
      await fails("wrong_state", reader.read());
    });

    test("fetch hands a compressed body on as it is, and asks for none", async () => {
      const body = Bun.gzipSync(new Uint8Array(MIB));
      using server = await raw((socket) => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${body.length}\r\n\r\n`);
        socket.end(body);
      });
      const response = await it.sandbox.fetch(server.port, "/");
      expect((await response.bytes()).length).toBe(body.length);
      expect(server.heard().toLowerCase()).toContain("accept-encoding: identity");
    });

    test("fetch ends with its signal's reason: before it began, while it waits, in the body", async () => {
      await expect(it.sandbox.fetch(1, "/", { signal: AbortSignal.abort(new Error("never")) })).rejects.toThrow(
        "never",
      );
      using silent = await raw(() => undefined);
      const abort = new AbortController();
      const waiting = it.sandbox.fetch(silent.port, "/", { signal: abort.signal });
      await until("the request is there", () => silent.heard() !== "");
      abort.abort(new Error("enough"));
      await expect(waiting).rejects.toThrow("enough");
      await until("the server has lost it", () => silent.sockets.size === 0);
    });

    test("fetch follows a redirect with its body when that can be sent again, and with GET after 303", async () => {
      let n = 0;
      using server = await raw((socket) => {
        n += 1;
        const status = n === 1 ? "307 T" : n === 2 ? "303 S" : "200 OK";
        socket.end(`HTTP/1.1 ${status}\r\nLocation: /next${n}\r\nContent-Length: 0\r\n\r\n`);
      });
      const response = await it.sandbox.fetch(server.port, "/", { method: "POST", body: "again" });
      expect([response.status, response.redirected]).toEqual([200, true]);
      expect(server.heard().match(/(GET|POST) \/\S*/g)).toEqual(["POST /", "POST /next1", "GET /next2"]);
      expect(server.heard().match(/again/g)).toHaveLength(2);
    });

    test("fetch gives up a redirect without an end, and never connects outside", async () => {
      using loop = await raw((socket) => socket.end("HTTP/1.1 302 F\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"));
      const response = await it.sandbox.fetch(loop.port, "/");
      expect(response.status).toBe(302);
      expect(loop.heard().match(/^GET/gm)).toHaveLength(21);
      for (const location of [
        `http://${METADATA}/`,
        "https://localhost/",
        "//example.com/",
        "file:///etc/passwd",
        "http://localhost.example/",
      ]) {
        using out = await raw((socket) =>
          socket.end(`HTTP/1.1 302 F\r\nLocation: ${location}\r\nContent-Length: 0\r\n\r\n`),
        );
        const handed = await it.sandbox.fetch(out.port, "/");
        expect([handed.status, handed.headers.get("location")]).toEqual([302, location]);
      }
    });

    test("websocket that is refused says so by its events, and nothing stays", async () => {
      using server = await raw((socket) => socket.end("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"));
      const socket = await it.sandbox.websocket(server.port, "/chat?x=1", {
        protocols: "v1",
        headers: { "x-own": "1" },
      });
      const code = await new Promise<number>((resolve) => {
        socket.onclose = (event) => resolve(event.code);
      });
      expect(code).toBe(1006);
      expect(server.heard()).toStartWith("GET /chat?x=1 HTTP/1.1\r\n");
      expect(server.heard().toLowerCase()).toContain(`host: localhost:${server.port}\r\n`);
      expect(server.heard().toLowerCase()).toContain("sec-websocket-protocol: v1\r\n");
    });
  });
}

test("A doorway turns away whoever has not its secret, and is shut behind the one that has", async () => {
  for (const kind of ["tcp", "unix"] as const) {
    using door = openDoorway(kind);
    const connected = async (text: string) => {
      let closed = false;
      const socket = {
        open: (s: Bun.Socket) => void s.write(text),
        data: () => undefined,
        close: () => (closed = true),
        error: () => (closed = true),
      };
      const at =
        "unix" in door.at ? { unix: door.at.unix, socket } : { hostname: "127.0.0.1", port: door.at.port, socket };
      await Bun.connect(at as never);
      return () => closed;
    };
    const rest = "x".repeat(200);
    const wrong = await Promise.all(
      [
        `GET /${"a".repeat(32)}/ ${rest}`,
        `GET ${door.prefix.slice(0, -1)}?/ ${rest}`,
        `${door.prefix}/ ${rest}`,
        `\r\n${rest}`,
      ].map(connected),
    );
    await until("all of them are turned away", () => wrong.every((closed) => closed()));
    const silent = await connected("GET /");
    await connected(`PATCH ${door.prefix}/in HTTP/1.1\r\n${rest}`);
    const end = await door.entered;
    const first = await end[Symbol.asyncIterator]().next();
    expect(new TextDecoder().decode(first.value as Uint8Array)).toBe(`PATCH /in HTTP/1.1\r\n${rest}`);
    await until("whoever waited outside is turned away", silent);
    await expect(connected(`GET ${door.prefix}/again HTTP/1.1\r\n${rest}`)).rejects.toThrow();
    end.terminate();
  }
});

test("HeadGuard lets a body be as long as it likes, and counts no byte of it", () => {
  const guard = new HeadGuard(1);
  const take = (text: string) => guard.take(new TextEncoder().encode(text));
  take("HTTP/1.1 103 Early\r\nLink: x\r\n\r\n");
  take("HTTP/1.1 200 OK\r\nA: b\r\n\r");
  take(`\n${"body".repeat(100_000)}`);
  const again = new HeadGuard(1);
  expect(() => again.take(new Uint8Array(70_000).fill(0x41))).toThrow(WarrenError);
});
