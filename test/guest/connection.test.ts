/** The host half against guests that lie, stall, flood or hang up: every one ends as one error, and holds no memory. */
import { describe, expect, test } from "bun:test";
import { GuestAgent } from "../../src/guest/agent.ts";
import { encodeFrame } from "../../src/guest/codec.ts";
import { decodeFields, type Field } from "../../src/guest/fields.ts";
import { ASK, SAY, TAG } from "../../src/guest/protocol.ts";
import { LIMITS } from "../../src/limits.ts";
import { settle } from "../harness/clock.ts";
import { drain, failure, Played } from "./live/played.ts";

const STARTED: Field[] = [
  [TAG.PROCESS, 1],
  [TAG.PID, 2],
];

describe("GuestAgent.connect", () => {
  test("GuestAgent.connect finds the greeting behind what an earlier connection left", async () => {
    for (const cuts of [1, 3, 7, 64]) {
      const guest = new Played();
      const connecting = GuestAgent.connect(guest.host, { clock: guest.clock });
      const { channel } = await guest.request(ASK.HELLO);
      const stale = encodeFrame(SAY.OUT, 4, new Uint8Array(300).fill(0x81)).subarray(37);
      const all = Buffer.concat([stale, guest.greeting(channel ^ 1), guest.greeting(channel)]);
      for (let at = 0; at < all.length; at += cuts) await guest.raw(all.subarray(at, at + cuts));
      const agent = await connecting;
      expect([agent.version, agent.bootNonce]).toEqual(["played", "07".repeat(16)]);
      agent.close();
    }
  });

  test("GuestAgent.connect greets again behind padding when nothing answers, and takes both answers", async () => {
    const guest = new Played();
    const connecting = GuestAgent.connect(guest.host, { clock: guest.clock });
    const first = await guest.request(ASK.HELLO);
    await guest.clock.advance(LIMITS.guestResyncMs);
    const second = await guest.request(ASK.HELLO);
    expect(second.channel).toBe(first.channel);
    await guest.raw(guest.greeting(first.channel));
    const agent = await connecting;
    await guest.raw(guest.greeting(first.channel));
    const pinged = agent.ping();
    await guest.say(SAY.PONG, (await guest.request(ASK.PING)).channel);
    await pinged;
    agent.close();
  });

  test("GuestAgent.connect gives up at its deadline, at another version, and when it is aborted", async () => {
    const silent = new Played();
    const waiting = failure(GuestAgent.connect(silent.host, { clock: silent.clock, helloMs: 1000 }));
    await silent.clock.advance(1001);
    expect((await waiting).code).toBe("guest_unresponsive");
    const other = new Played();
    const refused = failure(GuestAgent.connect(other.host, { clock: other.clock }));
    const { channel } = await other.request(ASK.HELLO);
    await other.say(SAY.ERROR, channel, [
      [TAG.ERRNO, 93],
      [TAG.TEXT, "no"],
    ]);
    expect((await refused).code).toBe("guest_protocol");
    const aborted = new Played();
    const abort = new AbortController();
    const cancelled = failure(GuestAgent.connect(aborted.host, { clock: aborted.clock, signal: abort.signal }));
    abort.abort();
    expect((await cancelled).code).toBe("cancelled");
  });
});

