/** The log of moves: gapless per sandbox, bounded, and deaf to failing listeners. */
import { expect, test } from "bun:test";
import { createLog } from "../../src/base/log.ts";
import type { Move } from "../../src/contract/move.ts";
import type { SandboxState } from "../../src/contract/routes/sandboxes.ts";
import { MoveLog } from "../../src/engine/log.ts";

const silent = createLog("silent");

function move(sandbox: string, sequence: number, from: SandboxState | null, to: SandboxState, atMs = sequence): Move {
  const size = { account: "local", template: "base", cpu: 1, memoryMib: 512 };
  return { sandbox, ...size, sequence, from, to, event: "created", reason: null, monotonicMs: atMs, wallMs: atMs };
}

test("MoveLog keeps the moves of a sandbox in order and numbers them without a gap", () => {
  const log = new MoveLog(silent);
  expect(log.nextSequence("a")).toBe(1);
  log.append(move("a", 1, null, "creating"));
  log.append(move("b", 1, null, "creating"));
  log.append(move("a", 2, "creating", "running"));
  expect(log.nextSequence("a")).toBe(3);
  expect(log.of("a").map((m) => m.to)).toEqual(["creating", "running"]);
  expect(log.all().length).toBe(3);
  expect(log.of("nobody")).toEqual([]);
});

test("MoveLog refuses a gap, a jump and a step back in time", () => {
  const log = new MoveLog(silent);
  log.append(move("a", 1, null, "creating", 10));
  expect(() => log.append(move("a", 3, "creating", "running"))).toThrow("assertion failed");
  expect(() => log.append(move("a", 2, "running", "stopping", 11))).toThrow("assertion failed");
  expect(() => log.append(move("a", 2, "creating", "running", 9))).toThrow("assertion failed");
});

test("MoveLog forgets whole sandboxes, oldest ended first, and none that lives", () => {
  const log = new MoveLog(silent, 2);
  log.append(move("lives", 1, null, "creating"));
  for (const name of ["x", "y", "z"]) {
    log.append(move(name, 1, null, "creating"));
    log.append(move(name, 2, "creating", "failed"));
  }
  expect([log.of("x").length, log.of("y").length, log.of("z").length, log.of("lives").length]).toEqual([0, 2, 2, 1]);
});

test("MoveLog tells every listener until it leaves, whatever the others do", () => {
  const lines: string[] = [];
  const log = new MoveLog(createLog("error", (line) => lines.push(line)));
  const seen: string[] = [];
  log.subscribe(() => {
    throw new Error("no");
  });
  const leave = log.subscribe((m) => seen.push(m.to));
  log.append(move("a", 1, null, "creating"));
  leave();
  log.append(move("a", 2, "creating", "failed"));
  expect(seen).toEqual(["creating"]);
  expect(lines.length).toBe(2);
});
