/**
 * The fonts of one document: each cut down to the glyphs that are used, with the text that each glyph stands for, so that what
 * is drawn can be searched and copied (ISO 32000-1, 9.7 and 9.10.3).
 */
import { type Face, type Glyph, subset } from "../type/harfbuzz.ts";
import type { Run } from "../type/line.ts";
import { metricsOf, tableOf } from "../type/sfnt.ts";
import { hex4, num, type PdfFile, type Ref, utf16Hex } from "./file.ts";

/** A glyph as content streams name it. */
export interface Coded {
  readonly glyph: Glyph;
  readonly code: number;
  /** Its neighbours say what it is a part of. */
  readonly silent: boolean;
}

/** Glyphs that are drawn together. */
export interface Span {
  readonly glyphs: readonly Coded[];
  /** What they say, where the glyphs' own texts do not say it. */
  readonly says: string | null;
}

interface Used {
  /** In content streams: `F1`. */
  readonly name: string;
  /**
   * Each pair of a glyph and what it says has a code of its own, from 1 on: one shape may be several letters, whose dots are
   * glyphs of their own.
   */
  readonly codes: Map<string, number>;
  readonly coded: { readonly id: number; readonly says: string }[];
}

/** Entries of one `bfchar` block. */
const BLOCK = 100;
const SYMBOLIC = 4; // flag of a font that is not of Latin letters alone

export class DocumentFonts {
  readonly #used = new Map<Face, Used>();

  /** Notes a run's glyphs; says the font's name, and in which spans they are to be drawn. */
  use(run: Run): { name: string; spans: Span[] } {
    let used = this.#used.get(run.font);
    if (used === undefined) {
      used = { name: `F${this.#used.size + 1}`, codes: new Map(), coded: [] };
      this.#used.set(run.font, used);
    }
    const coding = used;
    const spans = clusters(run).map(({ glyphs, says }): Span => {
      const wide = glyphs.filter(({ advance }) => advance > 0);
      const speaker = wide[0] ?? glyphs[0];
      const coded = glyphs.map((glyph) => {
        const silent = glyph !== speaker;
        return { glyph, code: codeOf(coding, glyph.id, silent ? "" : says), silent };
      });
      return { glyphs: coded, says: wide.length > 1 ? says : null };
    });
    return { name: used.name, spans: joined(spans, run.rightToLeft) };
  }

