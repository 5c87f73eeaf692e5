/** The host half of watches and terminals against guests that lie, and against agents of an earlier version. */
import { describe, expect, test } from "bun:test";
import type { Link } from "../../../src/driver/driver.ts";
import { pipe } from "../../../src/driver/fake/pipe.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { GuestAgent } from "../../../src/guest/agent.ts";
import { encodeFrame, FrameDecoder } from "../../../src/guest/codec.ts";
import { encodeFields, type Field } from "../../../src/guest/fields.ts";
import { ASK, SAY, TAG } from "../../../src/guest/protocol.ts";
import { encodeChangeRecord } from "../../../src/guest/records.ts";
import { LIMITS } from "../../../src/limits.ts";
import { FakeClock } from "../../harness/clock.ts";

type Said = readonly [type: number, payload?: readonly Field[] | Uint8Array];

const payloadOf = (payload: readonly Field[] | Uint8Array = []) =>
  payload instanceof Uint8Array ? payload : encodeFields(payload);

const HELLO: Said = [
  SAY.HELLO,
  [
    [TAG.VERSION, 1],
    [TAG.NONCE, new Uint8Array(16)],
    [TAG.AGENT, "liar"],
  ],
];

/** Answers a greeting, and requests of this type with exactly these frames; all else is only heard. */
async function play(guest: Link, asked: number, answers: readonly Said[], heard: number[]): Promise<void> {
  const decoder = new FrameDecoder();
  const known: Readonly<Record<number, readonly Said[]>> = { [ASK.HELLO]: [HELLO], [asked]: answers };
  for await (const chunk of guest.bytes) {
    for (const { type, channel } of decoder.push(chunk)) {
      const said = known[type];
      if (said === undefined) heard.push(type);
      for (const [kind, payload] of said ?? []) await guest.write(encodeFrame(kind, channel, payloadOf(payload)));
    }
  }
}

async function liar(asked: number, answers: readonly Said[]): Promise<{ agent: GuestAgent; heard: number[] }> {
  const { host, guest } = pipe();
  const heard: number[] = [];
  void play(guest, asked, answers, heard).catch(() => undefined); // the host has hung up on it
  return { agent: await GuestAgent.connect(host, { clock: new FakeClock() }), heard };
}

async function codeOf(stream: AsyncIterable<unknown>): Promise<string> {
  try {
    for await (const _ of stream) void _;
    return "ended";
  } catch (cause) {
    return isWarrenError(cause) ? cause.code : String(cause);
  }
}

const change = encodeChangeRecord({ kind: "created", directory: false, path: Uint8Array.of(97) });
const refusal = (errno: number): Said => [
  SAY.ERROR,
  [
    [TAG.ERRNO, errno],
    [TAG.TEXT, "\u001b[2Jtext of the guest"],
  ],
];

describe("A watch of a guest that lies", () => {
  const lies: readonly (readonly [string, readonly Said[]])[] = [
    ["ends before it has begun", [[SAY.DONE]]],
    ["tells before it has begun", [[SAY.CHUNK, change]]],
    ["begins twice", [[SAY.STARTED], [SAY.STARTED]]],
    ["tells of another kind", [[SAY.STARTED], [SAY.OUT, change]]],
    ["tells half a record", [[SAY.STARTED], [SAY.CHUNK, change.subarray(0, -1)]]],
    ["tells of a change that is none", [[SAY.STARTED], [SAY.CHUNK, Uint8Array.of(4, 0, 0, 0, 6, 0, 0, 0)]]],
    ["sends gaps", [[SAY.STARTED], [SAY.GAP, [[TAG.BYTES, 1]]]]],
    ["exits", [[SAY.STARTED], [SAY.EXIT, [[TAG.CODE, 0]]]]],
    ["shuts", [[SAY.STARTED], [SAY.SHUT]]],
    [
      "tells more than it may",
      [[SAY.STARTED], ...Array.from({ length: 5 }, (): Said => [SAY.CHUNK, new Uint8Array(LIMITS.frameBytes)])],
    ],
  ];
  for (const [what, answers] of lies) {
    test(`A watch of a guest that ${what} ends the connection to it`, async () => {
      const { agent } = await liar(ASK.WATCH, answers);
      await codeOf(agent.watch({ path: "/" })); // told by the loss
      expect((await agent.lost).code).toBe("guest_protocol");
    });
  }

  test("A watch that a guest refuses is an error of the call, and the guest goes on", async () => {
    for (const [errno, code] of [
      [2, "file_not_found"],
      [28, "file_error"],
      [95, "unsupported"],
      [9999, "file_error"],
    ] as const) {
      for (const answers of [[refusal(errno)], [[SAY.STARTED], [SAY.CHUNK, change], refusal(errno)] as Said[]]) {
        const { agent } = await liar(ASK.WATCH, answers);
        expect(await codeOf(agent.watch({ path: "/" }))).toBe(code);
        expect(await Promise.race([agent.lost, Promise.resolve("alive")])).toBe("alive");
      }
    }
  });

  test("A watch is one cancel in the guest when it is left", async () => {
    const { agent, heard } = await liar(ASK.WATCH, [[SAY.STARTED], [SAY.CHUNK, change]]);
    const events = agent.watch({ path: "/d/" });
    expect((await events.next()).value).toEqual({ kind: "ready" });
    expect((await events.next()).value).toEqual({ kind: "created", path: "/d/a", directory: false });
    await events.return(undefined);
    for (let i = 0; i < 20; i++) await Promise.resolve();
    expect(heard).toEqual([ASK.CANCEL]);
  });
});

describe("A terminal of a guest without any", () => {
  test("A terminal of a guest that does not say it is one is refused, and its command is ended", async () => {
    const started: Said = [
      SAY.STARTED,
      [
        [TAG.PROCESS, 1],
        [TAG.PID, 2],
      ],
    ];
    const { agent, heard } = await liar(ASK.EXEC, [started]);
    expect(await codeOf(agent.exec({ cmd: "sh", terminal: { rows: 24, cols: 80 } }))).toBe("unsupported");
    for (let i = 0; i < 20; i++) await Promise.resolve();
    expect(heard).toEqual([ASK.CANCEL]);
    expect(await Promise.race([agent.lost, Promise.resolve("alive")])).toBe("alive");
  });
});
