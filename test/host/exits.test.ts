/** The kernel's records of how processes ended, read as the kernel writes them. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseExits, readVmmEnd, vmmEnd } from "../../src/host/jail/exits.ts";

/** What Linux 6.18 wrote of a namespace whose first process was killed 1.243 s after its start, and with it a `sleep`. */
const GOLDEN = Uint8Array.fromHex(
  [
    "130300000900000000000000000000000100000000000000a916026b0000f84200000000ac09ed000000140000000000616363742d7472790000000000000000",
    "100300000900000000000000000000000200000001000000a916026b0000f84200000000680b0d050000650001000000736c6565700000000000000000000000",
    "130300000900000000000000000000000100000000000000a916026b0000f84200000000ac0900000000140000000000616363742d7472790000000000000000",
  ].join(""),
);

/** One record, its numbers where <linux/acct.h> has them. */
function record(
  pid: number,
  ticks: number,
  [user, system]: readonly [number, number] = [0, 0],
  version = 3,
): Uint8Array {
  const view = new DataView(new ArrayBuffer(64));
  const little = version < 0x80;
  view.setUint8(1, version);
  view.setUint32(16, pid, little);
  view.setFloat32(28, ticks, little);
  view.setUint16(32, user, little);
  view.setUint16(34, system, little);
  return new Uint8Array(view.buffer);
}

test("Records of a kernel are read: each process once, the first of the namespace twice", () => {
  expect(parseExits(GOLDEN)).toEqual([
    { pid: 1, elapsedMs: 1240, cpuMs: 0, status: 9 },
    { pid: 2, elapsedMs: 1240, cpuMs: 0, status: 9 },
    { pid: 1, elapsedMs: 1240, cpuMs: 0, status: 9 },
  ]);
  expect(vmmEnd(GOLDEN, 500.25)).toEqual({ atMs: 1740.25, cpuMs: 0 });
});

test("An end is that of the VMM alone, by its number in the jail, whatever else ended", () => {
  expect(vmmEnd(record(1, 100), 0)).toBeNull();
  expect(vmmEnd(record(3, 100), 0)).toBeNull();
  expect(vmmEnd(Buffer.concat([record(1, 90), record(2, 100), record(1, 110)]), 0)?.atMs).toBe(1000);
  expect(readVmmEnd("/nowhere/at/all", 0)).toBeNull();
  expect(vmmEnd(new Uint8Array(), 0)).toBeNull();
});

test("CPU time is that of user and kernel, by fraction and exponent", () => {
  expect(vmmEnd(record(2, 1, [3, 4]), 0)?.cpuMs).toBe(70);
  expect(vmmEnd(record(2, 1, [(1 << 13) | 1024, (2 << 13) | 1]), 0)?.cpuMs).toBe((1024 * 8 + 64) * 10);
});

test("A record of another kernel's byte order is read, one of another form is not", () => {
  expect(vmmEnd(record(2, 250, [1, 0], 0x83), 0)).toEqual({ atMs: 2500, cpuMs: 10 });
  expect(parseExits(record(2, 250, [1, 0], 2))).toEqual([]);
  for (const ticks of [Number.NaN, -1, Number.POSITIVE_INFINITY]) expect(parseExits(record(2, ticks))).toEqual([]);
});

test("Bytes of whatever kind are read without failing, and whole records are read whatever torn end follows", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      const ends = parseExits(bytes);
      expect(ends.length).toBeLessThanOrEqual(Math.floor(bytes.length / 64));
      for (const { elapsedMs, cpuMs } of ends) {
        expect(elapsedMs).toBeGreaterThanOrEqual(0);
        expect(Number.isFinite(elapsedMs + cpuMs)).toBe(true);
      }
      const torn = bytes.slice(0, bytes.length % 64);
      expect(vmmEnd(Buffer.concat([GOLDEN, torn]), 0)?.atMs).toBe(1240);
    }),
  );
});

test("An elapsed time is never read as longer than it was, to the tick", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 24 - 1 }),
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      (ticks, startMs) => {
        expect(vmmEnd(record(2, ticks), startMs)?.atMs).toBe(startMs + ticks * 10);
      },
    ),
  );
});
