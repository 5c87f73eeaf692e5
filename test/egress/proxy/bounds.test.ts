/** What a hostile guest can do to the proxy by being slow, large, many or senseless: nothing that lasts. */

import { expect, test } from "bun:test";
import type { Socket } from "node:net";
import { systemClock } from "../../../src/base/clock.ts";
import { BOUNDS } from "../../../src/egress/proxy/bounds.ts";
import { ChunkDecoder } from "../../../src/egress/proxy/http/chunked.ts";
import { understand } from "../../../src/egress/proxy/session.ts";
import { FakeClock } from "../../harness/clock.ts";
import { until } from "../../harness/until.ts";
import { clientHello, get, NAMES, type Talk, world } from "./world.ts";

/** Until the proxy has taken the connections and set their timers. */
async function taken(clock: FakeClock, count: number): Promise<void> {
  await until(`${count} timers`, () => clock.waiting >= count);
}

/** Moves time in small steps until `talk` is over; the answer is how much of it that took. */
async function timeUntilOver(clock: FakeClock, talk: Talk, mostMs: number): Promise<number> {
  const from = clock.monotonicMs();
  while (!talk.closed && !talk.ended && clock.monotonicMs() - from < mostMs) await clock.advance(mostMs / 50);
  return clock.monotonicMs() - from;
}

const SLOW: Readonly<Record<string, string>> = {
  nothing: "",
  "half a request": "GET / HTTP/1.1\r\nHost: a.te",
  "half a ClientHello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
};

for (const [what, bytes] of Object.entries(SLOW)) {
  test(`A guest that sends ${what} and waits is hung up on after the time for a head, however it trickles`, async () => {
    const clock = new FakeClock();
    await using here = await world({ clock });
    const talk = here.plain().say(bytes);
    await taken(clock, 1);
    await clock.advance(BOUNDS.headMs * 0.9);
    expect(talk.closed).toBe(false);
    if (bytes !== "") talk.say("\x01");
    await timeUntilOver(clock, talk, BOUNDS.headMs * 2);
    expect(clock.monotonicMs() - 1000).toBeLessThanOrEqual(BOUNDS.headMs * 1.3);
    await talk.isOver();
    expect(here.served()).toBe(0);
  });
}

test("A TLS handshake that stops half way is hung up on", async () => {
  const clock = new FakeClock();
  await using here = await world({ clock });
  const hello = await clientHello(NAMES.secret);
  const talk = here.plain().say(hello);
  await talk.hears("\x16\x03");
  await clock.advance(BOUNDS.headMs + 1);
  await talk.isOver();
});

test("A connection between two requests is kept a minute, one that waits for its answer far longer", async () => {
  const clock = new FakeClock();
  const waiting: Socket[] = [];
  await using here = await world({ clock, serve: (socket) => waiting.push(socket) });
  const talk = here.plain().say(get("a.test"));
  await until("the request", () => here.heard().includes("\r\n\r\n"));
  await clock.advance(BOUNDS.exchangeIdleMs * 0.9);
  expect(talk.closed).toBe(false);
  waiting[0]?.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  await talk.hears("ok");
  await until("the idle timer", () => clock.waiting > 0);
  const tookMs = await timeUntilOver(clock, talk, BOUNDS.idleMs * 2);
  expect(tookMs).toBeGreaterThan(BOUNDS.idleMs * 0.9);
  expect(tookMs).toBeLessThan(BOUNDS.idleMs * 1.1);
});

test("A guest that has hung up does not keep an exchange that nobody answers", async () => {
  const clock = new FakeClock();
  await using here = await world({ clock, serve: () => undefined });
  const talk = here.plain().say(get("a.test"));
  await until("the request", () => here.heard().includes("\r\n\r\n"));
  talk.end();
  const tookMs = await timeUntilOver(clock, talk, BOUNDS.exchangeIdleMs);
  expect(tookMs).toBeLessThan(BOUNDS.idleMs * 1.5);
});

