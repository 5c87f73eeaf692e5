/** The proxy over the real agent, as a process of this machine: what is left early is left in the guest too. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEdge } from "../../../src/api/edge/index.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import { WarrenError } from "../../../src/errors.ts";
import { BUILD_MS, binaries, connectAgent } from "../../guest/process.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";
import { answering, type Program, program } from "./programs.ts";

const MIB = 1024 * 1024;

/** The host with the agent's ports in the place of its sandboxes'. */
function through(host: SandboxHost, agent: Awaited<ReturnType<typeof connectAgent>>["agent"]): SandboxHost {
  return {
    ...host,
    ports: () => agent.ports(),
    dial: async ({ body, ...target }, { signal } = {}) => {
      const stream = agent.dial(target, body, signal);
      await stream.next().catch((cause: WarrenError) => {
        // As the engine says it.
        throw new WarrenError(cause.code, cause.message, { details: { ...cause.details, listening: [] } });
      });
      return { [Symbol.asyncIterator]: () => stream };
    },
  };
}

if (gate("gcc")) {
  beforeAll(() => binaries(), BUILD_MS);

  describe("Proxy over the real agent", () => {
    let it: Awaited<ReturnType<typeof connectAgent>>;
    let api: Api;
    let id: string;
    beforeAll(async () => {
      it = await connectAgent();
      api = await Api.start({ edge: createEdge, around: (host) => through(host, it.agent) });
      id = ((await api.call("POST", "/v1/sandboxes", {})).body as unknown as { id: string }).id;
    }, BUILD_MS);
    afterAll(async () => {
      await api[Symbol.asyncDispose]();
      await it[Symbol.asyncDispose]();
    });
    const at = ({ port }: Program, path = "/") => `/v1/sandboxes/${id}/proxy/${port}${path}`;

    test("answers, refuses, and moves bodies both ways exactly", async () => {
      using hello = await answering("200 OK", [], "hello");
      expect(await (await api.raw("GET", at(hello))).text()).toBe("hello");
      hello[Symbol.dispose]();
      await until("it is closed", async () => (await api.raw("GET", at(hello))).status === 502);
      const large = new Uint8Array(4 * MIB).map((_, i) => (i * 31) ^ (i >> 8));
      const digest = (bytes: Uint8Array | Buffer) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
      using back = await program((socket, first) => {
        const parts: Uint8Array[] = [Buffer.from(first.slice(first.indexOf("\r\n\r\n") + 4), "latin1")];
        const done = () => {
          const body = Buffer.concat(parts);
          if (body.length < large.length) return;
          socket.end(Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body]));
        };
        socket.on("data", (chunk: Uint8Array) => {
          parts.push(chunk);
          done();
        });
        done();
      });
      const response = await api.raw("POST", at(back), { body: large });
      expect(digest(await response.bytes())).toBe(digest(large));
    });

    test("a client that leaves ends the program's connection, in the answer's body and before it", async () => {
      for (const begin of ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome"]) {
        using silent = await program((socket) => socket.write(begin));
        const abort = new AbortController();
        const waiting = api.raw("GET", at(silent), { signal: abort.signal }).then((response) => response.text());
        await until("it is asked", () => silent.heard() !== "");
        abort.abort(new Error("enough"));
        await expect(waiting).rejects.toThrow();
        await until("the program has lost it", () => silent.sockets.size === 0);
      }
    });

    test("many exchanges at a time", async () => {
      using slow = await program((socket) => {
        const look = () => {
          if (slow.sockets.size >= 250) for (const one of slow.sockets) one.end("HTTP/1.1 200 OK\r\n\r\nok");
          else if (!socket.destroyed) setImmediate(look);
        };
        look();
      });
      const all = await Promise.all(Array.from({ length: 250 }, async () => (await api.raw("GET", at(slow))).text()));
      expect(new Set(all)).toEqual(new Set(["ok"]));
    });

    test("a WebSocket, closed by either side, leaves no connection", async () => {
      using server = Bun.serve({
        ...{ hostname: "127.0.0.1", port: 0 },
        fetch: (request, own) => (own.upgrade(request) ? undefined : new Response("no")),
        websocket: {
          message: (socket, message) => {
            if (message === "bye") socket.close(4000, "as you say");
            else socket.send(message);
          },
        },
      });
      const url = `${api.url.replace("http", "ws")}/v1/sandboxes/${id}/proxy/${server.port}/?access_token=${api.admin}`;
      for (const last of ["bye", null]) {
        const socket = new WebSocket(url);
        const heard: unknown[] = [];
        const closed = Promise.withResolvers<number>();
        socket.onmessage = ({ data }) => heard.push(data);
        socket.onclose = ({ code }) => closed.resolve(code);
        await until("it is open", () => socket.readyState === WebSocket.OPEN);
        socket.send("one");
        socket.send("x".repeat(100_000));
        await until("both are back", () => heard.length === 2);
        expect(heard).toEqual(["one", "x".repeat(100_000)]);
        if (last === null) socket.close(1000);
        else socket.send(last);
        expect(await closed.promise).toBe(last === null ? 1000 : 4000);
        await until("the server has lost it", () => server.pendingWebSockets === 0);
      }
    });
  });
}