  /** Writes them all; entries of a resource dictionary. */
  write(file: PdfFile): string {
    return [...this.#used].map(([font, used]) => `/${used.name} ${embed(file, font, used)}`).join(" ");
  }
}

function codeOf({ codes, coded }: Used, id: number, says: string): number {
  const key = `${id} ${says}`;
  const known = codes.get(key);
  if (known !== undefined) return known;
  coded.push({ id, says });
  codes.set(key, coded.length);
  return coded.length;
}

/** A run's glyphs by the piece of text that they show together, from left to right. */
function clusters({ glyphs, text, drawn, rightToLeft }: Run): { glyphs: readonly Glyph[]; says: string }[] {
  if (drawn !== text) return [{ glyphs, says: text }];
  const groups: Glyph[][] = [];
  for (const glyph of glyphs) {
    const group = groups.at(-1);
    if (group?.[0]?.cluster === glyph.cluster) group.push(glyph);
    else groups.push([glyph]);
  }
  const startOf = (i: number) => groups[i]?.[0]?.cluster ?? drawn.length;
  return groups.map((group, i) => {
    const end = rightToLeft ? (i === 0 ? drawn.length : startOf(i - 1)) : startOf(i + 1);
    return { glyphs: group, says: drawn.slice(startOf(i), end) };
  });
}

/**
 * Neighbours that need no telling are one span, and from left to right also those that do. From right to left each stays
 * alone: readers turn what they find around, piece by piece.
 */
function joined(spans: readonly Span[], rightToLeft: boolean): Span[] {
  const all: Span[] = [];
  for (const span of spans) {
    const last = all.at(-1);
    const both = last !== undefined && (last.says === null) === (span.says === null);
    if (!both || (rightToLeft && span.says !== null)) all.push(span);
    else {
      const says = span.says === null ? null : `${last.says ?? ""}${span.says}`;
      all[all.length - 1] = { glyphs: [...last.glyphs, ...span.glyphs], says };
    }
  }
  return all;
}

function embed(file: PdfFile, font: Face, { name, coded }: Used): Ref {
  const ids = [...new Set(coded.map(({ id }) => id))].sort((a, b) => a - b);
  const cut = subset(font, ids);
  const compact = tableOf(cut, "CFF ");
  const program =
    compact === null
      ? `/FontFile2 ${file.add(`/Length1 ${cut.length}`, cut)}`
      : `/FontFile3 ${file.add("/Subtype /CIDFontType0C", compact)}`;
  const perThousand = (value: number) => num((value * 1000) / font.unitsPerEm);
  const { ascent, descent, box } = metricsOf(cut);
  // Six letters before the name mark a font that is not whole; which ones follows from the font's place in the document.
  const called = `/WARREN+${name}`;
  const descriptor = file.add(
    `/Type /FontDescriptor /FontName ${called} /Flags ${SYMBOLIC} /FontBBox [${box.map(perThousand).join(" ")}] ` +
      `/ItalicAngle 0 /Ascent ${perThousand(ascent)} /Descent ${perThousand(descent)} /CapHeight ${perThousand(ascent)} ` +
      `/StemV 80 ${program}`,
  );
  const widths = ids.map((id) => `${id} [${perThousand(font.advance(id))}]`).join(" ");
  const kind = compact === null ? "/CIDFontType2 /CIDToGIDMap /Identity" : "/CIDFontType0";
  const descendant = file.add(
    `/Type /Font /Subtype ${kind} /BaseFont ${called} /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) ` +
      `/Supplement 0 >> /FontDescriptor ${descriptor} /W [${widths}]`,
  );
  return file.add(
    `/Type /Font /Subtype /Type0 /BaseFont ${called} /Encoding ${encoding(file, coded)} /DescendantFonts [${descendant}] ` +
      `/ToUnicode ${file.add("", unicodeMap(coded))}`,
  );
}

type Codes = Used["coded"];

/** Code → glyph. Fonts keep the numbers of their glyphs, and a compact font's characters have the numbers of its glyphs. */
function encoding(file: PdfFile, coded: Codes): Ref {
  const info = "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>";
  const map = cmap(
    "WarrenGlyphs",
    1,
    "Identity",
    "cidchar",
    coded.map(({ id }, i) => `${hex4(i + 1)} ${id}`),
  );
  return file.add(`/Type /CMap /CMapName /WarrenGlyphs ${info} /WMode 0`, map);
}

/** For a glyph that says nothing by itself; readers make something up for one that has no text at all. */
const UNSEEN = "\u200b";

/** Code → text. */
function unicodeMap(coded: Codes): Uint8Array {
  const lines = coded.map(({ says }, i) => `${hex4(i + 1)} <${utf16Hex(says === "" ? UNSEEN : says)}>`);
  return cmap("Adobe-Identity-UCS", 2, "UCS", "bfchar", lines);
}

function cmap(name: string, type: number, ordering: string, entry: string, lines: readonly string[]): Uint8Array {
  const blocks: string[] = [];
  for (let i = 0; i < lines.length; i += BLOCK) {
    const block = lines.slice(i, i + BLOCK);
    blocks.push(`${block.length} begin${entry}\n${block.join("\n")}\nend${entry}`);
  }
  const text = [
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
    `/CIDSystemInfo << /Registry (Adobe) /Ordering (${ordering}) /Supplement 0 >> def`,
    `/CMapName /${name} def /CMapType ${type} def`,
    "1 begincodespacerange <0000> <FFFF> endcodespacerange",
    ...blocks,
    "endcmap CMapName currentdict /CMap defineresource pop end end",
  ];
  return Buffer.from(text.join("\n"), "latin1");
}
