/** The pages of one document under way: where things go, how they look, when a new page begins. */

import { DocumentFonts } from "../pdf/fonts.ts";
import { type Colour, Page } from "../pdf/page.ts";
import type { Fonts } from "../type/fonts.ts";
import { type Line, type Style, Typesetter } from "../type/line.ts";
import { printable } from "../type/printable.ts";
import { wrap } from "../type/wrap.ts";

/** Points: A4. */
export const PAGE = { width: 595.28, height: 841.89 } as const;
export const MARGIN = { left: 48, right: 48, top: 52, bottom: 64 } as const;
export const LEFT = MARGIN.left;
export const RIGHT = PAGE.width - MARGIN.right;
/** Where a page's content ends; below is its footer. */
export const FLOOR = PAGE.height - MARGIN.bottom;

export const INK: Colour = [0.1, 0.12, 0.16];
export const MUTED: Colour = [0.4, 0.44, 0.5];
export const ACCENT: Colour = [0.09, 0.27, 0.42];
export const HAIRLINE: Colour = [0.82, 0.84, 0.87];
export const TINT: Colour = [0.94, 0.955, 0.97];
export const GHOST: Colour = [0.93, 0.93, 0.94];

export const BODY: Style = { bold: false, size: 9 };
export const STRONG: Style = { bold: true, size: 9 };
export const LABEL: Style = { bold: true, size: 7.5 };
export const SMALL: Style = { bold: false, size: 7.5 };
/** From one baseline to the next, per point of size. */
const LEADING = 1.4;
/** Text is not made smaller than this share of its size to fit a column. */
const LEAST_SHARE = 0.4;

export function leading({ size }: Style): number {
  return size * LEADING;
}

export class Sheet {
  readonly pages: Page[] = [];
  readonly type: Typesetter;
  readonly fonts = new DocumentFonts();
  /** Baseline of what comes next, from the top of the current page. */
  y: number = MARGIN.top;

  constructor(fonts: Fonts) {
    this.type = new Typesetter(fonts);
  }

  get page(): Page {
    return this.pages.at(-1) ?? this.newPage();
  }

  newPage(): Page {
    const page = new Page(this.fonts, PAGE.height);
    this.pages.push(page);
    this.y = MARGIN.top;
    return page;
  }

  line(text: string, style: Style): Line {
    return this.type.line(printable(text), style);
  }

  /** One line that is made smaller if it is wider than it may be. */
  fitting(text: string, style: Style, width: number): Line {
    const line = this.line(text, style);
    if (line.width <= width) return line;
    const size = style.size * Math.max(LEAST_SHARE, width / line.width);
    return this.line(text, { ...style, size: Math.floor(size * 100) / 100 });
  }

  wrapped(text: string, style: Style, width: number, most?: number): Line[] {
    return wrap(this.type, printable(text), style, width, most);
  }

  /** Lines below each other from a baseline on; says the baseline after the last. */
  stack(lines: readonly Line[], x: number, y: number, style: Style, colour: Colour): number {
    let at = y;
    for (const line of lines) {
      this.page.text(line, x, at, colour);
      at += leading(style);
    }
    return at;
  }
}
