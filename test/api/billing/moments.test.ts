/** What `from`, `to` and `group_by` may be, and what is said of what they may not. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { groupName, groupsOf } from "../../../src/api/calls/billing/groups.ts";
import {
  isDay,
  isTimeZone,
  momentMs,
  monthMs,
  RANGE_DAYS_MAX,
  rangeOf,
} from "../../../src/api/calls/billing/moments.ts";
import { isWarrenError } from "../../../src/errors.ts";

const DAY_MS = 86_400_000;
const at = (text: string, zone = "UTC") => new Date(momentMs("from", text, zone)).toISOString();

/** The day that clocks of a zone show. */
function dayIn(zone: string, ms: number): string {
  const format = { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" } as const;
  return new Intl.DateTimeFormat("en-CA", format).format(ms);
}

function refusal(job: () => unknown): { field: unknown; says: string } {
  try {
    return { field: null, says: String(job()) };
  } catch (error) {
    if (!isWarrenError(error, "invalid_request")) throw error;
    return { field: error.details["field"], says: error.message };
  }
}

describe("momentMs", () => {
  test("takes an instant with its offset", () => {
    expect(at("2026-11-21T10:00:00Z")).toBe("2026-11-21T10:00:00.000Z");
    expect(at("2026-11-21T10:00:00+05:30")).toBe("2026-11-21T04:30:00.000Z");
    expect(at("2026-11-21T10:00-03:00")).toBe("2026-11-21T13:00:00.000Z");
    expect(at("2026-11-21T10:00:00.123456Z")).toBe("2026-11-21T10:00:00.123Z");
    expect(at("2024-02-29T23:59:59.999Z")).toBe("2024-02-29T23:59:59.999Z");
  });

  test("takes a day as its first instant in a zone, through every change of clocks", () => {
    for (const [day, zone, begins] of [
      ["2026-11-21", "UTC", "2026-11-21T00:00:00.000Z"],
      ["2026-11-21", "Asia/Kolkata", "2026-11-20T18:30:00.000Z"],
      ["2026-11-21", "America/New_York", "2026-11-21T05:00:00.000Z"],
      ["2026-03-08", "America/New_York", "2026-03-08T05:00:00.000Z"],
      ["2026-03-09", "America/New_York", "2026-03-09T04:00:00.000Z"],
      ["2026-11-01", "America/New_York", "2026-11-01T04:00:00.000Z"],
      ["2026-11-02", "America/New_York", "2026-11-02T05:00:00.000Z"],
      // Midnight is skipped: the day begins at one.
      ["2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00.000Z"],
      // Midnight comes twice: the first of the two.
      ["2026-11-01", "America/Havana", "2026-11-01T04:00:00.000Z"],
      // Of a day that a zone never had: where the next one begins.
      ["2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00.000Z"],
      ["2011-12-31", "Pacific/Apia", "2011-12-30T10:00:00.000Z"],
      ["2026-11-21", "Pacific/Kiritimati", "2026-11-20T10:00:00.000Z"],
      ["2026-11-21", "Pacific/Pago_Pago", "2026-11-21T11:00:00.000Z"],
      ["2026-04-05", "Australia/Lord_Howe", "2026-04-04T13:00:00.000Z"],
    ] as const)
      expect({ day, zone, begins: at(day, zone) }).toEqual({ day, zone, begins });
  });

  test("finds days of every zone that begin when the day before ends", () => {
    const zones = Intl.supportedValuesOf("timeZone");
    fc.assert(
      fc.property(fc.constantFrom(...zones), fc.integer({ min: 10_957, max: 47_481 }), (zone, days) => {
        const text = new Date(days * DAY_MS).toISOString().slice(0, 10);
        const begins = momentMs("from", text, zone);
        expect(dayIn(zone, begins) >= text).toBe(true);
        expect(dayIn(zone, begins - 1) < text).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  test("names the field, what came and what is allowed", () => {
    for (const [text, says] of [
      ["yesterday", 'to: got "yesterday", allowed is a day such as'],
      ["0000-01-01", "no day of the years 1970 to 2199"],
      ["9999-12-31", "no day of the years 1970 to 2199"],
      ["2026-02-30", "no day of the years"],
      ["2025-02-29", "no day of the years"],
      ["2026-13-01T00:00:00Z", "no day of the years"],
      ["2026-11-21T24:00:00Z", "no time of a day"],
      ["2026-11-21T10:60:00Z", "no time of a day"],
      ["2026-11-21T10:00:60Z", "no time of a day"],
      ["2026-11-21T10:00:00+19:00", "no time of a day"],
      ["2026-11-21T10:00:00", "its offset is missing"],
      ["2026-11-21T10:00:00 05:30", "a + in a URL is written %2B"],
      ["2026-11-21 10:00:00Z", "allowed is a day"],
      ["2026-11-2100000", "allowed is a day"],
      ["20261121", "allowed is a day"],
      ["１２３４-11-21", "allowed is a day"],
      ["1700000000000", "allowed is a day"],
      ["2026-11-21T10:00:00Z; drop table", "allowed is a day"],
      ["-2026-11-21", "allowed is a day"],
      ["", "allowed is a day"],
      [`2026-11-21T10:00:00Z${"x".repeat(10_000)}`, "allowed is a day"],
    ] as const) {
      const told = refusal(() => momentMs("to", text, "Europe/Berlin"));
      expect({ text, field: told.field }).toEqual({ text, field: "to" });
      expect(told.says).toContain(says);
      expect(told.says.length).toBeLessThan(400);
    }
  });

  test("never takes text for something else than it says", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.stringMatching(/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d))?$/)),
        (text) => {
          const told = refusal(() => momentMs("from", text, "UTC"));
          if (told.field === "from") return;
          expect(Math.abs(Number(told.says) - Date.parse(text))).toBe(0);
        },
      ),
      { numRuns: 5_000 },
    );
  });
});

