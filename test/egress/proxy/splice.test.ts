/** TLS without a secret: told apart by its SNI, and carried through untouched. */

import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import { settle } from "../../harness/clock.ts";
import { until } from "../../harness/until.ts";
import { clientHello, get, NAMES, VALUE, world } from "./world.ts";

test("TLS to an allowed name goes through untouched, and the guest sees the host's own certificate", async () => {
  await using here = await world();
  const talk = here.tls(NAMES.open, { trust: [here.worldPem] }).say(get(NAMES.open, "/x"));
  await talk.hears("GET /x HTTP/1.1");
  expect(here.heard()).not.toContain(VALUE);
  expect(here.events).toMatchObject([{ name: NAMES.open, port: 443, verdict: "allowed", address: "127.0.0.1" }]);
});

test("TLS to a name that is not allowed ends with an alert, and nothing is connected", async () => {
  await using here = await world();
  const talk = here.tls(NAMES.denied);
  await talk.isOver();
  expect(talk.error).toContain("ACCESS_DENIED");
  expect(here.served()).toBe(0);
  expect(here.events).toMatchObject([{ name: NAMES.denied, port: 443, verdict: "refused", address: null }]);
});

test("TLS without a name is refused: there is nothing to hold it to", async () => {
  await using here = await world();
  const talk = here.tls("");
  await talk.isOver();
  expect(talk.error).toContain("UNRECOGNIZED_NAME");
  expect(here.events).toMatchObject([{ name: null, verdict: "refused" }]);
  expect(here.served()).toBe(0);
});

test("A name without an address that may be reached is refused, one whose resolver fails is not reached", async () => {
  await using here = await world({ resolve: () => Promise.resolve([]) });
  await here.tls(NAMES.open).isOver();
  expect(here.events).toMatchObject([{ verdict: "refused", reason: expect.stringContaining("no address") }]);
  expect(
    await here
      .plain()
      .say(get(NAMES.open, "/", "Connection: close"))
      .isOver(),
  ).toStartWith("HTTP/1.1 403 ");
  await using broken = await world({ resolve: () => Promise.reject(new Error("the resolver's own words")) });
  await broken.tls(NAMES.open).isOver();
  expect(broken.events).toMatchObject([{ verdict: "allowed", reason: expect.stringContaining("no answer") }]);
  const answer = await broken.plain().say(get(NAMES.open)).isOver();
  expect(answer).toStartWith("HTTP/1.1 502 ");
  expect(answer).not.toContain("own words");
});

const MIB = 1024 * 1024;
const TOTAL = 32 * MIB;

/** Bytes that repeat nowhere near a buffer's size. */
function block(index: number): Uint8Array {
  const bytes = new Uint32Array(MIB / 4);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i + index * bytes.length, 0x9e3779b1);
  return new Uint8Array(bytes.buffer);
}

function expected(): string {
  const hash = createHash("sha256");
  for (let i = 0; i < TOTAL / MIB; i++) hash.update(block(i));
  return hash.digest("hex");
}

async function send(socket: Socket): Promise<void> {
  for (let i = 0; i < TOTAL / MIB; i++) {
    if (!socket.write(block(i))) await new Promise((resolve) => socket.once("drain", resolve));
  }
}

interface Sum {
  bytes: number;
  ended: boolean;
  digest(): string;
}

/** Of what comes, but for the first `skip` bytes. */
function receive(socket: Socket, skip = 0): Sum {
  const hash = createHash("sha256");
  const sum: Sum = { bytes: -skip, ended: false, digest: () => hash.copy().digest("hex") };
  socket.on("data", (bytes: Uint8Array) => {
    hash.update(bytes.subarray(Math.min(bytes.length, Math.max(0, -sum.bytes))));
    sum.bytes += bytes.length;
  });
  socket.on("end", () => (sum.ended = true));
  return sum;
}

test("A splice carries 32 MiB of TLS each way at once, whole and in order", async () => {
  const got: Sum[] = [];
  const serve = (socket: Socket): void => {
    got.push(receive(socket));
    void send(socket);
  };
  await using here = await world({ serve });
  const socket = here.tlsSocket(NAMES.open);
  const received = receive(socket);
  await send(socket);
  await until("all of it", () => received.bytes >= TOTAL && (got[0]?.bytes ?? 0) >= TOTAL, 50_000);
  expect([received.digest(), got[0]?.digest()]).toEqual([expected(), expected()]);
}, 60_000);

test("A splice carries each side's end on its own, behind the last of 32 MiB", async () => {
  const hello = await clientHello(NAMES.open);
  const got: Sum[] = [];
  const serve = (socket: Socket): void => {
    got.push(receive(socket, hello.length));
    void send(socket).then(() => socket.end());
  };
  await using here = await world({ serve, bare: true });
  const socket = here.plainSocket();
  const received = receive(socket);
  socket.write(hello);
  await send(socket);
  socket.end();
  await until("both ends", () => received.ended && got[0]?.ended === true, 50_000);
  expect([received.bytes, got[0]?.bytes]).toEqual([TOTAL, TOTAL]);
  expect([received.digest(), got[0]?.digest()]).toEqual([expected(), expected()]);
}, 60_000);

test("A splice whose guest has ended its side gives it all that comes after, and only then closes", async () => {
  const serve = (socket: Socket): void => {
    socket.on("end", () => void send(socket).then(() => socket.end()));
    socket.resume();
  };
  await using here = await world({ serve, bare: true });
  const socket = here.plainSocket();
  const received = receive(socket);
  socket.end(await clientHello(NAMES.open));
  await until("the end", () => received.ended, 50_000);
  expect([received.bytes, received.digest()]).toEqual([TOTAL, expected()]);
}, 60_000);

test("What nobody reads stays with the sender: a splice holds little of a flood", async () => {
  const stalled: Socket[] = [];
  await using here = await world({
    serve: (socket) => {
      socket.pause();
      socket.removeAllListeners("data");
      socket.pause();
      stalled.push(socket);
    },
  });
  const flood = Array.from({ length: 8 }, () => here.tlsSocket(NAMES.open));
  await Promise.all(flood.map((socket) => new Promise((resolve) => socket.once("secureConnect", resolve))));
  const chunk = Buffer.alloc(256 * 1024, 7);
  let sent = 0;
  for (const socket of flood) {
    const more = (): void => {
      sent += chunk.length;
      if (socket.write(chunk)) setImmediate(more);
      else socket.once("drain", more);
    };
    more();
  }
  // Until nothing moves any more: what was taken then is in buffers of kernels and ours, not growing.
  let [before, still] = [-1, 0];
  await until("the flood to stand still", async () => {
    still = sent === before ? still + 1 : 0;
    before = sent;
    await settle();
    return still > 50;
  });
  expect(stalled.length).toBe(8);
  expect(sent / flood.length).toBeLessThan(24 * MIB);
}, 60_000);
