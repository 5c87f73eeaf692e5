/** Connections to ports under the real agent, as a process of this machine: whatever the peer does, both directions, many at once. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { systemClock } from "../../../src/base/clock.ts";
import { isWarrenError, WarrenError } from "../../../src/errors.ts";
import { GuestAgent } from "../../../src/guest/agent.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { pattern } from "../../suites/sandbox/subject.ts";
import { BUILD_MS, binaries, type ConnectedAgent, connectAgent, startAgent } from "../process.ts";

const MIB = 1024 * 1024;
const TEST_MS = 60_000;

/** A server of this machine, with what came of its connections. */
async function serve(
  onConnection: (socket: Socket) => void,
  host = "127.0.0.1",
): Promise<{ port: number; server: Server; sockets: Set<Socket> } & Disposable> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const stop = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port, server, sockets, [Symbol.dispose]: stop };
}

/** A port that nothing listens on. */
async function freePort(): Promise<number> {
  using it = await serve(() => undefined);
  return it.port;
}

/** Connected: the first, empty piece has been read. */
async function dialled(
  agent: GuestAgent,
  port: number,
  body: AsyncIterable<Uint8Array> | string = "",
  signal?: AbortSignal,
) {
  const stream = agent.dial({ port }, body, signal);
  const first = await stream.next();
  expect(first).toMatchObject({ done: false });
  expect(first.value).toHaveLength(0);
  return stream;
}

async function bytes(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of stream) parts.push(piece);
  return new Uint8Array(Buffer.concat(parts));
}

/** A body that is given piece by piece. */
class Feed implements AsyncIterable<Uint8Array> {
  readonly #given: Uint8Array[] = [];
  #isOver = false;
  #wake: () => void = () => undefined;

