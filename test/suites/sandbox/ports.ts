/** Ports of a sandbox: what listens is told, connected to and forwarded; over a real guest also HTTP and WebSockets. */
import { expect } from "bun:test";
import { Sandbox } from "../../../src/sandbox.ts";
import { until } from "../../harness/until.ts";
import { ECHO, SERVER, WEBSOCKET } from "./ports-programs.ts";
import { fails, pattern, type Subject, sha256 } from "./subject.ts";

const MIB = 1024 * 1024;
/** Python takes 20 s to start in an emulated guest of a busy machine. */
const START_MS = 100_000;

/** Starts a program that listens on the port, and waits until it does. */
async function listening(sandbox: Sandbox, port: number, source: string): Promise<AsyncDisposable> {
  // The fake guest has the first; a real one does not, and runs the second.
  const process = await sandbox.spawn(`echo-server ${port} || python3 -c '${source}' ${port}`);
  const isThere = async () => (await sandbox.ports()).some((info) => info.port === port);
  await until(`port ${port} is listened on`, isThere, START_MS);
  return {
    [Symbol.asyncDispose]: async () => {
      await process.signal("SIGKILL");
      await until("it listens no more", async () => !(await isThere()));
    },
  };
}

async function said(readable: ReadableStream<Uint8Array>): Promise<string> {
  return new Response(readable).text();
}

async function echoed(sandbox: Sandbox, port: number, text: string): Promise<string> {
  const { readable, writable } = await sandbox.connect(port);
  const writer = writable.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
  return said(readable);
}

/** All that comes over a TCP connection of this host until it ends. */
function overTcp(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = "";
    const socket = {
      open: (s: Bun.Socket) => void s.write(text),
      data: (s: Bun.Socket, chunk: Uint8Array) => {
        heard += new TextDecoder().decode(chunk);
        if (heard.length >= text.length) s.end();
      },
      close: () => resolve(heard),
      error: (_: Bun.Socket, error: Error) => reject(error),
    };
    Bun.connect({ hostname: "127.0.0.1", port, socket }).catch(reject);
  });
}

function streamTests({ host, shared, does, needs }: Subject): void {
  does("ports tells what listens, and connect carries bytes both ways", async () => {
    await using _ = await listening(shared(), 7101, ECHO);
    expect(await shared().ports()).toContainEqual({ port: 7101, address: "127.0.0.1", protocol: "tcp" });
    expect(await echoed(shared(), 7101, "through the agent")).toBe("through the agent");
  });

  does("connect to a port that nothing listens on says so, and what listens", async () => {
    await using _ = await listening(shared(), 7102, ECHO);
    const error = await fails("wrong_state", shared().connect(7103));
    expect(error.message).toContain(`nothing listens on port 7103 of sandbox ${shared().id}`);
    expect(error.message).toContain("7102");
    expect(error.details).toMatchObject({ port: 7103, listening: expect.arrayContaining([7102]) });
    await fails("wrong_state", shared().fetch(7103, "/"));
    await fails("invalid_request", shared().connect(0));
    await fails("invalid_request", shared().connect(65_536));
  });

  does("connect reads and writes while the other direction goes on, and close ends both", async () => {
    await using _ = await listening(shared(), 7104, ECHO);
    const connection = await shared().connect(7104);
    const [reader, writer] = [connection.readable.getReader(), connection.writable.getWriter()];
    for (const text of ["one", "two", "three"]) {
      await writer.write(new TextEncoder().encode(text));
      expect(new TextDecoder().decode((await reader.read()).value)).toBe(text);
    }
    const next = reader.read();
    connection.close();
    connection.close();
    expect((await next).done).toBe(true);
    await expect(writer.write(new Uint8Array(1))).rejects.toThrow();
  });

  needs("sockets", "websocket to a port that nothing listens on says so", async () => {
    await fails("wrong_state", shared().websocket(7103, "/"));
  });

  needs(
    "sockets",
    "forward leads a port of this host to the sandbox, from another handle too, until it is closed",
    async () => {
      await using _ = await listening(shared(), 7105, ECHO);
      const other = await Sandbox.connect(shared().id, host());
      const forward = other.forward(7105);
      expect(forward.hostname).toBe("127.0.0.1");
      const all = await Promise.all(Array.from({ length: 20 }, (_, i) => overTcp(forward.port, `hello ${i}`)));
      expect(all).toEqual(Array.from({ length: 20 }, (_, i) => `hello ${i}`));
      await fails("invalid_request", (async () => other.forward(7105, { hostPort: forward.port }))());
      forward.close();
      await expect(overTcp(forward.port, "x")).rejects.toThrow();
    },
  );

  does("connect ends when its sandbox is put to sleep, and says why; the next call wakes it", async () => {
    await using sandbox = await Sandbox.create({}, host());
    await listening(sandbox, 7106, ECHO);
    const { readable } = await sandbox.connect(7106);
    const ended = fails("wrong_state", readable.getReader().read());
    await sandbox.hibernate();
    expect((await ended).message).toContain("put to sleep");
    expect(await sandbox.ports()).toBeArray();
    expect((await sandbox.info()).state).toBe("running");
  });
}

function forkTests({ host, needs }: Subject): void {
  needs(
    "python",
    "connect stands through a pause; a fork has the service, and none of its parent's connections",
    async () => {
      await using sandbox = await Sandbox.create({}, host());
      await listening(sandbox, 7107, ECHO);
      const { readable, writable } = await sandbox.connect(7107);
      const [reader, writer] = [readable.getReader(), writable.getWriter()];
      await using child = await sandbox.fork();
      expect(await echoed(child, 7107, "in the child")).toBe("in the child");
      await sandbox.pause();
      await fails("wrong_state", sandbox.connect(7107));
      await sandbox.resume();
      await writer.write(new TextEncoder().encode("still here"));
      expect(new TextDecoder().decode((await reader.read()).value)).toBe("still here");
      await writer.close();
      expect((await reader.read()).done).toBe(true);
    },
  );
}

