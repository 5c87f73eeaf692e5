/** Billing: exact figures, and the laws that a fold over moves has to keep. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Move } from "../../src/contract/move.ts";
import type { SandboxState } from "../../src/contract/routes/sandboxes.ts";
import { add, CHARGED, fold, MOVE_METERS, NOTHING } from "../../src/meter/fold.ts";
import { addUsd, formatUsd, parseUsd, roundUsd } from "../../src/meter/money.ts";
import { price, ratesOf } from "../../src/meter/rates.ts";

type Step = readonly [to: SandboxState, atMs: number];

function moves(steps: readonly Step[], size: { cpu: number; memoryMib: number }, sandbox = "sb_a"): Move[] {
  return steps.map(([to, monotonicMs], i) => ({
    ...{ sandbox, account: "local", template: "base", ...size, sequence: i + 1, event: "created", reason: null },
    ...{ from: steps[i - 1]?.[0] ?? null, to, monotonicMs, wallMs: monotonicMs },
  }));
}

const life = (fromMs: number, runMs: number): Step[] => [
  ["creating", fromMs],
  ["running", fromMs + 40],
  ["stopping", fromMs + 40 + runMs],
  ["deleted", fromMs + 90 + runMs],
];

const cost = (rows: Move[], list?: string) => formatUsd(price(fold(rows), ratesOf(list)));

describe("price", () => {
  test("of 5 s of 1 vCPU and 512 MiB is 0.00006 exactly", () => {
    expect(cost(moves(life(0, 5000), { cpu: 1, memoryMib: 512 }))).toBe("0.00006");
  });
  test("of 60 s of 1 vCPU and 1 GiB is 0.00084 exactly", () => {
    expect(cost(moves(life(7, 60_000), { cpu: 1, memoryMib: 1024 }))).toBe("0.00084");
  });
  test("follows the list that is named", () => {
    const rows = moves(life(0, 60_000), { cpu: 2, memoryMib: 2048 });
    expect(cost(rows, "pandastack-hosted")).toBe("0.00234");
    expect(() => ratesOf("toString")).toThrow("no price list");
  });
  test("of one MiB for one millisecond is not lost", () => {
    expect(formatUsd(price({ memory_mib_ms: 1n }, ratesOf()))).toBe("0.00000000000390625");
  });
});

describe("fold", () => {
  const size = fc.record({ cpu: fc.integer({ min: 1, max: 32 }), memoryMib: fc.integer({ min: 128, max: 65536 }) });
  const instants = fc.array(fc.double({ min: 0, max: 1e7, noNaN: true }), { minLength: 2, maxLength: 4 });
  const STATES: SandboxState[] = ["creating", "running", "stopping", "deleted"];
  const history = fc.tuple(instants, size).map(([times, s]) =>
    moves(
      times.sort((a, b) => a - b).map((t, i) => [STATES[i] as SandboxState, t]),
      s,
    ),
  );

  test("of nothing is nothing", () => {
    expect(fold([])).toEqual(NOTHING);
    expect(fold(moves([["creating", 5]], { cpu: 1, memoryMib: 128 }), { toMs: 1e6 })).toEqual(NOTHING);
  });
  test("is additive over any cut", () => {
    fc.assert(
      fc.property(history, fc.double({ min: 0, max: 2e7, noNaN: true }), (rows, cutMs) => {
        const endMs = 2e7;
        const parts = add(fold(rows, { toMs: cutMs }), fold(rows, { fromMs: cutMs, toMs: endMs }));
        expect(parts).toEqual(fold(rows, { toMs: endMs }));
      }),
    );
  });
  test("never falls as time goes on", () => {
    fc.assert(
      fc.property(history, fc.double({ min: 0, max: 2e7, noNaN: true }), fc.nat(1000), (rows, atMs, laterMs) => {
        const [now, then] = [fold(rows, { toMs: atMs }), fold(rows, { toMs: atMs + laterMs })];
        for (const meter of MOVE_METERS) expect(then[meter] >= now[meter]).toBe(true);
      }),
    );
  });
  test("adds up over sandboxes, however their rows interleave", () => {
    fc.assert(
      fc.property(history, history, (a, b) => {
        const other = b.map((row) => ({ ...row, sandbox: "sb_b" }));
        const mixed = [...a, ...other].sort((x, y) => x.sequence - y.sequence);
        expect(fold(mixed, { toMs: 1e7 })).toEqual(add(fold(a, { toMs: 1e7 }), fold(other, { toMs: 1e7 })));
      }),
    );
  });
  test("charges vCPUs while a guest runs, and memory while it has any", () => {
    const states = (meter: string) =>
      Object.entries(CHARGED).flatMap(([state, what]) => (meter in what ? [state] : []));
    expect(states("vcpu_ms")).toEqual(["running"]);
    expect(states("memory_mib_ms")).toEqual(["running"]);
    expect(states("paused_memory_mib_ms")).toEqual(["paused"]);
  });
  test("counts a create once, at the first instruction, and CPU time and bytes at the move that tells of them", () => {
    const told = { network: { bytesOut: 7, bytesIn: 1, connections: 1 }, cpuUsedMs: 12.9 };
    const rows = moves(
      [
        ["creating", 0],
        ["running", 5],
        ["hibernated", 10],
        ["running", 20],
        ["failed", 30],
      ],
      { cpu: 1, memoryMib: 1 },
    ).map((row) => (row.to === "hibernated" || row.to === "failed" ? { ...row, ...told } : row));
    expect(fold(rows)).toEqual({
      ...{ ...NOTHING, vcpu_ms: 15n, memory_mib_ms: 15n, creates: 1n, egress_bytes: 14n, cpu_used_ms: 24n },
    });
    expect(fold(rows, { fromMs: 10, toMs: 30 })).toMatchObject({ creates: 0n, egress_bytes: 7n, cpu_used_ms: 12n });
  });
});

describe("Usd", () => {
  test("keeps every digit of what it parsed", () => {
    for (const text of ["0", "0.00001", "12.5", "123456789012345678.123456789012345678"]) {
      expect(formatUsd(parseUsd(text))).toBe(text);
    }
  });
  test("refuses what is not a plain decimal", () => {
    for (const text of ["", "1e-5", "-1", ".5", "1,5", "0x10", "1.", " 1"]) expect(() => parseUsd(text)).toThrow();
  });
  test("adds exactly and rounds once, halves up", () => {
    expect(formatUsd(addUsd(parseUsd("0.1"), parseUsd("0.20")))).toBe("0.3");
    expect(formatUsd(roundUsd(parseUsd("0.0000005"), 6))).toBe("0.000001");
    expect(formatUsd(roundUsd(parseUsd("0.00000049"), 6))).toBe("0");
    expect(formatUsd(roundUsd(parseUsd("2"), 6))).toBe("2");
  });
});