test("A head is as large as it may be, and not larger", async () => {
  await using here = await world();
  const padded = (bytes: number): string => {
    const bare = get("a.test", "/", "X: ");
    return get("a.test", "/", `X: ${"x".repeat(bytes - bare.length)}`);
  };
  await here.plain().say(padded(BOUNDS.headBytes)).hears("x\r\n\r\n");
  const talk = here.plain().say(padded(BOUNDS.headBytes + 1));
  expect(await talk.isOver()).toStartWith("HTTP/1.1 400 ");
  const many = Array.from({ length: BOUNDS.headFields + 1 }, (_, i) => `X-${i}: y`);
  expect(
    await here
      .plain()
      .say(get("a.test", "/", ...many))
      .isOver(),
  ).toStartWith("HTTP/1.1 400 ");
  await here
    .plain()
    .say(get("a.test", "/", ...many.slice(2)))
    .hears("X-100: y");
});

test("Judging what a guest sends takes time by its length alone, whatever it is made of", () => {
  const spaces = " ".repeat(BOUNDS.headBytes - 40);
  const heads = [
    `X:${spaces}\x01`,
    `X:\t${spaces}`,
    `X: ${"a ".repeat(32_000)}\x01`,
    `Connection: ${",".repeat(60_000)}`,
  ];
  const started = systemClock.monotonicMs();
  for (const field of heads)
    understand(Buffer.from(get("a.test", "/", field), "latin1"), { scheme: "http", only: null });
  // 522 KB in chunks of one byte.
  const chunks = new ChunkDecoder().push(Buffer.from("1\r\nx\r\n".repeat(87_000)));
  expect(chunks.data.length).toBe(87_000);
  expect(systemClock.monotonicMs() - started).toBeLessThan(1500); // 40 ms measured; an expression that tries again took 3 s for the first
});

test("A head that never ends is given up at its bound, not held", async () => {
  await using here = await world();
  const talk = here.plain().say("GET / HTTP/1.1\r\nHost: a.test\r\n");
  for (let i = 0; i < 64 && !talk.ended; i++) talk.say(`X: ${"y".repeat(4000)}\r\n`);
  expect(await talk.isOver()).toStartWith("HTTP/1.1 400 ");
});

test("What is neither TLS nor HTTP is closed without a word", async () => {
  await using here = await world();
  for (const bytes of [
    "\0\0\0\0",
    "\x80\x2e\x01\x03\x01",
    "\x05\x01\x00",
    "{}",
    "\r\n\r\n",
    "\xff\xff",
    "\x15\x03\x03\x00\x02\x02\x28",
  ]) {
    expect(await here.plain().say(bytes).isOver()).toBe("");
  }
  expect(here.events.length).toBe(7);
  expect(new Set(here.events.map(({ reason }) => reason))).toEqual(new Set(["neither TLS nor HTTP"]));
  expect(here.served()).toBe(0);
});

test("A sandbox has so many connections and no more; one that ends makes room", async () => {
  await using here = await world();
  const held = Array.from({ length: BOUNDS.connections }, () => here.plain().say("GET"));
  await until("all to be taken", () => held.every(({ closed }) => !closed));
  const probe = async (): Promise<boolean> => {
    const talk = here.plain().say(get("a.test"));
    await until("an answer or the end", () => talk.closed || talk.ended || talk.text.includes("200 OK"));
    const good = talk.text.includes("200 OK");
    talk.destroy();
    return good;
  };
  await until("no room", async () => !(await probe()));
  expect(here.logged.filter((line) => line.includes("as many connections")).length).toBeGreaterThan(0);
  held[0]?.destroy();
  await until("room again", probe);
}, 60_000);

test("A ClientHello may come byte by byte and in many records", async () => {
  await using here = await world();
  const hello = await clientHello(NAMES.denied);
  const inner = hello.subarray(5);
  const records: Uint8Array[] = [];
  for (let at = 0; at < inner.length; at += 40) {
    const part = inner.subarray(at, at + 40);
    records.push(Uint8Array.of(22, 3, 1, 0, part.length), part);
  }
  const talk = here.plain();
  for (const byte of Buffer.concat(records)) talk.say(Uint8Array.of(byte));
  await talk.isOver();
  expect(here.events).toMatchObject([
    { name: NAMES.denied, verdict: "refused", reason: "the policy does not allow it" },
  ]);
});
