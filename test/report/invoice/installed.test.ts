/** Fonts of the machine: which are asked for a character, and that the collections of Debian's CJK package are drawn right. */
import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { invoicePdf } from "../../../src/report/invoice/pdf.ts";
import { Fonts } from "../../../src/report/type/fonts.ts";
import { FONT_FOLDERS, InstalledFonts } from "../../../src/report/type/installed.ts";
import { invoice, TERMS } from "../samples.ts";

const FILES = [
  "NotoSansCJK-Regular.ttc",
  "NotoSansCJK-Bold.ttc",
  "NotoSansBengali-Regular.ttf",
  "NotoSansBengali-Bold.ttf",
  "NotoSerifTibetan-Regular.ttf",
  "NotoSansLinearB-Regular.ttf",
  "NotoSansSymbols2-Regular.ttf",
  "NotoMusic-Regular.ttf",
  "NotoSansMono-Regular.ttf",
  "NotoSans-Regular.ttf",
  "readme.txt",
];

function candidates(character: string, context = character): string[] {
  const folder = mkdtempSync(join(tmpdir(), "warren-fonts-"));
  try {
    for (const name of FILES) writeFileSync(join(folder, name), "");
    const fonts = new InstalledFonts(["/does/not/exist", folder]);
    return fonts
      .for(character, context)
      .map((font) => `${basename(font.regular)} ${basename(font.bold)} ${font.index}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("InstalledFonts", () => {
  test("InstalledFonts has the font of a character's script, its bold where there is one", () => {
    expect(candidates("ক")).toEqual(["NotoSansBengali-Regular.ttf NotoSansBengali-Bold.ttf 0"]);
    expect(candidates("བ")).toEqual(["NotoSerifTibetan-Regular.ttf NotoSerifTibetan-Regular.ttf 0"]);
    expect(candidates("\u{10000}")).toEqual(["NotoSansLinearB-Regular.ttf NotoSansLinearB-Regular.ttf 0"]);
    expect(candidates("ა")).toEqual([]);
    expect(candidates("⚙").map((name) => name.split("-")[0])).toEqual(["NotoMusic", "NotoSansSymbols2"]);
  });

  test("InstalledFonts draws a Chinese character as the language does that it is written in", () => {
    const cjk = (index: number) => [`NotoSansCJK-Regular.ttc NotoSansCJK-Bold.ttc ${index}`];
    expect(candidates("骨", "骨の会社")).toEqual(cjk(0));
    expect(candidates("骨", "骨 회사")).toEqual(cjk(1));
    expect(candidates("骨", "骨科公司")).toEqual(cjk(2));
    expect(candidates("（", "（骨）")).toEqual(cjk(2));
  });

  test("invoicePdf does without a font that is empty, cut off or gone", () => {
    const folder = mkdtempSync(join(tmpdir(), "warren-fonts-"));
    try {
      writeFileSync(join(folder, "NotoSansBengali-Regular.ttf"), "");
      writeFileSync(join(folder, "NotoSansTamil-Regular.ttf"), "\0\u0001\0\0\0\u0010");
      writeFileSync(join(folder, "NotoSansGeorgian-Regular.ttf"), "wOFF".padEnd(30));
      symlinkSync("/does/not/exist", join(folder, "NotoSansThaana-Regular.ttf"));
      const { missing, bytes } = invoicePdf(invoice(1, { name: "ক த ა ދ" }), TERMS, new Fonts([folder]));
      expect(missing).toEqual([]); // there is always the last resort
      expect(bytes.length).toBeGreaterThan(1000);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("InstalledFonts of a machine that has none is empty", () => {
    expect(new InstalledFonts(["/does/not/exist"]).for("骨", "骨")).toEqual([]);
  });
});

const [cjk = ""] = FONT_FOLDERS.map((folder) => join(folder, "NotoSansCJK-Regular.ttc")).filter((path) =>
  existsSync(path),
);
if (cjk === "") console.warn("skipped: fonts-noto-cjk is not installed");
test.if(cjk !== "")("invoicePdf cuts a collection of compact fonts down to what is used", () => {
  const { bytes, missing } = invoicePdf(
    invoice(1, { name: "渡辺株式会社 주식회사", address: ["北京"] }),
    TERMS,
    new Fonts(),
  );
  expect(missing).toEqual([]);
  expect(Buffer.from(bytes).toString("latin1")).toContain("/CIDFontType0C");
  expect(bytes.length).toBeLessThan(60_000);
});
