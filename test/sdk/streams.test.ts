/** Streams of the client, both ways: read as fast as their reader reads, left at any time, and never taken for whole when they broke. */
import { describe, expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { connect } from "../../src/client.ts";
import type { ExecEvent } from "../../src/contract/routes/exec.ts";
import { LIMITS } from "../../src/limits.ts";
import { pulled } from "../../src/sdk/pull.ts";
import { uploadOf } from "../../src/sdk/upload.ts";
import { FakeClock, settle } from "../harness/clock.ts";
import { until } from "../harness/until.ts";
import { fails, pattern } from "../suites/sandbox/subject.ts";
import { all, eventStream, fakeServer } from "./fake-server.ts";

const MIB = 1024 * 1024;
const started = { event: "started", data: { process: 1, pid: 2 } };
const chunk = (text: string) => ({ event: "stdout", data: { chunk_base64: btoa(text) } });
const exit = { event: "exit", data: { exit_code: 0, signal: null, duration_ms: 1 } };
const exec = { id: "sb_1", cmd: "true" };

/** A body that a test pushes to, and that knows when it is left. */
function open(type = "text/event-stream") {
  let push: (text: string) => void = () => undefined;
  let isLeft = false;
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      push = (text) => controller.enqueue(encoder.encode(text));
    },
    cancel: () => {
      isLeft = true;
    },
  });
  const response = new Response(body, { headers: { "content-type": type } });
  return { response, push: (text: string) => push(text), isLeft: () => isLeft };
}

/** Knows how many timers were ever set. */
class CountingClock extends FakeClock {
  set = 0;

  override after(delayMs: number, run: () => void): () => void {
    this.set += 1;
    return super.after(delayMs, run);
  }
}

interface Raw extends Disposable {
  readonly url: string;
  readonly sockets: Set<Socket>;
  readonly sent: () => number;
}

