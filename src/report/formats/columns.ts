/**
 * Columns of text for a terminal, as wide as they are seen: wide characters count as two, marks as none. Every line of a table
 * has the same width. What users and guests wrote is made safe first.
 */
import { escapeLine } from "../../base/escape.ts";

/** A cell longer than this many characters is cut before it is measured. */
const CHARS_MAX = 1024;
const GAP = "  ";
/** A column of text does not get narrower than this to fit a terminal. */
const NARROWEST = 12;

export function width(text: string): number {
  return Bun.stringWidth(text);
}

export interface Heading {
  readonly title: string;
  /** Below the title, if any column has one. */
  readonly unit?: string;
  readonly align: "left" | "right";
  /** Never clipped, though it is text. */
  readonly whole?: boolean;
}

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

/** The text, or its beginning and an ellipsis, in at most so many columns. Never half a character of several code points. */
export function clip(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  let kept = "";
  for (const { segment } of graphemes.segment(text)) {
    if (width(kept + segment) > columns - 1) break;
    kept += segment;
  }
  return `${kept}…`;
}

/** One line of safe text; nothing at all is a dash. */
export function cellText(text: string | null): string {
  if (text === null) return "–";
  return escapeLine(text.length > CHARS_MAX ? `${text.slice(0, CHARS_MAX).toWellFormed()}…` : text);
}

export function pad(text: string, columns: number, align: "left" | "right"): string {
  const room = " ".repeat(Math.max(0, columns - width(text)));
  return align === "left" ? text + room : room + text;
}

/** Takes room from the widest columns of text until all fit, or none can give any. */
function fitted(widths: number[], headings: readonly Heading[], columns: number): number[] {
  const fits = [...widths];
  const total = () => fits.reduce((sum, one) => sum + one, GAP.length * (fits.length - 1));
  while (total() > columns) {
    let widest = -1;
    for (const [i, { align, title, whole = false }] of headings.entries()) {
      const least = Math.max(NARROWEST, width(cellText(title)));
      if (align === "left" && !whole && (fits[i] ?? 0) > least && (fits[i] ?? 0) > (fits[widest] ?? 0)) widest = i;
    }
    if (widest < 0) return fits;
    fits[widest] = (fits[widest] ?? 0) - 1;
  }
  return fits;
}

/**
 * A table: titles, units, a rule, rows, and below another rule the rows of `foot`.
 * @param columns of the terminal; columns of text are clipped to fit, numbers never.
 */
export function columnsOf(
  headings: readonly Heading[],
  rows: readonly (readonly (string | null)[])[],
  foot: readonly (readonly (string | null)[])[] = [],
  columns = Number.POSITIVE_INFINITY,
): string {
  const titles = headings.map(({ title }) => title);
  const units = headings.map(({ unit }) => unit ?? "");
  const head = units.some((unit) => unit !== "") ? [titles, units] : [titles];
  const safe = (lines: readonly (readonly (string | null)[])[]) =>
    lines.map((line) => headings.map((_, i) => cellText(line[i] ?? null)));
  const [top, body, bottom] = [safe(head), safe(rows), safe(foot)];
  const widths = headings.map((_, i) =>
    [...top, ...body, ...bottom].reduce((w, l) => Math.max(w, width(l[i] ?? "")), 0),
  );
  const fits = fitted(widths, headings, columns);
  const draw = (line: readonly string[]) =>
    headings.map(({ align }, i) => pad(clip(line[i] ?? "", fits[i] ?? 0), fits[i] ?? 0, align)).join(GAP);
  const rule = fits.map((one) => "─".repeat(one)).join(GAP);
  const below = bottom.length === 0 ? [] : [rule, ...bottom.map(draw)];
  return [...top.map(draw), rule, ...body.map(draw), ...below].map((line) => `${line}\n`).join("");
}
