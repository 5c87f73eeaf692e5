/** WebSockets to programs: passed through whole, closed as either side closes, and bounded against both. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { BOUNDS } from "../../../src/api/bounds.ts";
import { createEdge } from "../../../src/api/edge/index.ts";
import { FrameReader } from "../../../src/api/edge/websocket/frames.ts";
import type { Waiting } from "../../../src/api/streams/budget.ts";
import { until } from "../../harness/until.ts";
import { Api } from "../subject.ts";
import { headOf, onLoopback, type Program, program } from "./programs.ts";

const MIB = 1024 * 1024;
let api: Api;
let id: string;
let waiting: Waiting | undefined;

beforeAll(async () => {
  api = await Api.start({
    edge: (parts) => {
      waiting = parts.waiting;
      return createEdge(parts);
    },
    around: (host) => onLoopback(host),
  });
  id = ((await api.call("POST", "/v1/sandboxes", {})).body as unknown as { id: string }).id;
});
afterAll(() => api[Symbol.asyncDispose]());

function accepted(request: string, protocol = ""): string {
  const key = /^sec-websocket-key: (\S+)/im.exec(request)?.[1] ?? "";
  const accept = new Bun.CryptoHasher("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  const chosen = protocol === "" ? "" : `Sec-WebSocket-Protocol: ${protocol}\r\n`;
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${chosen}Sec-WebSocket-Accept: ${accept}\r\n\r\n`;
}

/** The first of a client's frames, and what is behind it; null while it is not all there. */
function taken(bytes: Buffer): { readonly opcode: number; readonly payload: Buffer; readonly rest: Buffer } | null {
  const short = (bytes[1] ?? 0) & 127;
  const size = { 126: 4, 127: 10 }[short] ?? 2;
  if (bytes.length < size + 4) return null;
  const length = size === 2 ? short : size === 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const end = size + 4 + length;
  if (bytes.length < end) return null;
  const mask = bytes.subarray(size, size + 4);
  const payload = Buffer.from(bytes.subarray(size + 4, end).map((byte, i) => byte ^ (mask[i % 4] ?? 0)));
  return { opcode: (bytes[0] ?? 0) & 15, payload, rest: bytes.subarray(end) };
}

/** Opens, then gives each frame that comes, without its mask. */
function speaking(on: (socket: Socket, opcode: number, payload: Buffer) => void, protocol = ""): Promise<Program> {
  return program((socket, request) => {
    let unread = Buffer.alloc(0);
    socket.write(accepted(request, protocol));
    socket.on("data", (chunk: Buffer) => {
      unread = Buffer.concat([unread, chunk]);
      for (let one = taken(unread); one !== null; one = taken(unread)) {
        unread = Buffer.from(one.rest);
        on(socket, one.opcode, one.payload);
      }
    });
  });
}

function frame(opcode: number, payload: Uint8Array): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = length < 126 ? length : length < 65_536 ? 126 : 127;
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}

const echo = () =>
  speaking((socket, opcode, payload) => {
    socket.write(frame(opcode, payload));
    if (opcode === 8) socket.end();
  });

interface Client {
  readonly socket: WebSocket;
  readonly heard: (string | Uint8Array)[];
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
}

function open({ port }: Program, path = "/", protocols: string[] = [], key = api.admin): Client {
  const url = `${api.url.replace("http", "ws")}/v1/sandboxes/${id}/proxy/${port}${path}`;
  const options = {
    headers: { authorization: `Bearer ${key}`, cookie: "a=secret" },
    ...(protocols.length > 0 ? { protocols } : {}),
  };
  const socket = new WebSocket(url, options as unknown as string[]);
  socket.binaryType = "arraybuffer";
  const heard: (string | Uint8Array)[] = [];
  socket.onmessage = ({ data }) => heard.push(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.onclose = ({ code, reason }) => resolve({ code, reason });
  });
  return { socket, heard, closed };
}

const isOpen = ({ socket }: Client) => until("it is open", () => socket.readyState === WebSocket.OPEN);

