/** One page's drawing: lines of text, rules and boxes, placed in points from the top left corner. */
import type { Face } from "../type/harfbuzz.ts";
import type { Line } from "../type/line.ts";
import { hex4, num, textString } from "./file.ts";
import type { DocumentFonts, Span } from "./fonts.ts";

/** Red, green, blue, each of 0 to 1. */
export type Colour = readonly [number, number, number];

export interface Placed {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
}

export class Page {
  /** Every line of text, in the order in which it was placed. */
  readonly placed: Placed[] = [];
  readonly #fonts: DocumentFonts;
  readonly #height: number;
  readonly #drawn: string[] = [];
  readonly #beneath: string[] = [];

  constructor(fonts: DocumentFonts, height: number) {
    this.#fonts = fonts;
    this.#height = height;
  }

  /** @param y of the baseline; `anchor` says which end of the line `x` is. */
  text(line: Line, x: number, y: number, colour: Colour, anchor: "left" | "right" = "left"): void {
    const left = anchor === "left" ? x : x - line.width;
    this.placed.push({ text: line.text, x: left, y, width: line.width });
    this.#drawn.push(`BT ${colour.map(num).join(" ")} rg ${this.#shown(line, left, this.#height - y)} ET`);
  }

  /** A line turned by 45 degrees around the page's middle, as a watermark beneath everything. */
  across(line: Line, width: number, colour: Colour): void {
    const diagonal = Math.SQRT1_2;
    const turn = [diagonal, diagonal, -diagonal, diagonal].map(num).join(" ");
    const origin = `${num(width / 2)} ${num(this.#height / 2)}`;
    const text = this.#shown(line, -line.width / 2, -line.size / 3);
    this.#beneath.push(`q ${turn} ${origin} cm /Artifact BMC BT ${colour.map(num).join(" ")} rg ${text} ET EMC Q`);
  }

  rule(x: number, y: number, width: number, thickness: number, colour: Colour): void {
    this.box(x, y - thickness / 2, width, thickness, colour);
  }

  /** Filled; `y` is its upper edge. */
  box(x: number, y: number, width: number, height: number, colour: Colour): void {
    const corner = `${num(x)} ${num(this.#height - y - height)}`;
    this.#drawn.push(`${colour.map(num).join(" ")} rg ${corner} ${num(width)} ${num(height)} re f`);
  }

  #shown(line: Line, x: number, y: number): string {
    const parts = [`1 0 0 1 ${num(x)} ${num(y)} Tm`];
    const silent: string[] = [];
    let pen = x;
    for (const run of line.runs) {
      const { name, spans } = this.#fonts.use(run);
      const em = line.size / run.font.unitsPerEm;
      const font = `/${name} ${num(line.size)} Tf`;
      const { placed, end } = penned(spans);
      parts.push(font);
      let at = 0;
      for (const { says, glyphs } of placed) {
        const drawn = glyphs.filter(({ says: own }) => says !== null || own);
        const shown = tj(drawn, run.font, line.size, at);
        at = after(drawn, run.font, at);
        // What glyphs alone would not give back is said beside them.
        parts.push(says === null ? shown : `/Span << /ActualText ${textString(says)} >> BDC ${shown} EMC`);
        for (const { code, x: left, dy } of glyphs.filter((one) => !drawn.includes(one))) {
          silent.push(`${font} 1 0 0 1 ${num(pen + left * em)} ${num(y + dy * em)} Tm ${hex4(code)} Tj`);
        }
      }
      pen += end * em;
      parts.push(`1 0 0 1 ${num(pen)} ${num(y)} Tm`);
    }
    // Marks that say nothing by themselves come after all that does, and say so: in between they would cut words apart.
    const marks = silent.length === 0 ? "" : ` /Span << /ActualText ${textString("")} >> BDC ${silent.join(" ")} EMC`;
    return parts.slice(0, -1).join(" ") + marks;
  }

  content(): string {
    return [...this.#beneath, ...this.#drawn].join("\n");
  }
}

interface Penned {
  readonly code: number;
  readonly id: number;
  /** Whether it says anything. */
  readonly says: boolean;
  /** From the run's beginning, in units of the em. */
  readonly x: number;
  readonly dy: number;
}

/** Each glyph's place within its run, and where the run ends. */
function penned(spans: readonly Span[]): { placed: { says: string | null; glyphs: Penned[] }[]; end: number } {
  let end = 0;
  const placed = spans.map(({ says, glyphs }) => ({
    says,
    glyphs: glyphs.map(({ glyph: { id, advance, dx, dy }, code, silent }) => {
      const x = end + dx;
      end += advance;
      return { code, id, says: !silent, x, dy };
    }),
  }));
  return { placed, end };
}

function after(glyphs: readonly Penned[], face: Face, at: number): number {
  const last = glyphs.at(-1);
  return last === undefined ? at : last.x + face.advance(last.id);
}

/** Glyphs with what moves them from `at` on: `TJ` subtracts thousandths of the em, and `Ts` lifts. */
function tj(glyphs: readonly Penned[], face: Face, size: number, at: number): string {
  const parts: string[] = [];
  let row = "";
  let lifted = 0;
  let pen = at;
  const flush = () => {
    if (row !== "") parts.push(`[${row}] TJ`);
    row = "";
  };
  for (const { code, id, x, dy } of glyphs) {
    if (dy !== lifted) {
      flush();
      parts.push(`${num((dy * size) / face.unitsPerEm)} Ts`);
      lifted = dy;
    }
    const back = ((pen - x) * 1000) / face.unitsPerEm;
    row += `${back === 0 ? "" : ` ${num(back)} `}${hex4(code)}`;
    pen = x + face.advance(id);
  }
  flush();
  if (lifted !== 0) parts.push("0 Ts");
  return parts.join(" ");
}
