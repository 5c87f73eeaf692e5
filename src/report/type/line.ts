/**
 * One line of text as glyphs: directions by the Unicode bidirectional algorithm, a font for every character, shapes by
 * HarfBuzz. What no font has is shown by its code, `[U+12345]`, and told.
 */
import bidiFactory from "bidi-js";
import type { Fonts } from "./fonts.ts";
import type { Face, Glyph } from "./harfbuzz.ts";

export interface Style {
  readonly bold: boolean;
  /** Points. */
  readonly size: number;
}

export interface Run {
  readonly font: Face;
  readonly glyphs: readonly Glyph[];
  /** What it says, in the order in which it is read. */
  readonly text: string;
  /** What is drawn: the text, or the code that stands for it. */
  readonly drawn: string;
  readonly rightToLeft: boolean;
}

export interface Line {
  /** From left to right. */
  readonly runs: readonly Run[];
  readonly text: string;
  readonly size: number;
  /** Points. */
  readonly width: number;
}

export type Direction = "ltr" | "rtl";

/** By the first letter that has one. */
export function directionOf(text: string): Direction {
  return (bidi.getEmbeddingLevels(text).paragraphs[0]?.level ?? 0) % 2 === 1 ? "rtl" : "ltr";
}

interface Piece {
  readonly text: string;
  readonly font: Face;
  readonly level: number;
  /** What is drawn in its place. */
  readonly drawn: string;
}

const bidi = bidiFactory();
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

export class Typesetter {
  /** Characters that no font had, as `U+12345`, in the order in which they came. */
  readonly missing = new Set<string>();
  readonly #fonts: Fonts;
  /** Of one document: its words and lines are much the same, and are measured many times. */
  readonly #lines = new Map<string, Line>();

  constructor(fonts: Fonts) {
    this.#fonts = fonts;
  }

  /** Printable text of one line; `direction` is that of the paragraph, by default of its first letter. */
  line(text: string, style: Style, direction?: Direction): Line {
    const key = `${style.bold} ${style.size} ${direction} ${text}`;
    const known = this.#lines.get(key);
    if (known !== undefined) return known;
    const runs = leftToRight(merged(this.#pieces(text, style, direction))).map(shaped);
    const width = runs.reduce((sum, run) => sum + runWidth(run, style.size), 0);
    const line = { runs, text, size: style.size, width };
    this.#lines.set(key, line);
    return line;
  }

  #pieces(text: string, { bold }: Style, direction?: Direction): Piece[] {
    const { levels } = bidi.getEmbeddingLevels(text, direction);
    const pieces: Piece[] = [];
    for (const { segment, index } of graphemes.segment(text)) {
      const level = levels[index] ?? 0;
      const whole = this.#fonts.choose(segment, bold, text);
      if (whole !== null) pieces.push({ text: segment, font: whole, level, drawn: segment });
      // A letter and its marks may be in two fonts, and a code in brackets is made of several characters.
      else for (const char of segment) pieces.push(...this.#single(char, bold, text, level));
    }
    return pieces;
  }

  #single(char: string, bold: boolean, text: string, level: number): Piece[] {
    const font = this.#fonts.choose(char, bold, text);
    if (font !== null) return [{ text: char, font, level, drawn: char }];
    const code = `U+${(char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
    this.missing.add(code);
    const latin = this.#fonts.choose("U", bold, "");
    // Codes are read from the left, also within a line that is not.
    return latin === null ? [] : [{ text: char, font: latin, level: level + (level % 2), drawn: `[${code}]` }];
  }
}

/** Neighbours of one font and direction are shaped together; what stands for another text is alone. */
function merged(pieces: readonly Piece[]): Piece[] {
  const all: Piece[] = [];
  for (const piece of pieces) {
    const last = all.at(-1);
    const joins = last !== undefined && last.font === piece.font && last.level === piece.level;
    if (joins && last.drawn === last.text && piece.drawn === piece.text) {
      all[all.length - 1] = { ...last, text: last.text + piece.text, drawn: last.drawn + piece.drawn };
    } else all.push(piece);
  }
  return all;
}

/** Rule L2 of the bidirectional algorithm, over pieces: from the highest level down, what is at it or above is reversed. */
function leftToRight(pieces: readonly Piece[]): Piece[] {
  const order = [...pieces];
  const highest = order.reduce((most, { level }) => Math.max(most, level), 0);
  for (let level = highest; level > 0; level -= 1) {
    for (let from = 0; from < order.length; from += 1) {
      if ((order[from]?.level ?? 0) < level) continue;
      let to = from;
      while (to + 1 < order.length && (order[to + 1]?.level ?? 0) >= level) to += 1;
      order.splice(from, to - from + 1, ...order.slice(from, to + 1).reverse());
      from = to;
    }
  }
  return order;
}

function shaped({ text, drawn, font, level }: Piece): Run {
  const rightToLeft = level % 2 === 1;
  return { font, glyphs: font.shape(drawn, rightToLeft), text, drawn, rightToLeft };
}

function runWidth({ font, glyphs }: Run, size: number): number {
  return (glyphs.reduce((sum, { advance }) => sum + advance, 0) * size) / font.unitsPerEm;
}