test("WebSocket passes text and bytes both ways, small and large, and a client's close with its reason", async () => {
  using it = await echo();
  const client = open(it, "/chat?room=1&access_token=wrn_secret");
  await isOpen(client);
  client.socket.send("hello ä");
  client.socket.send("");
  client.socket.send(new Uint8Array(300_000).fill(7));
  await until("all are back", () => client.heard.length === 3);
  expect(client.heard.slice(0, 2)).toEqual(["hello ä", ""]);
  expect(Buffer.from(client.heard[2] as Uint8Array).equals(Buffer.alloc(300_000, 7))).toBe(true);
  client.socket.close(3001, "enough");
  expect(await client.closed).toMatchObject({ code: 3001, reason: "enough" });
  await until("the program has lost it", () => it.sockets.size === 0);
  expect(headOf(it)[0]).toBe("GET /chat?room=1 HTTP/1.1");
  expect(headOf(it)).toContain(`host: localhost:${it.port}`);
  expect(it.heard()).not.toContain("secret");
  expect(it.heard()).not.toContain(api.admin);
  expect(headOf(it).join()).not.toContain("sec-websocket-extensions");
});

test("WebSocket takes its key from the query, where a browser has to put it", async () => {
  using it = await echo();
  const url = `${api.url.replace("http", "ws")}/v1/sandboxes/${id}/proxy/${it.port}/?access_token=${api.admin}&x=1`;
  const socket = new WebSocket(url);
  await until("it is open", () => socket.readyState === WebSocket.OPEN);
  expect(headOf(it)[0]).toBe("GET /?x=1 HTTP/1.1");
  socket.close();
  const refused = new WebSocket(url.replace("wrn_", "wrn-"));
  const code = await new Promise<number>((resolve) => {
    refused.onclose = (event) => resolve(event.code);
  });
  expect(code).not.toBe(1000);
});

test("WebSocket agrees on a protocol with the program", async () => {
  using it = await speaking(() => undefined, "v2");
  const client = open(it, "/", ["v1", "v2"]);
  await isOpen(client);
  expect(client.socket.protocol).toBe("v2");
  expect(headOf(it)).toContain("sec-websocket-protocol: v1, v2");
  client.socket.close();
});

test("WebSocket passes on how the program closes, and that it broke off", async () => {
  using closes = await speaking((socket) => {
    socket.write(frame(8, Buffer.concat([Uint8Array.of(0x0f, 0xa1), Buffer.from("bye")])));
  });
  const client = open(closes);
  await isOpen(client);
  client.socket.send("x");
  expect(await client.closed).toMatchObject({ code: 4001, reason: "bye" });
  closes[Symbol.dispose]();
  using breaks = await speaking((socket) => socket.destroy());
  const broken = open(breaks);
  await isOpen(broken);
  broken.socket.send("x");
  expect((await broken.closed).code).toBe(1011);
});

for (const [what, bytes, code] of [
  ["a message without an end", Uint8Array.of(0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0), 1009],
  ["text that is none", frame(1, Uint8Array.of(0xff)), 1007],
  ["no frame", Buffer.from("GET / HTTP/1.1\r\n\r\n"), 1002],
] as const) {
  test(`WebSocket is closed when the program sends ${what}`, async () => {
    using it = await speaking((socket) => socket.write(bytes));
    const client = open(it);
    await isOpen(client);
    client.socket.send("x");
    expect((await client.closed).code).toBe(code);
    await until("the program has lost it", () => it.sockets.size === 0);
  });
}

