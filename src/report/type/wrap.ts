/** Paragraphs into lines: at spaces, after hyphens and slashes, between words of scripts that have no spaces. */
import { directionOf, type Line, type Style, type Typesetter } from "./line.ts";

const words = new Intl.Segmenter("en", { granularity: "word" });
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
const UNSPACED =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u3001-\u303f\uff01-\uff60]/u;
/** Never first on a line; and never last. */
const CLOSES = /^[\p{Pe}\p{Pf}\p{Po}\p{M}ーァィゥェォッャュョ]/u;
const OPENS = /[\p{Ps}\p{Pi}]$/u;

/** Text cut where a line may end; spaces stay at the end of what comes before them. */
export function chunks(text: string): string[] {
  const all: string[] = [];
  for (const { segment } of words.segment(text)) {
    const last = all.at(-1);
    if (last !== undefined && !mayBreak(last, segment)) all[all.length - 1] = last + segment;
    else all.push(segment);
  }
  return all;
}

function mayBreak(before: string, after: string): boolean {
  if (after.trim() === "" || CLOSES.test(after) || OPENS.test(before)) return false;
  if (/\s$/.test(before) || /[\p{L}\p{N}][-/]$/u.test(before)) return true;
  const [left = ""] = Array.from(before).slice(-1);
  const [right = ""] = Array.from(after);
  return UNSPACED.test(left) || UNSPACED.test(right);
}

/**
 * Lines of at most `width` points; a word that is longer is cut between characters.
 * @param most lines; what is beyond them is left out, and the last says so with an ellipsis
 */
export function wrap(type: Typesetter, text: string, style: Style, width: number, most = 12): Line[] {
  const measured = (part: string) => type.line(part.trimEnd(), style).width;
  const lines: string[] = [];
  let line = "";
  for (const chunk of chunks(text)) {
    if (line !== "" && measured(line + chunk) > width) {
      lines.push(line);
      line = "";
    }
    if (measured(line + chunk) <= width) {
      line += chunk;
      continue;
    }
    for (const { segment } of graphemes.segment(chunk)) {
      if (line !== "" && measured(line + segment) > width) {
        lines.push(line);
        line = "";
      }
      line += segment;
    }
  }
  if (line.trim() !== "") lines.push(line);
  const kept = lines.slice(0, most).map((one) => one.trim());
  if (lines.length > most) kept[most - 1] = `${kept[most - 1] ?? ""} …`;
  const direction = directionOf(text);
  return kept.map((one) => type.line(one, style, direction));
}
