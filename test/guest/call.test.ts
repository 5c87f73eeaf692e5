/** What waits in a call unread: in its order, joined where that changes nothing, and never at many times its size. */

import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { systemClock } from "../../src/base/clock.ts";
import { type Answer, Call } from "../../src/guest/call.ts";
import { violation } from "../../src/guest/codec.ts";
import { encodeFields } from "../../src/guest/fields.ts";
import { SAY, TAG } from "../../src/guest/protocol.ts";
import { Condition } from "../../src/guest/waiting.ts";
import { LIMITS } from "../../src/limits.ts";
import { until } from "../harness/until.ts";

const newCall = (): Call => new Call(1, { send: () => Promise.resolve() }, new Condition(systemClock, { error: null }));
const say = (call: Call, type: number, payload: Uint8Array): void => call.take({ type, channel: 1, payload });
const gap = (call: Call, bytes: number): void => say(call, SAY.GAP, encodeFields([[TAG.BYTES, bytes]]));

const waiter = { deadlineMs: () => Number.POSITIVE_INFINITY, late: () => violation("late") };

async function readAll(call: Call): Promise<Answer[]> {
  const answers: Answer[] = [];
  while (!call.idle) answers.push(await call.next(waiter));
  return answers;
}

test("Call gives pieces and gaps in their order, joined where that changes nothing", async () => {
  const call = newCall();
  for (const byte of [1, 2]) say(call, SAY.OUT, Uint8Array.of(byte));
  say(call, SAY.ERR, Uint8Array.of(3));
  for (const bytes of [5, 2 ** 40]) gap(call, bytes);
  say(call, SAY.OUT, new Uint8Array(3000).fill(4));
  say(call, SAY.OUT, Uint8Array.of(5));
  const data = (type: number, bytes: Uint8Array): Answer => ({ kind: "data", type, bytes });
  expect(await readAll(call)).toEqual([
    data(SAY.OUT, Uint8Array.of(1, 2)),
    data(SAY.ERR, Uint8Array.of(3)),
    { kind: "gap", bytes: 2 ** 40 + 5 },
    data(SAY.OUT, new Uint8Array(3000).fill(4)),
    data(SAY.OUT, Uint8Array.of(5)),
  ]);
});

test("Call holds a window of single bytes in turns of two streams and gaps in a few times its size", async () => {
  const call = newCall();
  Bun.gc(true);
  const before = heapStats().extraMemorySize;
  for (let i = 0; i < LIMITS.streamWindowBytes; i++) {
    say(call, i % 2 === 0 ? SAY.OUT : SAY.ERR, Uint8Array.of(i));
    gap(call, 1);
  }
  // One collection may find the remains of others, or of an array that has grown, still on the stack.
  await until("what is held is small", () => {
    Bun.gc(true);
    return heapStats().extraMemorySize - before < 24 * LIMITS.streamWindowBytes;
  });
  const answers = await readAll(call);
  expect(answers).toHaveLength(2 * LIMITS.streamWindowBytes);
  expect(answers.every(({ kind }, i) => kind === (i % 2 === 0 ? "data" : "gap"))).toBe(true);
  expect(() => say(call, SAY.OUT, new Uint8Array(LIMITS.frameBytes))).not.toThrow();
}, 30_000);