  give(text: string): void {
    this.#given.push(new TextEncoder().encode(text));
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const next = this.#given.shift();
      if (next !== undefined) yield next;
      else if (this.#isOver) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

async function fails(promise: Promise<unknown>): Promise<WarrenError> {
  const error = await promise.then(
    () => null,
    (cause: unknown) => cause,
  );
  if (!(error instanceof WarrenError)) throw new Error(`no WarrenError: ${error}`);
  return error;
}

const text = (value: Uint8Array | undefined) => new TextDecoder().decode(value);
const residentKib = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

if (gate("gcc")) {
  beforeAll(() => binaries(), BUILD_MS);

  describe("Dialling", () => {
    let it: ConnectedAgent;
    beforeAll(async () => {
      it = await connectAgent();
    }, BUILD_MS);
    afterAll(async () => await it[Symbol.asyncDispose]());

    test("Dialling carries bytes both ways, and each direction ends by itself", async () => {
      using echo = await serve((socket) => {
        socket.on("data", (chunk) => socket.write(chunk));
        socket.on("end", () => socket.end("bye"));
      });
      const feed = new Feed();
      const stream = await dialled(it.agent, echo.port, feed);
      feed.give("one");
      expect(text((await stream.next()).value as Uint8Array)).toBe("one");
      feed.end();
      expect(text(await bytes(stream))).toBe("bye");
      await until("the server's side is over", () => echo.sockets.size === 0);
    });

    test("Dialling goes on sending after the peer has ended its own direction", async () => {
      let heard = "";
      using server = await serve((socket) => {
        socket.end("first");
        socket.on("data", (chunk) => (heard += chunk.toString()));
        socket.on("end", () => (heard += "|end"));
      });
      const feed = new Feed();
      const stream = await dialled(it.agent, server.port, feed);
      expect(text(await bytes(stream))).toBe("first");
      feed.give("late");
      await until("the server has it", () => heard === "late");
      feed.end();
      await until("the server has the end", () => heard === "late|end");
    });

    test("Dialling a port that nothing listens on is refused, by its name", async () => {
      const port = await freePort();
      const error = await fails(it.agent.dial({ port }, "").next());
      expect([error.code, error.details]).toEqual(["wrong_state", { port, errno: "ECONNREFUSED" }]);
      expect(error.message).toContain(`port ${port}`);
    });

    test("Dialling finds what listens on ::1 alone, and with a host only what listens there", async () => {
      using server = await serve((socket) => socket.end("six"), "::1");
      expect(text(await bytes(it.agent.dial({ port: server.port }, "")))).toBe("six");
      expect(text(await bytes(it.agent.dial({ port: server.port, host: "::1" }, "")))).toBe("six");
      expect((await fails(it.agent.dial({ port: server.port, host: "127.0.0.1" }, "").next())).code).toBe(
        "wrong_state",
      );
    });

    test("Dialling that is left resets the connection, and so does an abort", async () => {
      const ends: string[] = [];
      using server = await serve((socket) => {
        socket.on("error", (error) => ends.push("code" in error ? String(error.code) : "error"));
        socket.on("end", () => ends.push("end"));
        socket.write("x");
      });
      for await (const piece of it.agent.dial({ port: server.port }, new Feed())) if (piece.length > 0) break;
      await until("it was reset", () => ends.length === 1);
      const abort = new AbortController();
      const stream = await dialled(it.agent, server.port, new Feed(), abort.signal);
      await stream.next();
      const next = stream.next();
      abort.abort();
      expect((await fails(next)).code).toBe("cancelled");
      await until("it was reset too", () => ends.length === 2);
      expect(ends).toEqual(["ECONNRESET", "ECONNRESET"]);
    });

    test("Dialling says that the peer has reset, after what it had sent", async () => {
      using server = await serve((socket) => {
        socket.write("some", () => socket.once("data", () => socket.resetAndDestroy()));
      });
      const feed = new Feed();
      const stream = await dialled(it.agent, server.port, feed);
      expect(text((await stream.next()).value as Uint8Array)).toBe("some");
      feed.give("now");
      const error = await fails(stream.next());
      expect([error.code, error.details["errno"]]).toEqual(["wrong_state", "ECONNRESET"]);
    });

    test("Dialling a peer that answers and closes without reading everything still has the answer", async () => {
      using server = await serve((socket) => {
        socket.once("data", () => {
          socket.pause();
          socket.end("no more", () => socket.destroy());
        });
      });
      const endless = (async function* () {
        for (let i = 0; i < 64; i++) yield new Uint8Array(64 * 1024);
      })();
      const stream = await dialled(it.agent, server.port, endless);
      let heard = "";
      // Whether the reset is seen after the answer depends on who is faster; the answer comes in any case.
      const over = await (async () => {
        for await (const piece of stream) heard += text(piece);
      })().catch((cause: unknown) => cause);
      expect(heard).toBe("no more");
      expect(over === undefined || isWarrenError(over, "wrong_state")).toBe(true);
      await it.agent.ping();
    });

    test("Dialling passes on what its body throws, and resets", async () => {
      let isReset = false;
      using server = await serve((socket) => socket.on("error", () => (isReset = true)));
      const broken = (async function* () {
        yield new TextEncoder().encode("begun");
        throw new WarrenError("file_error", "the source broke");
      })();
      const stream = await dialled(it.agent, server.port, broken);
      expect((await fails(stream.next())).code).toBe("file_error");
      await until("the server has the reset", () => isReset);
    });

    test(
      "Dialling moves 64 MiB both ways past a slow reader, and holds little of it",
      async () => {
        const chunk = pattern(MIB);
        const hash = new Bun.CryptoHasher("sha256");
        const expected = new Bun.CryptoHasher("sha256");
        for (let i = 0; i < 64; i++) expected.update(chunk);
        let got = 0;
        let isSlow = true;
        using server = await serve((socket) => {
          socket.pause();
          // Takes nothing until the first quarter would have had to be somewhere.
          void until("the other direction is half done", () => !isSlow).then(() => socket.resume());
          socket.on("data", (part) => {
            hash.update(part);
            got += part.length;
          });
          let left = 64;
          const more = () => {
            while (left > 0) {
              left -= 1;
              if (!socket.write(chunk)) return;
            }
            socket.end();
          };
          socket.on("drain", more);
          more();
        });
        // What AddressSanitizer keeps of freed memory would hide what the agent holds.
        const running = await startAgent(
          [],
          [],
          "detect_leaks=1:quarantine_size_mb=0:thread_local_quarantine_size_kb=0",
        );
        const agent = await GuestAgent.connect(running.link, { clock: systemClock });
        const before = residentKib(running.pid);
        let most = 0;
        let given = 0;
        const body = (async function* () {
          for (let i = 0; i < 64; i++) {
            given += 1;
            yield chunk;
          }
        })();
        const stream = await dialled(agent, server.port, body);
        const down = new Bun.CryptoHasher("sha256");
        let length = 0;
        for await (const piece of stream) {
          down.update(piece);
          length += piece.length;
          most = Math.max(most, residentKib(running.pid));
          if (length > 32 * MIB && isSlow) {
            expect(given).toBeLessThan(32); // a server that reads nothing holds its client back
            isSlow = false;
          }
        }
        await until("all of it is there", () => got === 64 * MIB);
        const whole = expected.digest("hex");
        expect([length, down.digest("hex")]).toEqual([64 * MIB, whole]);
        expect(hash.digest("hex")).toBe(whole);
        expect(most - before).toBeLessThan(8 * 1024);
        agent.close();
        await running.end();
        expect(await running.stderr).toBe("");
      },
      TEST_MS,
    );

    test(
      "Dialling that nobody reads makes the peer wait, while others go on",
      async () => {
        let sent = 0;
        const chunk = new Uint8Array(64 * 1024);
        using flood = await serve((socket) => {
          const more = () => {
            while (sent < 256 * MIB) {
              sent += chunk.length;
              if (!socket.write(chunk)) return;
            }
          };
          socket.on("drain", more);
          more();
        });
        const stalled = await dialled(it.agent, flood.port, new Feed());
        using echo = await serve((socket) => socket.pipe(socket));
        for (let i = 0; i < 100; i++)
          expect(text(await bytes(it.agent.dial({ port: echo.port }, `n${i}`)))).toBe(`n${i}`);
        expect(sent).toBeLessThan(32 * MIB);
        await stalled.return(undefined);
      },
      TEST_MS,
    );

    test(
      "Dialling works for 500 connections at once",
      async () => {
        using echo = await serve((socket) => socket.pipe(socket));
        const feeds = Array.from({ length: 500 }, () => new Feed());
        const streams = await Promise.all(feeds.map((feed) => dialled(it.agent, echo.port, feed)));
        await until("all stand", () => echo.sockets.size === 500);
        for (const [i, feed] of feeds.entries()) feed.give(`connection ${i}`);
        for (const feed of feeds) feed.end();
        const heard = await Promise.all(streams.map(bytes));
        expect(heard.map(text)).toEqual(feeds.map((_, i) => `connection ${i}`));
        await until("all are over", () => echo.sockets.size === 0);
      },
      TEST_MS,
    );

    test("Listening ports are told with their addresses, and gone when nobody listens", async () => {
      using four = await serve(() => undefined);
      using six = await serve(() => undefined, "::1");
      using all = await serve(() => undefined, "0.0.0.0");
      const found = await it.agent.ports();
      for (const [port, address] of [
        [four.port, "127.0.0.1"],
        [six.port, "::1"],
        [all.port, "0.0.0.0"],
      ] as const)
        expect(found).toContainEqual({ port, address, protocol: "tcp" });
      expect(found.map(({ port }) => port)).toEqual(found.map(({ port }) => port).sort((a, b) => a - b));
      const client = connect(four.port, "127.0.0.1");
      await until("it is connected", () => four.sockets.size === 1);
      const own = client.localPort;
      expect((await it.agent.ports()).some(({ port }) => port === own)).toBe(false);
      client.destroy();
      const gone = await freePort();
      expect((await it.agent.ports()).some(({ port }) => port === gone)).toBe(false);
    });
  });

  test("Dialling ends with its host: the peer sees a reset, nothing stays open", async () => {
    const running = await startAgent();
    const agent = await GuestAgent.connect(running.link, { clock: systemClock });
    let ended = "";
    using server = await serve((socket) => {
      socket.on("error", (error) => (ended = "code" in error ? String(error.code) : "error"));
    });
    const stream = await dialled(agent, server.port, new Feed());
    const next = stream.next();
    agent.close();
    expect((await fails(next)).code).toBe("sandbox_lost");
    await until("the server has seen it", () => ended === "ECONNRESET");
    await running.end();
    expect(await running.stderr).toBe("");
  });
}
