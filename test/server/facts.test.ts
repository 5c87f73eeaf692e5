/** What is made of what a home kept of a sandbox that ended: its end, and the move that its database may have missed. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { SandboxInfo } from "../../src/contract/routes/sandboxes.ts";
import type { EndedRun } from "../../src/host/home/ends.ts";
import { knownEnd, missedMove } from "../../src/server/time/facts.ts";
import { parseJournal } from "../../src/server/time/journal.ts";

const AXIS_MS = 1.9e12;

function run(change: Partial<Omit<EndedRun, "time">> & { readonly time?: Partial<EndedRun["time"]> } = {}): EndedRun {
  const info = { template: "base", cpu: 2, memoryMb: 512 } as SandboxInfo;
  const time = { axisMs: AXIS_MS, resumedMs: 1000, movedMs: 1000, endsMs: null, cpuBeforeMs: null, ...change.time };
  return { id: "sb_1", account: "a", info, hostBootId: "b", end: { atMs: 5000, cpuMs: 10 }, ...change, time };
}

test("An end is on the sandbox's axis, not after its lifetime, and not before its guest ran", () => {
  expect(knownEnd(run())?.endMs).toBe(AXIS_MS + 5000);
  expect(knownEnd(run({ time: { endsMs: 4000 } }))).toEqual({
    endMs: AXIS_MS + 4000,
    why: "its time to live ran out",
  });
  expect(knownEnd(run({ end: { atMs: 990, cpuMs: 0 } }))?.endMs).toBe(AXIS_MS + 1000);
  expect(knownEnd(run({ end: null }))).toBeNull();
});

test("A guest that ran without the database's knowing is told of as of when it first ran", () => {
  const moved = missedMove(run(), null);
  expect(moved).toMatchObject({ sequence: 1, from: null, to: "running", monotonicMs: AXIS_MS + 1000, cpu: 2 });
  const last = { sequence: 3, state: "hibernated" as const, atMs: AXIS_MS + 500 };
  expect(missedMove(run(), last)).toMatchObject({ sequence: 4, from: "hibernated", monotonicMs: AXIS_MS + 1000 });
  expect(missedMove(run(), { ...last, atMs: AXIS_MS + 1001 })).toBeNull(); // that run is over, and was told of
  expect(missedMove(run(), { ...last, state: "running" })).toBeNull();
  expect(missedMove(run({ time: { resumedMs: null } }), null)).toBeNull();
});

test("A journal is read whole lines alone, wherever a crash tore it", () => {
  const move = missedMove(run(), null);
  const line = `${JSON.stringify(move)}\n`;
  fc.assert(
    fc.property(fc.integer({ min: 1, max: line.length - 2 }), (cut) => {
      const read = parseJournal(`${line}${line.slice(0, cut)}\n${line}`);
      expect(read.moves).toHaveLength(2);
      expect(read.torn).toBe(1);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => parseJournal(text).moves.length === 0));
});
