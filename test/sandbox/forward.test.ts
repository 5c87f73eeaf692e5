/** Forwarded ports and plain connections over the real agent: ends, resets and backpressure pass through in both directions. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect, createServer, type Socket } from "node:net";
import { isWarrenError } from "../../src/errors.ts";
import { BUILD_MS, binaries } from "../guest/process.ts";
import { gate } from "../harness/gates.ts";
import { until } from "../harness/until.ts";
import { pattern, sha256 } from "../suites/sandbox/subject.ts";
import { type Near, near } from "./near.ts";

const MIB = 1024 * 1024;
const TEST_MS = 60_000;

interface Serving extends Disposable {
  readonly port: number;
  readonly sockets: Set<Socket>;
}

async function serve(onConnection: (socket: Socket) => void): Promise<Serving> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const stop = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port: typeof address === "object" && address !== null ? address.port : 0, sockets, [Symbol.dispose]: stop };
}

/** A client of a forwarded port, with all that it hears. */
class Client {
  readonly socket: Socket;
  readonly parts: Buffer[] = [];
  isEnded = false;
  isClosed = false;
  error: string | null = null;

  constructor(port: number) {
    this.socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    this.socket.on("data", (chunk) => this.parts.push(Buffer.from(chunk)));
    this.socket.on("end", () => (this.isEnded = true));
    this.socket.on("close", () => (this.isClosed = true));
    this.socket.on("error", (error) => (this.error = "code" in error ? String(error.code) : error.message));
  }

  get text(): string {
    return Buffer.concat(this.parts).toString();
  }
}