test("WebSocket that the program does not open is a 502 that says why", async () => {
  const upgrade = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
  };
  const ask = async (it: Program) => {
    const { status, body } = await api.call("GET", `/v1/sandboxes/${id}/proxy/${it.port}/`, undefined, {
      headers: upgrade,
    });
    return { status, error: String((body as unknown as { error: string }).error) };
  };
  using refuses = await program((socket) => socket.end("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"));
  expect(await ask(refuses)).toMatchObject({ status: 502, error: expect.stringContaining("answered 403") });
  using lies = await program((socket) => socket.write(accepted("sec-websocket-key: other")));
  expect((await ask(lies)).status).toBe(502);
  using chooses = await program((socket, request) => socket.write(accepted(request, "v9")));
  expect((await ask(chooses)).status).toBe(502);
  using extends_ = await program((socket, request) =>
    socket.write(
      accepted(request).replace(
        "Upgrade: websocket",
        "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate",
      ),
    ),
  );
  expect((await ask(extends_)).status).toBe(502);
  using endless = await program((socket) => socket.write("HTTP/1.1 101 S\r\nA: ".padEnd(100_000, "x")));
  expect((await ask(endless)).status).toBe(502);
});

test("WebSocket makes a program wait whose client does not read", async () => {
  let sent = 0;
  using it = await speaking((socket) => {
    const piece = frame(2, new Uint8Array(MIB / 4));
    const more = () => {
      while (sent < 512 * MIB && !socket.destroyed) {
        sent += piece.length;
        if (!socket.write(piece)) return;
      }
    };
    socket.on("drain", more);
    more();
  });
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: api.server.port as number,
    socket: {
      open: () => undefined,
      data: (socket) => void socket.pause(),
      close: () => undefined,
      error: () => undefined,
    },
  });
  const head = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  ];
  client.write(
    `GET /v1/sandboxes/${id}/proxy/${it.port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.admin}\r\n${head.join("\r\n")}\r\n\r\n`,
  );
  await until("the program is asked", () => it.heard() !== "");
  client.write(Uint8Array.of(0x81, 0x81, 0, 0, 0, 0, 0x61)); // a frame of one byte, which sets it off
  let [last, same] = [-1, 0];
  await until("the program has to wait", () => {
    same = sent === last && sent > 0 ? same + 1 : 0;
    last = sent;
    return same > 30;
  });
  expect(sent).toBeLessThan(64 * MIB);
  client.terminate();
  await until("the program has lost it", () => it.sockets.size === 0);
});

test("WebSocket closes a client that says more than its program reads", async () => {
  using it = await program((socket, request) => {
    socket.write(accepted(request));
    socket.pause();
  });
  const client = open(it);
  await isOpen(client);
  const piece = new Uint8Array(MIB / 2);
  for (let i = 0; i < 128 && client.socket.readyState === WebSocket.OPEN; i++) client.socket.send(piece);
  expect((await client.closed).code).toBe(1013);
  await until("the program has lost it", () => it.sockets.size === 0 || [...it.sockets].every((s) => s.isPaused()));
});

test("WebSocket counts among all that waits for its account, and is closed when there is no room", async () => {
  using it = await program((socket, request) => {
    socket.write(accepted(request));
    socket.pause();
  });
  await until("nothing waits", () => waiting?.bytes === 0);
  const elsewhere = waiting?.charge("admin");
  expect(elsewhere?.level(BOUNDS.waitingBytesPerAccount - MIB / 4)).toBe(true);
  const client = open(it);
  await isOpen(client);
  client.socket.send(new Uint8Array(MIB / 2));
  expect((await client.closed).code).toBe(1013);
  elsewhere?.close();
  await until("all is given back", () => waiting?.bytes === 0);
});

test("WebSocket whose program sends no end of a message is closed when there is no room for it", async () => {
  const part = Buffer.concat([Uint8Array.of(0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0), Buffer.alloc(MIB / 2)]);
  using it = await speaking((socket) => socket.write(part));
  const reader = new FrameReader();
  reader.take(part);
  expect(reader.cost).toBe(MIB / 2 + BOUNDS.waitingPieceBytes);
  const client = open(it);
  await isOpen(client);
  const elsewhere = waiting?.charge("admin");
  expect(elsewhere?.level(BOUNDS.waitingBytesPerAccount - MIB / 4)).toBe(true);
  client.socket.send("x");
  expect((await client.closed).code).toBe(1013);
  elsewhere?.close();
  await until("all is given back", () => waiting?.bytes === 0);
});
