/** The lifecycle table: every pair is decided, and every sequence of events up to six keeps the laws. */
import { describe, expect, test } from "bun:test";
import type { SandboxState } from "../../src/contract/routes/sandboxes.ts";
import { ASKED, DECISIONS, judge, nextEvent, OBSERVED, type SandboxEvent, TERMINAL } from "../../src/engine/state.ts";

const EVENTS: readonly SandboxEvent[] = [...ASKED, ...OBSERVED];
const STATES = Object.keys(DECISIONS) as SandboxState[];

/** Calls `visit` for every prefix of every sequence of `depth` events; refused events end a branch. */
function walk(
  from: SandboxState,
  depth: number,
  visit: (path: SandboxEvent[], states: SandboxState[]) => void,
): number {
  let count = 0;
  const step = (state: SandboxState, path: SandboxEvent[], states: SandboxState[]) => {
    count += 1;
    visit(path, states);
    if (path.length === depth) return;
    for (const event of EVENTS) {
      const verdict = judge(state, event);
      if (verdict.kind === "refused") continue;
      const next = verdict.kind === "move" ? verdict.to : state;
      step(next, [...path, event], [...states, next]);
    }
  };
  step(from, [], [from]);
  return count;
}

describe("judge", () => {
  test("decides every pair of state and event", () => {
    for (const state of STATES) {
      for (const event of EVENTS) expect(["move", "ignored", "refused"]).toContain(judge(state, event).kind);
    }
    expect(STATES.length * EVENTS.length).toBe(77);
  });

  test("accepts or ignores close and expire in every state", () => {
    for (const state of STATES) for (const event of ASKED) expect(judge(state, event).kind).not.toBe("refused");
  });

  test("never moves to the state it comes from", () => {
    for (const state of STATES) {
      for (const event of EVENTS) {
        const verdict = judge(state, event);
        if (verdict.kind === "move") expect(verdict.to).not.toBe(state);
      }
    }
  });

  test("keeps its laws over every sequence of six events", () => {
    const seen = new Set<SandboxState>();
    const count = walk("creating", 6, (path, states) => {
      const last = states.at(-1) as SandboxState;
      seen.add(last);
      const ended = states.findIndex((s) => TERMINAL.has(s));
      if (ended >= 0) expect(new Set(states.slice(ended)).size).toBe(1);
      // Running is reached once by booted, then only from a standstill, and never after an end was asked for.
      if (last === "running")
        expect(path.filter((e) => e === "booted" || e === "close" || e === "expire")).toEqual(["booted"]);
      const stood = states.filter(
        (state, i) => state !== states[i - 1] && (state === "paused" || state === "hibernated"),
      );
      const rose = states.filter((state, i) => state === "running" && states[i - 1] !== "running");
      expect(rose.length).toBeLessThanOrEqual(1 + stood.length);
      // A sandbox is deleted only through stopping, so what it held was given back first.
      if (last === "deleted") expect(states).toContain("stopping");
    });
    expect([...seen].sort()).toEqual([...STATES].sort());
    expect(count).toBeGreaterThan(10_000);
  });

  test("brings every state to its end by close and what follows from it", () => {
    for (const state of STATES) {
      const asked = judge(state, "close");
      const next = asked.kind === "move" ? asked.to : state;
      const reaped = judge(next, "reaped");
      expect(TERMINAL.has(reaped.kind === "move" ? reaped.to : next)).toBe(true);
    }
  });
});

describe("nextEvent", () => {
  const of = (...events: SandboxEvent[]) => nextEvent(events.map((event) => ({ event })))?.event;
  test("takes observed events before asked-for ones, each in order", () => {
    expect(of("close", "expire", "exited", "lost")).toBe("exited");
    expect(of("expire", "close")).toBe("expire");
    expect(of()).toBeUndefined();
  });
});
