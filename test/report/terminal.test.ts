/** Reports on a terminal: lines that line up, whatever is written in them, and nothing that the terminal obeys. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { UsageReport } from "../../src/contract/routes/api/billing.ts";
import { type Bar, chart, usageChart } from "../../src/report/formats/chart.ts";
import { clip, columnsOf } from "../../src/report/formats/columns.ts";
import { json } from "../../src/report/formats/json.ts";
import { invoiceTable, usageTable } from "../../src/report/formats/table.ts";
import { invoice, usage } from "./samples.ts";

const hostile = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc.string({
    unit: fc.constantFrom(
      "\x1b[2J",
      "日",
      "本",
      "e\u0301",
      "👩‍👩‍👧",
      "\u202e",
      "\n",
      "\t",
      "ﷺ",
      "a",
      "\ud800",
      "🇩",
      "한",
    ),
  }),
);
const CONTROLS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;

function widths(text: string): number[] {
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => Bun.stringWidth(line));
}

describe("columnsOf", () => {
  test("columnsOf gives every line the same width, within the terminal's, and no control character", () => {
    const rows = fc.array(fc.tuple(fc.option(hostile), hostile, fc.integer().map(String)), { maxLength: 6 });
    fc.assert(
      fc.property(rows, fc.integer({ min: 50, max: 200 }), (cells, columns) => {
        const text = columnsOf(
          [
            { title: "first", align: "left" },
            { title: "second", unit: "unit", align: "left" },
            { title: "number", align: "right" },
          ],
          cells,
          [["total", "", "0"]],
          columns,
        );
        const seen = widths(text);
        expect(new Set(seen).size).toBe(1);
        expect(seen[0]).toBeLessThanOrEqual(columns);
        expect(text).not.toMatch(CONTROLS);
        expect(seen.length).toBe(cells.length + 5);
      }),
      { numRuns: 2000 },
    );
  });

  test("clip never keeps half of a character", () => {
    expect(clip("ab👩‍👩‍👧cd", 4)).toBe("ab…");
    expect(clip("日本語", 5)).toBe("日本…");
    expect(clip("日本語", 6)).toBe("日本語");
  });
});

describe("usageTable", () => {
  test("usageTable has natural units, amounts that line up, days of 23 hours and a total", () => {
    expect(usageTable({ ...usage, rows: usage.rows.slice(0, 3) })).toBe(
      [
        "day                metadata.team        vCPU     memory       amount",
        "                                  vCPU-hours  GiB-hours          USD",
        "─────────────────  ─────────────  ──────────  ─────────  ───────────",
        "2026-03-28         ingest              1.000      2.713   0.03612346",
        '2026-03-29 (23 h)  日本, "語"         10.000      2.713  12.36000000',
        "2026-03-30         –                  <0.001      2.713  -4.50000000",
        "─────────────────  ─────────────  ──────────  ─────────  ───────────",
        "total                                 11.000      8.138   7.89612346",
        "Amounts are rounded to 8 decimals here; json, csv and parquet have all.",
        "",
      ].join("\n"),
    );
  });

  test("usageTable without groups is one line, and a meter that counted nothing has no column", () => {
    const meters = { vcpu_ms: "3600000", egress_bytes: "0" };
    const one: UsageReport = {
      ...usage,
      groupBy: [],
      rows: [{ group: {}, meters, amount: "1.5" }],
      meters,
      total: "1.5",
    };
    const lines = usageTable(one).split("\n");
    expect(lines.length).toBe(5);
    expect(lines[3]).toBe("total       1.000    1.50");
  });

  test("invoiceTable shows each line and the total in the currency's own decimals", () => {
    const text = invoiceTable({ ...invoice(1), currency: "JPY", total: "7" }, { columns: 100 });
    expect(new Set(widths(text)).size).toBe(1);
    expect(text).toContain("vCPUs of running sandboxes");
    expect(text.split("\n").at(-2)).toMatch(/^total +7$/);
  });
});

describe("chart", () => {
  const bars = (...amounts: string[]): Bar[] => amounts.map((amount, i) => ({ label: `2026-03-0${i + 1}`, amount }));
  const plain = { columns: 60, colour: false, currency: "USD" };

  test("chart draws corrections to the left of zero, all on one axis", () => {
    expect(chart(bars("10", "5", "-5", "0"), plain)).toBe(
      [
        "2026-03-01               ████████████████████████  10.00 USD",
        "2026-03-02               ████████████               5.00 USD",
        "2026-03-03   ████████████                          -5.00 USD",
        "2026-03-04                                          0.00 USD",
        "",
      ].join("\n"),
    );
  });

  test("chart keeps within the terminal, its lines as wide as each other, and is coloured only when asked", () => {
    const bar = fc.record({ label: hostile, amount: fc.integer().map((n) => `${n}.25`) });
    fc.assert(
      fc.property(fc.array(bar, { minLength: 1, maxLength: 8 }), fc.integer({ min: 40, max: 200 }), (some, columns) => {
        const text = chart(some, { ...plain, columns });
        expect(new Set(widths(text)).size).toBe(1);
        expect(widths(text)[0]).toBeLessThanOrEqual(columns);
        expect(text).not.toMatch(CONTROLS);
        expect(Bun.stripANSI(chart(some, { ...plain, columns, colour: true }))).toBe(text);
      }),
      { numRuns: 1000 },
    );
    expect(chart(bars("1", "-1"), { ...plain, colour: true })).toContain("\x1b[31m");
  });

  test("chart shows what is next to nothing, and says when there is nothing", () => {
    expect(chart(bars("1000000", "0.01"), plain).split("\n")[1]).toContain("▏");
    expect(chart([], plain)).toBe("Nothing was used.\n");
  });

  test("usageChart calls its bars by their groups", () => {
    expect(usageChart(usage, { columns: 80, colour: false })).toContain("2026-03-29 (23 h) · 日本");
  });
});

describe("json", () => {
  test("json holds nothing that a terminal obeys, and means what it meant", () => {
    fc.assert(
      fc.property(fc.dictionary(hostile, hostile), (value) => {
        const text = json(value);
        expect(text).not.toMatch(CONTROLS);
        expect(JSON.parse(text)).toEqual(value);
      }),
      { numRuns: 1000 },
    );
    expect(json("\x9b2J\u202e\u{e0001}")).toBe('"\\u009b2J\\u202e\\udb40\\udc01"\n');
  });

  test("json keeps numbers as text and is the same bytes in whatever order keys came", () => {
    const turned = Object.fromEntries(Object.entries(usage).reverse());
    expect(json(turned)).toBe(json(usage));
    expect(JSON.parse(json(usage))).toEqual(usage);
    expect(json({ b: 1, a: { d: [{ f: 1, e: "2.50" }] } })).toBe(
      '{\n  "a": {\n    "d": [\n      {\n        "e": "2.50",\n        "f": 1\n      }\n    ]\n  },\n  "b": 1\n}\n',
    );
    expect(json(JSON.parse('{"__proto__": "x"}'))).toContain('"__proto__": "x"');
  });
});