/** Answers each connection's first bytes with `write`, over plain TCP: a server that may break off. */
async function raw(write: (socket: Socket, send: (bytes: string | Uint8Array) => boolean) => void): Promise<Raw> {
  const sockets = new Set<Socket>();
  let sent = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    socket.once("data", () =>
      write(socket, (bytes) => {
        sent += bytes.length;
        return socket.write(bytes);
      }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const dispose = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { url: `http://127.0.0.1:${port}`, sockets, sent: () => sent, [Symbol.dispose]: dispose };
}

const HEAD = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type:";
const chunked = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

describe("Events", () => {
  test("come as they are sent, and end with the stream; unknown ones are passed over", async () => {
    const later = { event: "from-the-future", data: { a: 1 } };
    await using server = fakeServer(() => eventStream([started, chunk("hi"), later, exit]));
    const events = await all(await server.client.host.exec(exec));
    expect(events.map(({ kind }) => kind)).toEqual(["started", "stdout", "exit"]);
    expect(events[1]).toEqual({ kind: "stdout", bytes: new TextEncoder().encode("hi") });
  });

  test("end with the error that the server says, after what came before", async () => {
    const lost = { event: "error", data: { error: "sandbox sb_1 is gone", code: "sandbox_lost", request_id: "req_2" } };
    await using server = fakeServer(() => eventStream([started, lost, exit]));
    const seen: string[] = [];
    const reading = (async () => {
      for await (const event of await server.client.host.exec(exec)) seen.push(event.kind);
    })();
    expect((await fails("sandbox_lost", reading)).message).toBe("sandbox sb_1 is gone");
    expect(seen).toEqual(["started"]);
  });

  test("that break off are an error and no end, however the connection goes", async () => {
    for (const how of ["end", "reset", "half"] as const) {
      const wasRead = Promise.withResolvers<void>();
      using server = await raw((socket, send) => {
        const text = `event: started\ndata: ${JSON.stringify(started.data)}\n\n`;
        send(`${HEAD} text/event-stream\r\n\r\n${chunked(text)}${how === "half" ? "100\r\nevent:" : ""}`);
        void wasRead.promise.then(() => (how === "reset" ? socket.resetAndDestroy() : socket.end()));
      });
      const stream = await connect({ url: server.url }).host.exec(exec);
      const iterator = stream[Symbol.asyncIterator]();
      expect((await iterator.next()).value).toMatchObject({ kind: "started" });
      wasRead.resolve();
      const error = await fails("connection_failed", iterator.next());
      expect({ how, says: error.message }).toEqual({ how, says: expect.stringContaining("broke off") });
      expect((await iterator.next()).done).toBe(true);
    }
  });

  test("that are left, before the first or after it, end the request", async () => {
    for (const when of ["unread", "read", "awaited"] as const) {
      const body = open();
      await using server = fakeServer(() => body.response);
      body.push(`event: started\ndata: ${JSON.stringify(started.data)}\n\n`);
      const iterator = (await server.client.host.exec(exec))[Symbol.asyncIterator]();
      if (when !== "unread") expect((await iterator.next()).done).toBe(false);
      const next = when === "awaited" ? iterator.next() : null;
      await iterator.return?.();
      if (next !== null) expect((await next).done).toBe(true);
      await until(`the server sees that it was left: ${when}`, body.isLeft);
    }
  });

  test("of a call that is aborted end with that, while one is awaited too", async () => {
    const body = open();
    await using server = fakeServer(() => body.response);
    const abort = new AbortController();
    const reading = fails("cancelled", server.client.host.exec(exec, { signal: abort.signal }).then(all<ExecEvent>));
    await until("it was asked", () => server.asked.length === 1);
    body.push(": ping\n\n");
    await settle();
    abort.abort();
    await reading;
    await until("the server sees it", body.isLeft);
  });

  test("of a server that is silent for too long break off; a comment is no silence", async () => {
    const clock = new CountingClock();
    const body = open();
    await using server = fakeServer(() => body.response, { clock });
    body.push(": ping\n\n");
    const stream = await server.client.host.exec(exec);
    let reads = clock.set;
    const reading = fails("connection_failed", all(stream));
    for (let i = 0; i < 5; i++) {
      await until("what came is read, and the next awaited", () => clock.set > reads);
      await settle();
      reads = clock.set;
      await clock.advance(LIMITS.clientSilenceMs - 1);
      body.push(": ping\n\n");
    }
    await until("the last is read", () => clock.set > reads);
    await clock.advance(LIMITS.clientSilenceMs);
    expect((await reading).message).toContain("silent");
    await until("the server sees it", body.isLeft);
  });
});

describe("Bytes", () => {
  test("are read no faster than their reader reads, and left at once", async () => {
    const piece = Buffer.from(`10000\r\n${"a".repeat(65_536)}\r\n`);
    using server = await raw((socket, send) => {
      send(`${HEAD} application/octet-stream\r\n\r\n`);
      const more = () => {
        while (!socket.destroyed && send(piece));
        socket.once("drain", more);
      };
      more();
    });
    const stream = await connect({ url: server.url }).host.readFile({ id: "sb_1", path: "/endless" });
    const iterator = stream[Symbol.asyncIterator]();
    expect((await iterator.next()).value?.length).toBeGreaterThan(0);
    let before = -1;
    await until("nothing more is sent", async () => {
      const still = before === server.sent();
      before = server.sent();
      for (let i = 0; i < 20; i++) await settle();
      return still;
    });
    expect(server.sent()).toBeLessThan(32 * MIB);
    for (let read = 0; read < 64 * MIB; ) read += (await iterator.next()).value?.length ?? 0;
    expect(server.sent()).toBeGreaterThan(64 * MIB);
    await iterator.return?.();
    await until("the connection is closed", () => server.sockets.size === 0);
  });

  test("that break off are an error and no end of a file", async () => {
    using server = await raw((socket, send) => {
      send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello");
      void settle().then(() => socket.end());
    });
    const stream = await connect({ url: server.url }).host.readFile({ id: "sb_1", path: "/x" });
    await fails("connection_failed", all(stream));
  });
});

const info = {
  ...{ name: "x", path: "/x", is_dir: false, size: 3, mode: "0644", uid: 0, gid: 0, mtime: 1, type: "file", bytes: 3 },
};
const file = { id: "sb_1", path: "/x" };

describe("An upload", () => {
  test("is sent as it comes, exactly", async () => {
    const bytes = pattern(3 * MIB + 1);
    async function* pieces() {
      for (let at = 0; at < bytes.length; at += 77_777) {
        yield bytes.subarray(at, at + 77_777);
        yield new Uint8Array();
      }
    }
    await using server = fakeServer(() => Response.json(info));
    expect((await server.client.host.writeFile({ ...file, body: pieces() })).path).toBe("/x");
    expect(server.asked[0]?.body).toEqual(bytes);
    expect(server.asked[0]?.headers.get("transfer-encoding")).toBe("chunked");
    await server.client.host.writeFile({ ...file, body: "grüße" });
    expect(new TextDecoder().decode(server.asked[1]?.body)).toBe("grüße");
  });

  test("waits for a server that takes nothing", async () => {
    using server = await raw((socket) => void socket.pause());
    let pulls = 0;
    let isLeft = false;
    async function* endless() {
      try {
        for (;;) {
          pulls += 1;
          await Promise.resolve();
          yield new Uint8Array(65_536);
        }
      } finally {
        isLeft = true;
      }
    }
    const abort = new AbortController();
    const { host } = connect({ url: server.url });
    const writing = fails("cancelled", host.writeFile({ ...file, body: endless() }, { signal: abort.signal }));
    let before = -1;
    await until("nothing more is asked for", async () => {
      const still = before === pulls && pulls > 0;
      before = pulls;
      for (let i = 0; i < 20; i++) await settle();
      return still;
    });
    expect(pulls * 65_536).toBeLessThan(32 * MIB);
    abort.abort();
    await writing;
    await until("its source is left", () => isLeft);
  });

  test("fails with what broke its source, and is left when the server has answered before its end", async () => {
    async function* broken() {
      yield new Uint8Array(10);
      throw new Error("the source broke");
    }
    await using server = fakeServer(() => Response.json(info));
    await expect(server.client.host.writeFile({ ...file, body: broken() })).rejects.toThrow("the source broke");
    let isLeft = false;
    async function* endless() {
      try {
        for (;;) {
          await settle();
          yield new Uint8Array(1000);
        }
      } finally {
        isLeft = true;
      }
    }
    using early = await raw((_, send) => {
      const body = JSON.stringify({ error: "not now", code: "wrong_state" });
      send(`HTTP/1.1 409 Conflict\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`);
    });
    await fails("wrong_state", connect({ url: early.url }).host.writeFile({ ...file, body: endless() }));
    await until("its source is left", () => isLeft);
  });

  test("is collected within a bound where it cannot be streamed", async () => {
    async function* pieces(count: number) {
      for (let i = 0; i < count; i++) yield new Uint8Array(MIB).fill(i);
    }
    const small = await uploadOf(pieces(2), false, () => undefined);
    expect([small.isStream, (small.body as Uint8Array).length, (small.body as Uint8Array).at(-1)]).toEqual([
      ...[false, 2 * MIB, 1],
    ]);
    await fails(
      "too_large",
      uploadOf(pieces(LIMITS.clientUploadBytes / MIB + 1), false, () => undefined),
    );
  });

  test("that goes on is not late, one that the server does not take is", async () => {
    const clock = new FakeClock();
    using server = await raw((socket) => void socket.pause());
    const { host } = connect({ url: server.url, clock, timeoutMs: 10_000 });
    async function* steps() {
      for (let i = 0; i < 10; i++) {
        await clock.advance(9_000);
        yield new Uint8Array(10);
      }
      for (;;) yield new Uint8Array(65_536);
    }
    const writing = fails("connection_failed", host.writeFile({ ...file, body: steps() }));
    let isOver = false;
    void writing.then(() => {
      isOver = true;
    });
    await until("it is late", async () => {
      for (let i = 0; i < 10; i++) await settle();
      if (clock.monotonicMs() > 90_000) await clock.advance(1_000);
      return isOver;
    });
    expect(clock.monotonicMs()).toBeGreaterThan(100_000);
  });
});

test("pulled is read in order, ends once, and is left once", async () => {
  let next = 0;
  const over: string[] = [];
  const source = () =>
    pulled<number>({
      next: async () => {
        await settle();
        return next < 3 ? next++ : null;
      },
      over: (how) => void over.push(how),
    })[Symbol.asyncIterator]();
  const iterator = source();
  const values = await Promise.all([1, 2, 3, 4, 5].map(() => iterator.next()));
  expect(values.map(({ value, done }) => (done === true ? "done" : value))).toEqual([0, 1, 2, "done", "done"]);
  await iterator.return?.();
  expect(over).toEqual(["ended"]);
  next = 0;
  const left = source();
  const pending = left.next();
  await left.return?.();
  await left.return?.();
  expect([(await pending).done, over]).toEqual([true, ["ended", "left"]]);
});