function sleepTests({ host, needs }: Subject): void {
  needs("python", "connect and fetch wake a sandbox that sleeps, whose services are there again", async () => {
    await using sandbox = await Sandbox.create({}, host());
    await listening(sandbox, 7108, ECHO);
    await listening(sandbox, 7109, SERVER);
    await sandbox.hibernate();
    expect(await echoed(sandbox, 7108, "awake again")).toBe("awake again");
    await sandbox.hibernate();
    expect((await sandbox.fetch(7109, "/hello")).status).toBe(200);
  });
}

function httpTests({ shared, needs }: Subject): void {
  needs("python", "fetch speaks HTTP: status, headers, bodies, what is not there", async () => {
    await using _ = await listening(shared(), 7110, SERVER);
    const hello = await shared().fetch(7110, "/hello?who=me");
    expect([hello.status, hello.ok, hello.url]).toEqual([200, true, "http://localhost:7110/hello?who=me"]);
    expect(await hello.json()).toMatchObject({ path: "/hello?who=me", host: "localhost:7110" });
    const missing = await shared().fetch(7110, "/missing");
    expect([missing.status, await missing.text()]).toEqual([404, "nothing here"]);
    const posted = await shared().fetch(7110, "/post", { method: "POST", body: "a body", headers: { "x-own": "1" } });
    expect(await posted.json()).toMatchObject({ body: 6, own: "1" });
    const request = new Request("http://localhost/post", { method: "PUT", body: "four" });
    expect(await (await shared().fetch(7110, request)).json()).toMatchObject({ body: 4, method: "PUT" });
    expect(await (await shared().fetch(7110, "/empty")).text()).toBe("");
  });

  needs("python", "fetch moves 10 MiB up and down, exactly", async () => {
    await using _ = await listening(shared(), 7111, SERVER);
    const large = pattern(10 * MIB);
    const up = await shared().fetch(7111, "/sha", { method: "POST", body: Buffer.from(large) });
    expect(await up.text()).toBe(sha256(large));
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < large.length; at += MIB) controller.enqueue(large.subarray(at, at + MIB));
        controller.close();
      },
    });
    const chunked = await shared().fetch(7111, "/sha", { method: "POST", body: stream });
    expect(await chunked.text()).toBe(sha256(large));
    const down = await shared().fetch(7111, `/bytes?${10 * MIB}`);
    const got = await down.bytes();
    expect([got.length, sha256(got)]).toEqual([10 * MIB, sha256(new Uint8Array(10 * MIB).fill(0x61))]);
  });

  needs("python", "fetch has pieces of a body as they come, and ends it on an abort", async () => {
    await using _ = await listening(shared(), 7112, SERVER);
    const abort = new AbortController();
    const response = await shared().fetch(7112, "/ticks", { signal: abort.signal });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("tick\n");
    const next = (async () => {
      for (;;) if ((await reader.read()).done) return "ended";
    })();
    abort.abort(new Error("enough"));
    await expect(next).rejects.toThrow("enough");
    expect((await shared().fetch(7112, "/hello")).status).toBe(200);
  });

  needs("python", "fetch follows redirects within the sandbox, and hands back one that leads out of it", async () => {
    await using _ = await listening(shared(), 7113, SERVER);
    const followed = await shared().fetch(7113, "/moved");
    expect([followed.status, followed.redirected, followed.url]).toEqual([200, true, "http://localhost:7113/hello"]);
    const out = await shared().fetch(7113, "/out");
    expect([out.status, out.headers.get("location")]).toEqual([302, "http://example.com/"]);
    expect((await shared().fetch(7113, "/moved", { redirect: "manual" })).status).toBe(302);
    await expect(shared().fetch(7113, "/moved", { redirect: "error" })).rejects.toThrow("redirects");
  });

  needs(["python", "sockets"], "websocket is a standard one: text and bytes both ways, and its close", async () => {
    await using _ = await listening(shared(), 7114, WEBSOCKET);
    const socket = await shared().websocket(7114, "/echo");
    socket.binaryType = "arraybuffer";
    const heard: unknown[] = [];
    const closed = Promise.withResolvers<number>();
    socket.onmessage = ({ data }) => heard.push(typeof data === "string" ? data : new Uint8Array(data).length);
    socket.onclose = ({ code }) => closed.resolve(code);
    await until("it is open", () => socket.readyState === WebSocket.OPEN);
    socket.send("hello");
    socket.send(new Uint8Array(100_000));
    await until("both are back", () => heard.length === 2);
    expect(heard).toEqual(["hello", 100_000]);
    expect(socket.url).toBe("ws://localhost:7114/echo");
    socket.close(1000);
    expect(await closed.promise).toBe(1000);
  });

  needs(
    ["python", "sockets"],
    "a forwarded port serves an ordinary HTTP client, several requests on one connection",
    async () => {
      await using _ = await listening(shared(), 7115, SERVER);
      using forward = shared().forward(7115);
      for (let i = 0; i < 5; i++) {
        const response = await fetch(`http://127.0.0.1:${forward.port}/hello?${i}`);
        expect(await response.json()).toMatchObject({ path: `/hello?${i}` });
      }
      const { connections } = (await (await fetch(`http://127.0.0.1:${forward.port}/hello`)).json()) as {
        connections: number;
      };
      expect(connections).toBe(1);
    },
  );
}

export function portTests(subject: Subject): void {
  streamTests(subject);
  forkTests(subject);
  sleepTests(subject);
  httpTests(subject);
}