if (gate("gcc")) {
  beforeAll(() => binaries(), BUILD_MS);

  describe("forward", () => {
    let it: Near;
    beforeAll(async () => {
      it = await near();
    }, BUILD_MS);
    afterAll(async () => {
      await until("no connection is left open", () => it.open() === 0);
      await it[Symbol.asyncDispose]();
    });

    test("forward passes on each direction's end by itself", async () => {
      let heard = "";
      using server = await serve((socket) => {
        socket.on("data", (chunk) => (heard += chunk.toString()));
        socket.on("end", () => socket.end("answer"));
      });
      using forward = it.sandbox.forward(server.port);
      const asking = new Client(forward.port);
      asking.socket.end("question");
      await until("the answer and the end are there", () => asking.isEnded && asking.isClosed);
      expect([heard, asking.text, asking.error]).toEqual(["question", "answer", null]);
      await until("the server is rid of it", () => server.sockets.size === 0);
    });

    test("forward goes on taking from the client after the server has ended its direction", async () => {
      let heard = "";
      let isOver = false;
      using server = await serve((socket) => {
        socket.end("first");
        socket.on("data", (chunk) => (heard += chunk.toString()));
        socket.on("end", () => (isOver = true));
      });
      using forward = it.sandbox.forward(server.port);
      const client = new Client(forward.port);
      await until("the server's end is there", () => client.isEnded);
      expect(client.text).toBe("first");
      client.socket.end(Buffer.alloc(3 * MIB, "z"));
      await until("the server has all of it, and the end", () => isOver);
      expect(heard.length).toBe(3 * MIB);
    });

    test("forward passes a reset on, from either side", async () => {
      const ends: string[] = [];
      using server = await serve((socket) => {
        socket.on("error", (error) => ends.push("code" in error ? String(error.code) : "error"));
        socket.on("data", (chunk) => {
          if (chunk.toString() === "reset me") socket.resetAndDestroy();
          else socket.write("here");
        });
      });
      const errors: unknown[] = [];
      using forward = it.sandbox.forward(server.port, { onError: (error) => errors.push(error) });
      const leaves = new Client(forward.port);
      leaves.socket.write("hello");
      await until("it stands", () => leaves.text === "here");
      leaves.socket.resetAndDestroy();
      await until("the server has seen it", () => ends.length === 1);
      expect(errors).toEqual([]);
      const left = new Client(forward.port);
      left.socket.write("reset me");
      await until("the client has seen it", () => left.isClosed);
      expect(left.error).toBe("ECONNRESET");
      expect(errors.map((error) => isWarrenError(error, "wrong_state"))).toEqual([true]);
    });

    test("forward says when nothing listens in the sandbox, and serves as soon as something does", async () => {
      const gone = await serve(() => undefined);
      gone[Symbol.dispose]();
      const errors: unknown[] = [];
      using forward = it.sandbox.forward(gone.port, { onError: (error) => errors.push(error) });
      const client = new Client(forward.port);
      await until("it is turned away", () => client.isClosed);
      expect(errors.map(String)).toEqual([`WarrenError: nothing listens on port ${gone.port} of the sandbox`]);
    });

    test(
      "forward holds back whoever is faster, in both directions, and loses nothing",
      async () => {
        const chunk = pattern(MIB);
        const expected = sha256(new Uint8Array(Buffer.concat(Array.from({ length: 32 }, () => chunk))));
        let sent = 0;
        const up = new Bun.CryptoHasher("sha256");
        let isUp = false;
        using server = await serve((socket) => {
          socket.pause();
          const more = () => {
            while (sent < 32) {
              sent += 1;
              if (!socket.write(chunk)) return;
            }
            socket.end();
          };
          socket.on("drain", more);
          more();
          socket.on("data", (part) => up.update(part));
          socket.on("end", () => (isUp = true));
        });
        using forward = it.sandbox.forward(server.port);
        const socket = connect({ port: forward.port, host: "127.0.0.1", allowHalfOpen: true });
        socket.pause();
        let given = 0;
        const give = () => {
          while (given < 32) {
            given += 1;
            if (!socket.write(chunk)) return;
          }
          socket.end();
        };
        socket.on("drain", give);
        give();
        for (let i = 0; i < 100; i++) await it.agent.ping();
        expect([sent < 28, given < 28]).toEqual([true, true]); // neither reads: what is under way is in the buffers of sockets
        const down = new Bun.CryptoHasher("sha256");
        let isDown = false;
        socket.on("data", (part) => down.update(part));
        socket.on("end", () => (isDown = true));
        socket.resume();
        for (const peer of server.sockets) peer.resume();
        await until("both are over", () => isUp && isDown);
        expect([down.digest("hex"), up.digest("hex")]).toEqual([expected, expected]);
      },
      TEST_MS,
    );

    test(
      "forward serves 200 connections at once, and close resets all of them",
      async () => {
        using server = await serve((socket) => socket.on("data", (chunk) => socket.write(chunk)));
        const forward = it.sandbox.forward(server.port);
        const clients = Array.from({ length: 200 }, () => new Client(forward.port));
        for (const [i, client] of clients.entries()) client.socket.write(`client ${i}`);
        await until("all are answered", () => clients.every((client, i) => client.text === `client ${i}`));
        forward.close();
        forward.close();
        await until("all are closed", () => clients.every((client) => client.isClosed) && server.sockets.size === 0);
        const late = new Client(forward.port);
        await until("nobody listens", () => late.isClosed);
        expect(late.error).toBe("ECONNREFUSED");
      },
      TEST_MS,
    );

    test("connect that is closed while nobody reads resets at once", async () => {
      let ended = "";
      using server = await serve((socket) => {
        socket.write("unread");
        socket.on("error", (error) => (ended = "code" in error ? String(error.code) : "error"));
      });
      const connection = await it.sandbox.connect(server.port);
      connection.close();
      await until("the server has seen it", () => ended === "ECONNRESET");
      const abort = new AbortController();
      const aborted = await it.sandbox.connect(server.port, { signal: abort.signal });
      abort.abort();
      await until("the server has seen that too", () => server.sockets.size === 0);
      await expect(aborted.readable.getReader().read()).rejects.toThrow("cancelled");
    });

    test("connect holds a writer back when the server reads nothing", async () => {
      using server = await serve((socket) => socket.pause());
      const { writable, close } = await it.sandbox.connect(server.port);
      const writer = writable.getWriter();
      let written = 0;
      const pouring = (async () => {
        for (; written < 256; written++) {
          await writer.ready;
          await writer.write(new Uint8Array(MIB));
        }
      })().catch((cause: unknown) => cause);
      await until("it has begun", () => written > 0);
      for (let i = 0; i < 100; i++) await it.agent.ping();
      expect(written).toBeLessThan(32);
      close();
      expect(isWarrenError(await pouring, "cancelled")).toBe(true);
    });
  });
}
