/** The host half of a dial against guests that lie: each lie ends the connection to the guest, and holds no memory. */
import { describe, expect, test } from "bun:test";
import type { Link } from "../../../src/driver/driver.ts";
import { pipe } from "../../../src/driver/fake/pipe.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { GuestAgent } from "../../../src/guest/agent.ts";
import { encodeFrame, FrameDecoder } from "../../../src/guest/codec.ts";
import { encodeFields, type Field } from "../../../src/guest/fields.ts";
import { ASK, SAY, TAG } from "../../../src/guest/protocol.ts";
import { LIMITS } from "../../../src/limits.ts";
import { FakeClock } from "../../harness/clock.ts";

type Said = readonly [type: number, payload?: readonly Field[] | Uint8Array];

const payloadOf = (payload: readonly Field[] | Uint8Array = []) =>
  payload instanceof Uint8Array ? payload : encodeFields(payload);

interface Dialled {
  readonly agent: GuestAgent;
  /** Types of frames that came after the dial. */
  readonly heard: number[];
  readonly stream: AsyncGenerator<Uint8Array>;
}

const HELLO: Said = [
  SAY.HELLO,
  [
    [TAG.VERSION, 1],
    [TAG.NONCE, new Uint8Array(16)],
    [TAG.AGENT, "liar"],
  ],
];

/** Answers a greeting, and a dial with exactly these frames; all else is only heard. */
async function play(guest: Link, answers: readonly Said[], heard: number[]): Promise<void> {
  const decoder = new FrameDecoder();
  const known: Readonly<Record<number, readonly Said[]>> = { [ASK.HELLO]: [HELLO], [ASK.DIAL]: answers };
  for await (const chunk of guest.bytes) {
    for (const { type, channel } of decoder.push(chunk)) {
      const said = known[type];
      if (said === undefined) heard.push(type);
      for (const [kind, payload] of said ?? []) await guest.write(encodeFrame(kind, channel, payloadOf(payload)));
    }
  }
}

/** An agent whose guest answers a dial with exactly these frames. */
async function dialled(answers: readonly Said[], body = ""): Promise<Dialled> {
  const { host, guest } = pipe();
  const heard: number[] = [];
  void play(guest, answers, heard).catch(() => undefined); // the host has hung up on it
  const agent = await GuestAgent.connect(host, { clock: new FakeClock() });
  return { agent, heard, stream: agent.dial({ port: 80 }, body) };
}

async function codeOf(stream: AsyncIterable<Uint8Array>): Promise<string> {
  try {
    for await (const _ of stream) void _;
    return "ended";
  } catch (cause) {
    return isWarrenError(cause) ? cause.code : String(cause);
  }
}

const refusal = (errno: number): Said => [
  SAY.ERROR,
  [
    [TAG.ERRNO, errno],
    [TAG.TEXT, "\u001b[2Jtext of the guest"],
  ],
];

describe("A dial to a guest that lies", () => {
  const lies: readonly (readonly [string, readonly Said[]])[] = [
    ["ends before it has begun", [[SAY.DONE]]],
    ["sends before it has begun", [[SAY.OUT, new Uint8Array(1)]]],
    ["ends its direction before it has begun", [[SAY.SHUT]]],
    ["ends without the end of its direction", [[SAY.STARTED], [SAY.DONE]]],
    ["sends after the end of its direction", [[SAY.STARTED], [SAY.SHUT], [SAY.OUT, new Uint8Array(1)]]],
    ["ends its direction twice", [[SAY.STARTED], [SAY.SHUT], [SAY.SHUT]]],
    ["begins twice", [[SAY.STARTED], [SAY.STARTED]]],
    ["sends data of another kind", [[SAY.STARTED], [SAY.CHUNK, new Uint8Array(1)]]],
    ["sends errors as output", [[SAY.STARTED], [SAY.ERR, new Uint8Array(1)]]],
    ["sends gaps", [[SAY.STARTED], [SAY.GAP, [[TAG.BYTES, 1]]]]],
    ["exits", [[SAY.STARTED], [SAY.EXIT, [[TAG.CODE, 0]]]]],
    ["sends an empty piece", [[SAY.STARTED], [SAY.OUT, new Uint8Array(0)]]],
  ];
  for (const [what, answers] of lies) {
    test(`A dial to a guest that ${what} ends the connection to it`, async () => {
      const { agent, stream } = await dialled(answers);
      await stream.next().catch(() => undefined); // told by the loss
      await codeOf(stream);
      expect((await agent.lost).code).toBe("guest_protocol");
    });
  }

  test("A dial to a guest that sends more than its credit ends the connection to it", async () => {
    const flood = Array.from({ length: 5 }, (): Said => [SAY.OUT, new Uint8Array(LIMITS.frameBytes)]);
    const { agent, stream } = await dialled([[SAY.STARTED], ...flood]);
    await stream.next();
    expect((await agent.lost).code).toBe("guest_protocol");
  });

  test("A dial that a guest refuses is an error of the call, in our words, and the guest goes on", async () => {
    for (const [errno, code] of [
      [111, "wrong_state"],
      [110, "guest_unresponsive"],
      [104, "wrong_state"],
      [9999, "wrong_state"],
    ] as const) {
      for (const answers of [[refusal(errno)], [[SAY.STARTED], refusal(errno)] as Said[]]) {
        const { agent, stream } = await dialled(answers);
        expect(await codeOf(stream)).toBe(code);
        expect(await Promise.race([agent.lost, Promise.resolve("alive")])).toBe("alive");
      }
    }
  });

  test("A dial sends no byte without credit, and one cancel when it is left", async () => {
    const { stream, heard } = await dialled([[SAY.STARTED], [SAY.OUT, new Uint8Array(3)]], "body");
    expect((await stream.next()).value).toHaveLength(0);
    expect((await stream.next()).value).toHaveLength(3);
    expect(heard).toEqual([]);
    await stream.return(undefined);
    await stream.return(undefined);
    for (let i = 0; i < 20; i++) await Promise.resolve();
    expect(heard).toEqual([ASK.CANCEL]);
  });
});
