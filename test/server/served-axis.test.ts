/** The axis of time of what is stored: the same through servers of one boot, and by the wall clock over a reboot. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAxis } from "../../src/host/home/served-axis.ts";
import { BEAT_MS } from "../../src/server/time/heartbeat.ts";
import { StoredTimes } from "../../src/server/time/stored-times.ts";
import { FakeClock } from "../harness/clock.ts";
import { TruthWorld } from "./truth-world.ts";

const HOUR_MS = 3_600_000;
const root = mkdtempSync(join(tmpdir(), "warren-axis-"));
afterAll(() => rmSync(root, { recursive: true }));
let next = 0;
const newPath = () => join(root, `${next++}.json`);

test("A wall clock that jumps between two servers of a boot moves no instant of what is stored", async () => {
  for (const jumpMs of [HOUR_MS, -HOUR_MS]) {
    const [clock, path] = [new FakeClock(), newPath()];
    const placed = () => {
      const axis = openAxis(path, "boot", clock);
      axis.beat();
      const row = { kind: "volume" as const, id: "v", account: "a", sizeBytes: 1, wallMs: clock.wallMs() };
      return new StoredTimes(clock, axis).placed({ ...row, monotonicMs: clock.monotonicMs() }).monotonicMs;
    };
    const first = placed();
    clock.jumpWall(jumpMs);
    await clock.advance(1000);
    expect(placed() - first).toBeCloseTo(1000, 3);
  }
});

test("Over a reboot the axis goes on by the wall clock, and never before where it was", () => {
  for (const [jumpMs, passesMs] of [
    [HOUR_MS, HOUR_MS],
    [-HOUR_MS, 0],
  ] as const) {
    const [clock, path] = [new FakeClock(), newPath()];
    const before = openAxis(path, "boot", clock);
    before.beat();
    clock.jumpWall(jumpMs);
    const after = openAxis(path, "another boot", clock);
    expect(after.axisMs - before.axisMs).toBeCloseTo(passesMs, 3);
  }
});

test("A file that says nothing is as none", () => {
  for (const text of ["", "{", "{}", '{"hostBootId":"boot","axisMs":null,"servedMs":1}']) {
    const [clock, path] = [new FakeClock(), newPath()];
    writeFileSync(path, text);
    const axis = openAxis(path, "boot", clock);
    expect([axis.servedMs, axis.axisMs + clock.monotonicMs()]).toEqual([null, clock.wallMs()]);
    axis.beat();
    expect(openAxis(path, "boot", clock).servedMs).toBe(clock.wallMs());
  }
});

test("A server tells that it lives as long as it does, and the next one closes what ended with it at that", async () => {
  const world = new TruthWorld({ accounts: true });
  const path = newPath();
  world.axis = () => openAxis(path, "boot", world.clock);
  await world.start();
  const beganMs = world.clock.wallMs();
  await world.clock.advance(3 * BEAT_MS + 100);
  world.kill();
  await world.clock.advance(HOUR_MS);
  await world.start();
  expect(world.books.served).toEqual([null, beganMs + 3 * BEAT_MS]);
});
