/** Invoices as PDF: where things are, that all of it is there, that nobody's name breaks it, and the same bytes each time. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { invoicePdf } from "../../../src/report/invoice/pdf.ts";
import { FLOOR, LEFT, PAGE, RIGHT } from "../../../src/report/invoice/sheet.ts";
import { Fonts } from "../../../src/report/type/fonts.ts";
import { invoice, TERMS } from "../samples.ts";

/** What Warren brings alone, so that it is the same on every machine. */
const FONTS = new Fonts([]);
const GOLDEN = join(import.meta.dir, "../../golden/invoice-layout.json");

const rendered = (...of: Parameters<typeof invoice>) => invoicePdf(invoice(...of), TERMS, FONTS);
const texts = (pages: ReturnType<typeof rendered>["pages"]) => pages.flat().map(({ text }) => text);

describe("invoicePdf", () => {
  test("invoicePdf puts everything where the golden file says", async () => {
    const { pages } = rendered(22, {
      name: "Société Générale d’Exemples Ş.A.",
      address: ["12, rue de l’Été", "75001 Paris"],
    });
    const round = (value: number) => Math.round(value * 10) / 10;
    const layout = pages.map((page) => page.map(({ text, x, y, width }) => [round(x), round(y), round(width), text]));
    // UPDATE_GOLDEN=1 writes what is drawn now: look at a page before keeping it.
    if (process.env["UPDATE_GOLDEN"] === "1") {
      const lines = layout.map((page) => `  [\n${page.map((line) => `    ${JSON.stringify(line)}`).join(",\n")}\n  ]`);
      await Bun.write(GOLDEN, `[\n${lines.join(",\n")}\n]\n`);
    }
    expect(layout).toEqual(await Bun.file(GOLDEN).json());
  });

  for (const [count, wanted] of [
    [1, 1],
    [40, 3],
    [400, 18],
  ] as const) {
    test(`invoicePdf of ${count} lines: ${wanted} pages, headings on each, all lines and numbers in their columns`, () => {
      const { pages, bytes } = rendered(count);
      expect(pages.length).toBe(wanted);
      for (const [i, page] of pages.entries()) {
        const here = page.map(({ text }) => text);
        expect(here).toContain(`Page ${i + 1} of ${wanted}`);
        expect(here.filter((text) => text === "Description").length).toBe(1);
        if (i > 0) expect(here[0]).toBe("Invoice 2026-10-0007, continued");
        const body = page.filter(({ text }) => !/^Page |· 2026-10-0007$/.test(text));
        for (const { x, y, width } of page) {
          expect(x).toBeGreaterThanOrEqual(LEFT);
          expect(x + width).toBeLessThanOrEqual(RIGHT + 0.01);
          expect(y).toBeLessThan(PAGE.height);
        }
        for (const { y } of body) expect(y).toBeLessThanOrEqual(FLOOR);
      }
      const amounts = pages.flat().filter(({ text }) => text === "12.35");
      expect(amounts.length).toBe(count + (count === 1 ? 1 : 0)); // the total of usage is one, too
      expect(new Set(amounts.map(({ x, width }) => (x + width).toFixed(3))).size).toBe(1);
      expect(texts(pages)).toContain("Total due (USD)");
      expect(bytes.length).toBeLessThan(60_000);
    });
  }

  test("invoicePdf never leaves the totals alone on a page: a line of the table is with them", () => {
    const pages = new Set<number>();
    for (let count = 1; count < 40; count += 1) {
      const { pages: all } = rendered(count);
      pages.add(all.length);
      const last = (all.at(-1) ?? []).map(({ text }) => text);
      expect(last).toContain("Outage on 14 September (entry 4711)");
      expect(last).toContain("Total due (USD)");
    }
    expect([...pages]).toEqual([1, 2, 3]);
  });

  test("invoicePdf gives the same bytes for the same invoice, also from fonts opened anew in another order", () => {
    const once = rendered(3, { name: "Ünï שלום 東京" }).bytes;
    const other = new Fonts([]);
    invoicePdf(invoice(1, { name: "東京 नमस्ते" }), TERMS, other);
    expect(Buffer.compare(invoicePdf(invoice(3, { name: "Ünï שלום 東京" }), TERMS, other).bytes, once)).toBe(0);
    expect(Buffer.compare(rendered(3, { name: "Ünï שלום 東亰" }).bytes, once)).not.toBe(0);
  });

  test("invoicePdf marks a draft on every page, and has no date on it", () => {
    const draft = { ...invoice(40), issuedAt: null, id: "draft-2026-10" };
    const { pages, bytes } = invoicePdf(draft, TERMS, FONTS);
    expect(texts(pages)).toContain("DRAFT INVOICE");
    expect(texts(pages)).toContain("not yet");
    expect(texts(pages)).toContain("Total so far (USD)");
    expect(texts(pages).join("\n")).not.toContain("IBAN");
    expect(texts(rendered(1).pages).join("\n")).toContain("IBAN");
    expect(Buffer.from(bytes).toString("latin1")).not.toContain("CreationDate");
    const issued = invoicePdf(invoice(40), TERMS, FONTS);
    expect(Buffer.from(issued.bytes).toString("latin1")).toContain("/CreationDate (D:20261101000300Z)");
    expect(texts(issued.pages)).not.toContain("DRAFT INVOICE");
  });

  test("invoicePdf refuses an invoice whose lines do not add up to its total", () => {
    expect(() => invoicePdf({ ...invoice(2), total: "19.21" }, TERMS, FONTS)).toThrow(/add up to 19.20.*19.21/);
    expect(() => invoicePdf({ ...invoice(2), total: "19.2" }, TERMS, FONTS)).not.toThrow();
  });

  test("invoicePdf of no lines says so, and a total in the customer's favour is called that", () => {
    const nothing = invoicePdf({ ...invoice(0), lines: [], total: "0" }, TERMS, FONTS);
    expect(texts(nothing.pages)).toContain("Nothing was used in this period.");
    expect(texts(invoicePdf(invoice(0), TERMS, FONTS).pages)).toContain("Total in your favour (USD)");
  });

  test("invoicePdf draws numbers of thirty digits smaller, not over their neighbours", () => {
    const huge = "123456789012345678901234567890.12";
    const [line] = invoice(1).lines;
    if (line === undefined) throw new Error("an invoice has lines");
    const { pages } = invoicePdf({ ...invoice(1), lines: [{ ...line, amount: huge }], total: huge }, TERMS, FONTS);
    const drawn = pages.flat().filter(({ text }) => text === "123,456,789,012,345,678,901,234,567,890.12");
    expect(drawn.length).toBe(3);
    for (const { x } of drawn) expect(x).toBeGreaterThan(LEFT);
  });

  test("invoicePdf of names in any characters never fails, and never leaves a name out", () => {
    const names = fc.oneof(
      fc.string({ unit: "binary", minLength: 1, maxLength: 60 }),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 }),
      fc.string({
        unit: fc.constantFrom(
          "\u202e",
          "\u200d",
          "\ufe0f",
          "\ud800",
          "\u0301",
          "ا",
          "ل",
          "क",
          "्",
          "ि",
          "👩",
          "🏽",
          " ",
          "\n",
          "(",
          "a",
        ),
        minLength: 1,
        maxLength: 40,
      }),
    );
    fc.assert(
      fc.property(names, fc.array(names, { maxLength: 3 }), (name, address) => {
        const { pages, bytes } = rendered(1, { name, address, taxId: name });
        const [first = []] = pages;
        const billTo = first.findIndex(({ text }) => text === "BILL TO");
        const named = first.filter(({ y, x }) => x === LEFT && y === (first[billTo]?.y ?? 0) + 15);
        if (/\S/.test(name)) expect(named.length).toBe(1);
        for (const { x, width } of named) expect(width > 0 && x + width < RIGHT).toBe(true);
        expect(bytes.length).toBeGreaterThan(1000);
      }),
      { numRuns: 200 },
    );
  }, 60_000);

  test("invoicePdf shows what no font has by its code, and tells", () => {
    const { pages, missing } = rendered(1, { name: "King \u{12000} Ltd" });
    expect(missing).toEqual(["U+12000"]);
    expect(texts(pages).join("\n")).toContain("which are shown by their codes: U+12000.");
    expect(rendered(1, { name: "東京 नमस्ते 🚀" }).missing).toEqual([]);
  });

  test("invoicePdf is a file whose parts are where its table says", () => {
    const text = Buffer.from(rendered(1).bytes).toString("latin1");
    const start = Number(/startxref\n(\d+)\n%%EOF\n$/.exec(text)?.[1]);
    const [, table = ""] = /^xref\n0 \d+\n([^t]+)trailer/.exec(text.slice(start)) ?? [];
    const offsets = table
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => Number.parseInt(line, 10));
    expect(offsets.length).toBeGreaterThan(10);
    for (const [i, offset] of offsets.entries())
      expect(text.slice(offset, offset + 12)).toStartWith(`${i + 1} 0 obj\n`);
  });
});