describe("GuestAgent", () => {
  /** What a guest may not do; each ends the connection, every call on it, and every later one. */
  const crimes: Readonly<Record<string, (guest: Played, channel: number) => Promise<void>>> = {
    "answers on a channel that nobody opened": (guest) => guest.say(SAY.DONE, 77),
    "sends a frame beyond the bound": (guest, channel) => {
      const bytes = encodeFrame(SAY.OUT, channel);
      new DataView(bytes.buffer).setUint32(0, LIMITS.frameBytes + 1, true);
      return guest.raw(bytes);
    },
    "sends a frame that only hosts send": (guest, channel) => guest.say(ASK.EXEC, channel),
    "sends output beyond its credit": (guest, channel) => {
      const frame = encodeFrame(SAY.OUT, channel, new Uint8Array(LIMITS.frameBytes));
      const count = LIMITS.streamWindowBytes / LIMITS.frameBytes + 1;
      return guest.raw(new Uint8Array(Buffer.concat(Array.from({ length: count }, () => frame))));
    },
    "sends an empty piece of output": (guest, channel) => guest.say(SAY.OUT, channel),
    "starts twice": async (guest, channel) => {
      await guest.say(SAY.STARTED, channel, STARTED);
      await guest.say(SAY.STARTED, channel, STARTED);
    },
    "starts without a number": (guest, channel) => guest.say(SAY.STARTED, channel),
    "exits with an impossible code": (guest, channel) => guest.say(SAY.EXIT, channel, exit(256, 0)),
    "exits by no signal": (guest, channel) => guest.say(SAY.EXIT, channel, exit(-1, 0)),
    "exits twice over": (guest, channel) => guest.say(SAY.EXIT, channel, exit(1, 9)),
    "exits without saying how": (guest, channel) => guest.say(SAY.EXIT, channel),
    "sends chunks as output": (guest, channel) => guest.say(SAY.CHUNK, channel, Uint8Array.of(1)),
    "goes on after the end": async (guest, channel) => {
      await guest.say(SAY.EXIT, channel, exit(0, 0));
      await guest.say(SAY.OUT, channel, Uint8Array.of(1));
    },
    "sends fields that run past their frame": (guest, channel) =>
      guest.say(SAY.EXIT, channel, Uint8Array.of(17, 255, 0, 0, 0)),
    pongs: (guest, channel) => guest.say(SAY.PONG, channel),
  };

  function exit(code: number, signal: number): Field[] {
    return [
      [TAG.CODE, code],
      [TAG.SIGNAL, signal],
      [TAG.FLAGS, 0],
      [TAG.STDOUT_BYTES, 0],
      [TAG.STDERR_BYTES, 0],
      [TAG.DURATION_US, 1],
    ];
  }

  for (const [crime, commit] of Object.entries(crimes)) {
    test(`GuestAgent believes nothing more from a guest that ${crime}`, async () => {
      const guest = new Played();
      const agent = await guest.agent();
      const beside = failure(agent.ping());
      const events = agent.exec({ cmd: "true" });
      // What comes after a proper end is noticed by the connection alone, so a last call asks for it.
      const over = failure(drain(events).then(() => agent.ping()));
      const { channel } = await guest.request(ASK.EXEC);
      await commit(guest, channel).catch(() => undefined); // the link may close under the crime
      await settle();
      await over;
      expect((await agent.lost).code).toBe("guest_protocol");
      expect((await beside).code).toBe("guest_protocol");
      expect((await failure(agent.stat({ path: "/" }))).code).toBe("guest_protocol");
    });
  }

  test("GuestAgent counts output again, whatever the guest says of its limit", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const run = failure(drain(agent.exec({ cmd: "yes", outputLimitBytes: 10 })));
    const { channel } = await guest.request(ASK.EXEC);
    await guest.say(SAY.STARTED, channel, STARTED);
    await guest.say(SAY.OUT, channel, new Uint8Array(11));
    expect((await run).code).toBe("guest_protocol");
  });

  test("GuestAgent fails every call when the guest hangs up, and not when it is closed", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const calls = [
      failure(agent.ping()),
      failure(drain(agent.exec({ cmd: "x" }))),
      failure(agent.stat({ path: "/x" })),
    ];
    await guest.request(ASK.STAT);
    guest.hangUp();
    for (const call of calls) expect((await call).code).toBe("sandbox_lost");
    expect((await agent.lost).code).toBe("sandbox_lost");

    const other = new Played();
    const closed = await other.agent();
    const pinged = failure(closed.ping());
    closed.close();
    closed.close();
    expect((await pinged).code).toBe("sandbox_lost");
    expect(await Promise.race([closed.lost, settle().then(() => "not lost")])).toBe("not lost");
  });

  test("GuestAgent gives a command up only when the guest is late, not when its reader is slow", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const events = agent.exec({ cmd: "x", timeoutSeconds: 10 })[Symbol.asyncIterator]();
    const first = events.next();
    const { channel } = await guest.request(ASK.EXEC);
    await guest.say(SAY.STARTED, channel, STARTED);
    await first;
    await guest.say(SAY.OUT, channel, Uint8Array.of(1));
    await settle();
    await guest.clock.advance(3_600_000); // the reader is away for an hour
    expect((await events.next()).value).toEqual({ kind: "stdout", bytes: Uint8Array.of(1) });
    const late = failure(Promise.resolve(events.next()));
    await guest.clock.advance(LIMITS.guestGraceMs - 1);
    expect(await Promise.race([late, settle().then(() => null)])).toBeNull();
    await guest.clock.advance(2);
    expect((await late).code).toBe("guest_unresponsive");
    expect((await guest.request(ASK.CANCEL)).channel).toBe(channel);
    agent.close();
  });

  test("GuestAgent waits as long as a command may take, and a grace, for its first word", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const late = failure(drain(agent.exec({ cmd: "x", timeoutSeconds: 100 })));
    await guest.request(ASK.EXEC);
    await guest.clock.advance(100_000 + LIMITS.guestGraceMs - 1);
    expect(await Promise.race([late, settle().then(() => null)])).toBeNull();
    await guest.clock.advance(2);
    expect((await late).code).toBe("guest_unresponsive");
    agent.close();
  });

  test("GuestAgent drops what a cancelled call still brings, up to its last answer", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const events = agent.exec({ cmd: "yes" })[Symbol.asyncIterator]();
    const first = events.next();
    const { channel } = await guest.request(ASK.EXEC);
    await guest.say(SAY.STARTED, channel, STARTED);
    await first;
    await events.return?.(undefined);
    expect((await guest.request(ASK.CANCEL)).channel).toBe(channel);
    for (let i = 0; i < 4; i++) await guest.say(SAY.OUT, channel, new Uint8Array(LIMITS.frameBytes));
    await guest.say(SAY.EXIT, channel, exit(-1, 9));
    const pinged = agent.ping();
    await guest.say(SAY.PONG, (await guest.request(ASK.PING)).channel);
    await pinged;
    agent.close();
  });

  test("GuestAgent does not listen for ever to a call that it has cancelled", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const events = agent.exec({ cmd: "yes" })[Symbol.asyncIterator]();
    const first = events.next();
    const { channel } = await guest.request(ASK.EXEC);
    await guest.say(SAY.STARTED, channel, STARTED);
    await first;
    await events.return?.(undefined);
    for (let i = 0; i < 5; i++) {
      await guest.say(SAY.OUT, channel, new Uint8Array(LIMITS.frameBytes)).catch(() => undefined); // it has hung up
    }
    expect((await agent.lost).code).toBe("guest_protocol");
  });

  test("GuestAgent grants credit only for what its reader has taken", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const bytes = agent.readFile({ path: "/big" })[Symbol.asyncIterator]();
    const first = bytes.next();
    const { channel } = await guest.request(ASK.GET);
    for (let i = 0; i < 4; i++) await guest.say(SAY.CHUNK, channel, new Uint8Array(LIMITS.frameBytes));
    await settle();
    await first;
    await settle();
    const granted = guest.asked.filter((frame) => frame.type === ASK.CREDIT);
    expect(granted.map((frame) => decodeFields(frame.payload).number(TAG.BYTES))).toEqual([LIMITS.frameBytes]);
    await bytes.return?.(undefined);
    agent.close();
  });

  test("GuestAgent joins single bytes, so that a dribble costs no more than a flood", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const events = agent.exec({ cmd: "x" })[Symbol.asyncIterator]();
    const first = events.next();
    const { channel } = await guest.request(ASK.EXEC);
    await guest.say(SAY.STARTED, channel, STARTED);
    await first;
    const one = encodeFrame(SAY.OUT, channel, Uint8Array.of(7));
    await guest.raw(new Uint8Array(Buffer.concat(Array.from({ length: 10_000 }, () => one))));
    await guest.say(SAY.EXIT, channel, exit(0, 0));
    await settle();
    let pieces = 0;
    let total = 0;
    for await (const event of { [Symbol.asyncIterator]: () => events }) {
      if (event.kind !== "stdout") continue;
      pieces++;
      total += event.bytes.length;
    }
    expect([pieces, total]).toEqual([3, 10_000]);
    agent.close();
  });

  test("GuestAgent refuses more calls at once than a port has channels", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const pings = Array.from({ length: LIMITS.channels }, () => failure(agent.ping()));
    expect((await failure(agent.ping())).code).toBe("capacity_exhausted");
    guest.hangUp();
    await Promise.all(pings);
  });

  test("GuestAgent reports a request that is too large as the caller's", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    const argv = Array.from({ length: 20_000 }, () => "x");
    expect((await failure(drain(agent.exec({ argv })))).code).toBe("invalid_request");
    agent.close();
  });

  test("GuestAgent.writeFile waits for credit and stops when the guest refuses", async () => {
    const guest = new Played();
    const agent = await guest.agent();
    let taken = 0;
    async function* body() {
      for (;;) {
        taken++;
        yield new Uint8Array(100_000);
      }
    }
    const written = failure(agent.writeFile({ path: "/f", body: body() }));
    const { channel } = await guest.request(ASK.PUT);
    await settle();
    expect(taken).toBe(1);
    await guest.say(SAY.CREDIT, channel, [[TAG.BYTES, 150_000]]);
    await settle();
    expect(taken).toBe(2);
    const sent = guest.asked.filter((frame) => frame.type === ASK.DATA);
    expect(sent.reduce((sum, frame) => sum + frame.payload.length, 0)).toBe(150_000);
    await guest.say(SAY.ERROR, channel, [
      [TAG.ERRNO, 28],
      [TAG.TEXT, "/f: No space left on device"],
    ]);
    const error = await written;
    expect([error.code, error.details]).toEqual(["file_error", { errno: "ENOSPC" }]);
    agent.close();
  });
});
