/** Numbers, money and days for people: exact text in, text out, no float in between. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { dayLabel, daysAfter, hoursOfDay, localDay, longDate, monthSpan } from "../../src/report/numbers/day.ts";
import { grouped, parseDecimal, plainText, plus, round, shortest, times } from "../../src/report/numbers/decimal.ts";
import { money, sharedPlaces, unitPrice } from "../../src/report/numbers/money.ts";
import { quantity } from "../../src/report/numbers/quantity.ts";

const decimal = fc
  .tuple(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), fc.integer({ min: 0, max: 40 }))
  .map(([units, places]) => ({ units, places }));

describe("Decimal", () => {
  test("parseDecimal and plainText give back what was written", () => {
    fc.assert(
      fc.property(decimal, (value) => {
        const text = plainText(value);
        expect(parseDecimal(text)).toEqual(value);
        expect(grouped(value).replaceAll(",", "")).toBe(text);
        expect(plainText(shortest(value))).toBe(text.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""));
      }),
    );
    for (const wrong of ["", "1e5", "+1", "1.", ".5", " 1", "1,000", "NaN", "--1"]) {
      expect(() => parseDecimal(wrong)).toThrow(/plain decimal/);
    }
  });

  test("Decimal adds and multiplies exactly, and rounds halves away from zero", () => {
    expect(plainText(plus(parseDecimal("0.1"), parseDecimal("0.2")))).toBe("0.3");
    expect(plainText(times(parseDecimal("-0.000000000931322574615478515625"), parseDecimal("1073741824")))).toMatch(
      /^-1\.0+$/,
    );
    expect(["0.005", "-0.005", "0.0049", "1.995"].map((text) => plainText(round(parseDecimal(text), 2)))).toEqual([
      "0.01",
      "-0.01",
      "0.00",
      "2.00",
    ]);
  });
});

describe("money", () => {
  test("money has its currency's decimals", () => {
    expect(money("1234567.5", "USD")).toBe("1,234,567.50");
    expect(money("1234567.5", "JPY")).toBe("1,234,568");
    expect(money("-0.0005", "KWD")).toBe("-0.001");
    expect(money("123456789012345678901234567890.12", "EUR")).toBe("123,456,789,012,345,678,901,234,567,890.12");
    expect(money("-0.001", "USD")).toBe("0.00");
    expect(unitPrice("0.000010", "USD")).toBe("0.00001");
    expect(unitPrice("12", "USD")).toBe("12.00");
  });

  test("sharedPlaces are as many as the longest amount needs, and says when that is too many to show", () => {
    expect(sharedPlaces(["1", "0.12345"], "USD")).toEqual({ places: 5, rounded: false });
    expect(sharedPlaces(["0.123456789"], "USD")).toEqual({ places: 8, rounded: true });
    expect(sharedPlaces(["1.50"], "JPY")).toEqual({ places: 1, rounded: false });
  });
});

describe("quantity", () => {
  test("quantity is in units that people think in", () => {
    expect(quantity("vcpu_ms", "3600000")).toBe("1.000");
    expect(quantity("memory_mib_ms", String(1024 * 3_600_000 * 2))).toBe("2.000");
    expect(quantity("volume_mib_s", String(1024 * 730 * 3600))).toBe("1.000");
    expect(quantity("egress_bytes", String(1.5 * 2 ** 30))).toBe("1.500");
    expect(quantity("creates", "12345")).toBe("12,345");
    expect(quantity("a_meter_of_tomorrow", "12345")).toBe("12,345");
  });

  test("quantity of a little is never nothing", () => {
    expect(quantity("vcpu_ms", "1")).toBe("<0.001");
    expect(quantity("vcpu_ms", "-1")).toBe(">-0.001");
    expect(quantity("vcpu_ms", "0")).toBe("0.000");
  });
});

describe("Days", () => {
  test("localDay is the account's own date", () => {
    expect(localDay("2026-11-21T23:30:00Z", "Asia/Kolkata")).toBe("2026-11-22");
    expect(localDay("2026-11-21T23:30:00Z", "UTC")).toBe("2026-11-21");
    expect(localDay("2026-11-22T05:30:00+05:30", "America/New_York")).toBe("2026-11-21");
  });

  test("dayLabel says of a day when it is not as long as others", () => {
    expect(hoursOfDay("2026-03-29", "Europe/Berlin")).toBe(23);
    expect(hoursOfDay("2026-10-25", "Europe/Berlin")).toBe(25);
    expect(hoursOfDay("2026-10-04", "Australia/Lord_Howe")).toBe(23.5);
    expect(dayLabel("2026-03-29", "Europe/Berlin")).toBe("2026-03-29 (23 h)");
    expect(dayLabel("2026-03-29", "UTC")).toBe("2026-03-29");
    // Clocks went from 0:00 to 1:00: the day begins at 1.
    expect(dayLabel("2018-11-04", "America/Sao_Paulo")).toBe("2018-11-04 (23 h)");
  });

  test("Days refuse what is no date, instant or zone, and say what came", () => {
    expect(() => localDay("yesterday", "UTC")).toThrow(/yesterday/);
    expect(() => localDay("2026-11-21T00:00:00Z", "Mars/Olympus")).toThrow(/Mars/);
    expect(() => hoursOfDay("2026-02-30", "UTC")).toThrow(/2026-02-30/);
  });

  test("Dates in words", () => {
    expect(longDate("2026-11-01")).toBe("1 November 2026");
    expect(monthSpan("2028-02")).toBe("1 – 29 February 2028");
    expect(daysAfter("2026-12-20T10:00:00Z", 30)).toBe("2027-01-19");
  });
});
