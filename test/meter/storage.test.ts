/** Storage: exact, additive over any cut, and told by the engine for everything that it keeps and gives up. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Stored } from "../../src/contract/stored.ts";
import { foldStorage, NOTHING_STORED, type StorageUsage } from "../../src/meter/storage.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";

const KINDS = ["snapshot", "image", "volume", "template", "ready", "build"] as const;
const plus = (a: StorageUsage, b: StorageUsage): StorageUsage =>
  Object.fromEntries(KINDS.map((kind) => [kind, a[kind] + b[kind]])) as StorageUsage;

const history = fc
  .array(
    fc.record({
      kind: fc.constantFrom(...KINDS),
      id: fc.constantFrom("a", "b"),
      account: fc.constantFrom("x", "y"),
      sizeBytes: fc.nat(2 ** 40),
      monotonicMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
      wallMs: fc.constant(0),
    }),
    { maxLength: 30 },
  )
  .map((rows): Stored[] => rows.sort((a, b) => a.monotonicMs - b.monotonicMs));

describe("foldStorage", () => {
  test("of a GiB for an hour, grown and removed, is exact", () => {
    const row = (sizeBytes: number, monotonicMs: number): Stored => ({
      ...{ kind: "volume", id: "v", account: "local", wallMs: 0 },
      ...{ sizeBytes, monotonicMs },
    });
    const rows = [row(2 ** 30, 1_000), row(2 ** 31, 61_000), row(0, 121_000)];
    expect(foldStorage(rows)).toEqual({ ...NOTHING_STORED, volume: 3n * 2n ** 30n * 60_000n });
    expect(foldStorage(rows, { toMs: 1e9 })).toEqual(foldStorage(rows));
  });

  test("is additive over any cut", () => {
    fc.assert(
      fc.property(history, fc.nat(1_000_000), (rows, cutMs) => {
        const whole = foldStorage(rows, { fromMs: 0, toMs: 1_000_000 });
        const before = foldStorage(rows, { fromMs: 0, toMs: cutMs });
        expect(plus(before, foldStorage(rows, { fromMs: cutMs, toMs: 1_000_000 }))).toEqual(whole);
      }),
    );
  });
});

test("Engine.storage tells of snapshots, images and volumes as they come and go", async () => {
  const time = new FakeClock();
  const world = new World(time);
  const engine = world.engine();
  const host = engine.as("local");
  const seen: string[] = [];
  engine.storage.subscribe(({ kind, sizeBytes }) => seen.push(`${kind} ${sizeBytes > 0 ? "kept" : "gone"}`));
  const { id } = await host.create({});
  const snapshot = await host.snapshot({ id });
  await host.hibernate({ id });
  await time.advance(1_000);
  await host.wake({ id });
  await host.hibernate({ id });
  await host.close({ id });
  await host.createVolume({ name: "v", sizeMb: 64 });
  await host.resizeVolume({ name: "v", sizeMb: 128 });
  await time.advance(1_000);
  await host.removeVolume({ name: "v" });
  await host.removeSnapshot({ id: snapshot.id });
  expect(seen).toEqual([
    ...["snapshot kept", "image kept", "image gone", "image kept", "image gone"],
    ...["volume kept", "volume kept", "volume gone", "snapshot gone"],
  ]);
  const used = foldStorage(engine.storage.all());
  expect(used.volume).toBe(128n * 2n ** 20n * 1_000n);
  expect(used.image).toBeGreaterThan(0n);
  expect(used.snapshot).toBeGreaterThan(0n);
  await world.end(engine);
});
