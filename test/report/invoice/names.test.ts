/** Names of all scripts, drawn on an invoice and read back from the file by a program that has nothing to do with Warren. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { invoicePdf } from "../../../src/report/invoice/pdf.ts";
import { Fonts } from "../../../src/report/type/fonts.ts";
import { printable } from "../../../src/report/type/printable.ts";
import { chunks } from "../../../src/report/type/wrap.ts";
import { gate } from "../../harness/gates.ts";
import { invoice, TERMS } from "../samples.ts";

const FONTS = new Fonts([]);

/** Written from the left: what is read back is the whole line. */
const LEFT_TO_RIGHT = [
  "Société Générale d’Exemples Ş.A.",
  "Żółta Łódź s.r.o. İstanbul Ķīlā",
  "Công ty Trách nhiệm Hữu hạn Ví Dụ",
  "Ελληνική Εταιρεία Α.Ε.",
  "ООО «Пример» Ґанок Ўзбекистон",
  "株式会社サンプル 東京都千代田区",
  "示例科技有限公司（北京）",
  "주식회사 예시 서울특별시",
  "हिन्दी क्षत्रिय श्रीमान् प्राइवेट लिमिटेड",
  "บริษัท ตัวอย่าง จำกัด (มหาชน) ที่นี่",
  "Emoji 👩‍👩‍👧 🇩🇪 👍🏽 ❤️ 🚀 GmbH",
  "Cuneiform \u{12000} Ltd",
];
/** From the right: readers put words of such lines in an order of their own, so each word is looked for. */
const RIGHT_TO_LEFT = ["شركة الأمل للتجارة السلام", "חברה לדוגמה בע״מ ישראל", "اردو کمپنی لمیٹڈ"];

function readBack(names: readonly string[]): string {
  const dir = mkdtempSync(join(tmpdir(), "warren-invoice-"));
  try {
    const path = join(dir, "invoice.pdf");
    writeFileSync(path, invoicePdf(invoice(1, { name: "Names", address: [...names] }), TERMS, FONTS).bytes);
    const { stdout, exitCode } = Bun.spawnSync(["pdftotext", "-raw", "-enc", "UTF-8", path, "-"]);
    expect(exitCode).toBe(0);
    // The reader marks directions, which are no part of what was written.
    return stdout.toString().replace(/[\u202a-\u202e]/g, "");
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

if (gate("poppler")) {
  describe("Names read back from an invoice", () => {
    const read = readBack([...LEFT_TO_RIGHT, ...RIGHT_TO_LEFT]).split("\n");

    for (const name of LEFT_TO_RIGHT) test(name, () => expect(read).toContain(name));
    for (const name of RIGHT_TO_LEFT) {
      for (const word of name.split(" ")) test(word, () => expect(read.join(" ").split(" ")).toContain(word));
    }
  });
}

describe("printable", () => {
  test("printable leaves nothing that hides, reorders or breaks the line, and keeps what scripts need", () => {
    expect(printable("  a\u202eb\tc\r\nd\u2028e\u200b ")).toBe("ab c d e");
    expect(printable("क्\u200dष")).toBe("क्\u200dष");
    expect(printable("👩\u200d👧 ❤\ufe0f")).toBe("👩\u200d👧 ❤\ufe0f");
    expect(printable("e\u0301")).toBe("é");
    expect(printable("\ud800x")).toBe("\ufffdx");
    expect(printable("x".repeat(5000)).length).toBeLessThan(4200);
  });

  test("printable of what cannot be seen is its codes, never nothing", () => {
    expect(printable("\u200b\u202e")).toBe("(U+200B U+202E)");
    expect(printable(" ")).toBe("(U+0020)");
    expect(printable("\u0301\u202e")).toBe("\u25cc\u0301");
    expect(printable("")).toBe("");
  });
});

describe("chunks", () => {
  test("chunks cut where a line may end: after spaces and hyphens, between words without spaces, not before marks", () => {
    expect(chunks("one two-three (four) 5.5%")).toEqual(["one ", "two-", "three ", "(four) ", "5.5%"]);
    expect(chunks("日本語、（東京）")).toEqual(["日本語、", "（東京）"]);
    expect(chunks("https://a.test/b/c").join("")).toBe("https://a.test/b/c");
    expect(chunks("ภาษาไทย").length).toBe(2);
  });
});