describe("rangeOf", () => {
  const nowMs = Date.parse("2026-11-21T12:00:00Z");
  const defaults = { fromMs: monthMs(nowMs, "Asia/Kolkata"), toMs: nowMs };
  const range = (asked: { from?: string; to?: string }) => rangeOf(asked, "Asia/Kolkata", defaults);

  test("is this month until now when nobody says, in the zone", () => {
    expect(range({})).toEqual({ fromMs: Date.parse("2026-10-31T18:30:00Z"), toMs: nowMs });
    expect(monthMs(Date.parse("2026-11-30T20:00:00Z"), "Asia/Kolkata")).toBe(Date.parse("2026-11-30T18:30:00Z"));
    expect(monthMs(Date.parse("2026-01-15T00:00:00Z"), "UTC", 1)).toBe(Date.parse("2025-12-01T00:00:00Z"));
  });

  test("may be empty, but neither turned round nor longer than three years", () => {
    expect(range({ from: "2026-11-01", to: "2026-11-01" })).toMatchObject({
      fromMs: range({ from: "2026-11-01" }).fromMs,
    });
    expect(refusal(() => range({ from: "2026-11-02", to: "2026-11-01" }))).toMatchObject({ field: "to" });
    expect(refusal(() => range({ from: "2026-11-22" })).says).toStartWith(
      "from: from, 2026-11-21T18:30:00.000Z, is after now",
    );
    expect(refusal(() => range({ to: "2026-10-31" }))).toMatchObject({ field: "to" });
    expect(refusal(() => range({ from: "2000-01-01" }))).toMatchObject({ field: "from" });
    const told = refusal(() => range({ from: "2000-01-01", to: "2100-01-01" }));
    expect(told.field).toBe("to");
    expect(told.says).toContain(`at most ${RANGE_DAYS_MAX}`);
    expect(range({ from: "2023-11-22", to: "2026-11-22" }).toMs).toBeGreaterThan(nowMs);
  });
});

describe("groupsOf", () => {
  test("takes up to three, each once", () => {
    expect(groupsOf(undefined)).toEqual([]);
    const groups = groupsOf("day,template,metadata.team");
    expect(groups).toEqual([{ kind: "day" }, { kind: "template" }, { kind: "metadata", key: "team" }]);
    expect(groups.map(groupName)).toEqual(["day", "template", "metadata.team"]);
    expect(groupsOf("metadata.a.b")).toEqual([{ kind: "metadata", key: "a.b" }]);
    expect(groupsOf("metadata.__proto__")).toEqual([{ kind: "metadata", key: "__proto__" }]);
  });

  test("names what is unknown, twice there, or too many", () => {
    for (const [text, says] of [
      ["week", 'groupBy: got "week"'],
      ["", 'got ""'],
      ["day,", 'got ""'],
      ["day, template", 'got " template"'],
      ["Day", 'got "Day"'],
      ["metadata", 'got "metadata"'],
      ["metadata.", 'got "metadata."'],
      ["metadata.a\u0000", "got"],
      [`metadata.${"x".repeat(129)}`, "got"],
      ["day,day", 'got "day" twice'],
      ["metadata.a,metadata.a", 'got "metadata.a" twice'],
      ["day,sandbox,template,metadata.a", "got 4"],
      ["constructor", 'got "constructor"'],
    ] as const) {
      const told = refusal(() => groupsOf(text));
      expect({ text, field: told.field }).toEqual({ text, field: "groupBy" });
      expect(told.says).toContain(says);
      expect(told.says).toContain("allowed are up to 3 of day, sandbox, template and metadata.KEY");
    }
  });
});

test("isTimeZone and isDay take what there is alone", () => {
  for (const zone of ["UTC", "Europe/Berlin", "Asia/Kolkata", "Etc/GMT+5", "America/Argentina/Buenos_Aires"])
    expect([zone, isTimeZone(zone)]).toEqual([zone, true]);
  for (const zone of ["", "+02:00", "Mars/Olympus", "Europe/Berlin;", "../etc/passwd", "2", "europe berlin"])
    expect([zone, isTimeZone(zone)]).toEqual([zone, false]);
  expect([isDay("2026-11-21"), isDay("2026-11-31"), isDay("2026-1-1"), isDay("2026-11-21 ")]).toEqual([
    ...[true, false, false, false],
  ]);
});
