/** Proofs of life: who has one, of which instant, and what is said with it. */
import { expect, test } from "bun:test";
import { parseSlot, parseStart } from "../../src/host/jail/pulse.ts";
import type { Pulse } from "../../src/server/time/facts.ts";
import { beat } from "../../src/server/time/heartbeat.ts";
import { FakeClock } from "../harness/clock.ts";

const AXIS_MS = 1.9e12;

function ground(count: number, pulse: (id: string) => Pulse | null = () => ({ cpuUsedMs: 7, endsMs: null })) {
  const clock = new FakeClock();
  const counted: string[] = [];
  const proven = new Map<string, number>();
  const parts = {
    moves: {
      living: () => Array.from({ length: count }, (_, i) => ({ id: `sb_${i}`, axisMs: AXIS_MS + i })),
      proven: (id: string, atMs: number) => void proven.set(id, atMs),
    },
    facts: {
      axis: null,
      pulse: async (id: string) => pulse(id),
      egressBytes: async (id: string) => {
        counted.push(id);
        return 42;
      },
    },
    clock,
  };
  const round = async (number: number) => {
    const beats = beat(parts, number);
    await clock.advance(0);
    return beats;
  };
  return { clock, counted, proven, round };
}

test("A proof of life is of the instant before the look, on each sandbox's own axis", async () => {
  const { clock, proven, round } = ground(2, () => {
    clock.jumpWall(5000);
    return { cpuUsedMs: 7, endsMs: null };
  });
  const nowMs = clock.monotonicMs();
  expect(await round(0)).toEqual([
    { sandbox: "sb_0", seenMs: nowMs + AXIS_MS, cpuUsedMs: 7, egressBytes: 42 },
    { sandbox: "sb_1", seenMs: nowMs + AXIS_MS + 1, cpuUsedMs: 7, egressBytes: 42 },
  ]);
  expect(proven.get("sb_1")).toBe(nowMs + AXIS_MS + 1);
});

test("What has ended has no proof of life, and what outlives its lifetime has none beyond it", async () => {
  const { clock, round } = ground(3, (id) => {
    if (id === "sb_0") return null;
    return { cpuUsedMs: null, endsMs: id === "sb_1" ? AXIS_MS + 10 : null };
  });
  const beats = await round(0);
  expect(beats.map(({ sandbox, seenMs }) => [sandbox, seenMs])).toEqual([
    ["sb_1", AXIS_MS + 10],
    ["sb_2", clock.monotonicMs() + AXIS_MS + 2],
  ]);
});

test("Bytes are counted of all in turn, of a few at a time, and life is proven of all each time", async () => {
  const { counted, round } = ground(50);
  for (const number of [0, 1, 2]) {
    const beats = await round(number);
    expect(beats).toHaveLength(50);
    expect(beats.filter(({ egressBytes }) => egressBytes !== null)).toHaveLength(20);
  }
  expect(new Set(counted).size).toBe(50);
});

test("A process is known by what the kernel says of it, whatever it calls itself", () => {
  const line = (state: string, name = "qemu") =>
    `12 (${name}) ${state} 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 987 1 2`;
  expect(parseStart(line("S"))).toBe(987);
  expect(parseStart(line("R", "a) Z 1 (b"))).toBe(987);
  for (const ended of ["Z", "X"]) expect(parseStart(line(ended))).toBeNull();
  for (const torn of ["", "12 (qemu", "12 (qemu) S 1 2"]) expect(parseStart(torn)).toBeNull();
});

test("A process's slot is that of its group, in whatever hierarchy that is", () => {
  expect(parseSlot("5:pids:/warren/17\n3:cpu,cpuacct:/warren/17\n0::/init.scope\n")).toBe(17);
  expect(parseSlot("0::/warren/4\n")).toBe(4);
  for (const text of ["", "0::/\n", "0::/warren\n", "0::/other/4\n", "0::/warren/4/below\n"])
    expect(parseSlot(text)).toBeNull();
});
