/** Days of time zones: each begins once, at its first instant, whatever its clocks do. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { beginsMs, daysWithin, offsetMs } from "../../src/base/days.ts";

const HOUR_MS = 3600 * 1000;
const DAY_MS = 24 * HOUR_MS;
const utc = (text: string) => Date.parse(text);
const local = (zone: string, ms: number) => new Date(ms + offsetMs(zone, ms)).toISOString().slice(0, 10);

describe("beginsMs", () => {
  test.each([
    ["UTC", "2026-11-21", "2026-11-21T00:00:00Z"],
    ["Asia/Kathmandu", "2026-11-21", "2026-11-20T18:15:00Z"],
    ["America/Havana", "2026-11-01", "2026-11-01T04:00:00Z"],
    ["America/Havana", "2026-03-08", "2026-03-08T05:00:00Z"],
    ["America/Santiago", "2026-09-06", "2026-09-06T04:00:00Z"],
    ["Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00Z"],
    ["Pacific/Kiritimati", "2026-11-21", "2026-11-20T10:00:00Z"],
    ["Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30:00Z"],
  ])("in %s: %s begins at %s", (zone, day, begins) => {
    expect(new Date(beginsMs(utc(`${day}T00:00:00Z`), zone)).toISOString()).toBe(new Date(begins).toISOString());
  });

  test("takes no zone that there is not", () => {
    expect(() => beginsMs(0, "Mars/Olympus")).toThrow(RangeError);
  });
});

describe("daysWithin", () => {
  test("has no day that Samoa skipped, and both around it", () => {
    const days = daysWithin(utc("2011-12-29T12:00:00Z"), utc("2011-12-31T12:00:00Z"), "Pacific/Apia");
    expect(days.map(({ day }) => day)).toEqual(["2011-12-29", "2011-12-31", "2012-01-01"]);
  });

  test("begins with the day that its range begins in, and is empty for none", () => {
    const at = utc("2026-11-21T10:00:00Z");
    expect(daysWithin(at, at + 1, "UTC")).toEqual([{ day: "2026-11-21", fromMs: utc("2026-11-21T00:00:00Z") }]);
    expect(daysWithin(utc("2026-11-21"), utc("2026-11-22"), "UTC").map(({ day }) => day)).toEqual(["2026-11-21"]);
  });

  test("covers any range of any zone without a gap: each day once, in order, from its first instant on", () => {
    const zones = Intl.supportedValuesOf("timeZone");
    const ranges = fc.record({
      zone: fc.constantFrom(...zones, "America/Havana", "Pacific/Apia", "Africa/Cairo"),
      fromMs: fc.integer({ min: utc("1975-01-01"), max: utc("2040-01-01") }),
      lengthMs: fc.integer({ min: 1, max: 40 * DAY_MS }),
    });
    fc.assert(
      fc.property(ranges, ({ zone, fromMs, lengthMs }) => {
        const days = daysWithin(fromMs, fromMs + lengthMs, zone);
        expect(days[0]?.fromMs).toBeLessThanOrEqual(fromMs);
        expect(days.at(-1)?.fromMs).toBeLessThan(fromMs + lengthMs);
        for (const [i, { day, fromMs: begins }] of days.entries()) {
          expect(local(zone, begins)).toBe(day);
          expect(local(zone, begins - 1) < day).toBe(true);
          const next = days[i + 1];
          if (next === undefined) continue;
          expect(next.day > day).toBe(true);
          // Clocks set back over midnight show the day before once more: not after the next one has begun for good.
          expect(local(zone, next.fromMs - 1)).toBe(day);
        }
      }),
      { numRuns: 400, seed: 11 },
    );
  });
});
