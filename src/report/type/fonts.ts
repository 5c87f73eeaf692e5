/** Which font draws a character: those that Warren brings, those that this machine has, a last resort, or none. */
import { readFileSync } from "node:fs";
import { EMOJI, LAST_RESORT, NOTO, type Weights } from "./bundled.ts";
import { Face, FontFile } from "./harfbuzz.ts";
import { FONT_FOLDERS, InstalledFonts } from "./installed.ts";
import { sfntOf } from "./sfnt.ts";

/** Characters whose font is remembered; beyond that all are forgotten. */
const REMEMBERED = 20_000;
const EMOJI_LIKE = /\p{Emoji_Presentation}|\p{Emoji}\ufe0f|[\u{1f1e6}-\u{1f1ff}]/u;
/** Not drawn by themselves: no font needs to have them. */
const UNDRAWN = /^[\p{Default_Ignorable_Code_Point}]$/u;

/**
 * Opens fonts as characters need them and keeps them: make one, and use it for many documents.
 * @param folders where else to look than in what Warren brings. Default: where Debian keeps fonts. With none, the same
 * document is the same on every machine.
 */
export class Fonts {
  readonly #installed: InstalledFonts;
  readonly #files = new Map<string, FontFile>();
  readonly #faces = new Map<string, Face>();
  readonly #chosen = new Map<string, Face | null>();

  constructor(folders: readonly string[] = FONT_FOLDERS) {
    this.#installed = new InstalledFonts(folders);
  }

  #face(path: string, index: number): Face {
    const key = `${path} ${index}`;
    const known = this.#faces.get(key);
    if (known !== undefined) return known;
    const file = this.#files.get(path) ?? new FontFile(sfntOf(readFileSync(path)));
    this.#files.set(path, file);
    const face = new Face(file, index);
    this.#faces.set(key, face);
    return face;
  }

  *#candidates(grapheme: string, context: string): Generator<Weights & { readonly index?: number }> {
    const emoji = EMOJI_LIKE.test(grapheme);
    if (emoji) yield EMOJI;
    yield* NOTO;
    yield* this.#installed.for(String.fromCodePoint(grapheme.codePointAt(0) ?? 0), context);
    if (!emoji) yield EMOJI;
    yield LAST_RESORT;
  }

  /** For one character as people count them, marks included; null: no font has all of it. */
  choose(grapheme: string, bold: boolean, context: string): Face | null {
    const key = `${bold ? "b" : "r"} ${this.#installed.languageOf(context)} ${grapheme}`;
    const known = this.#chosen.get(key);
    if (known !== undefined) return known;
    const needed = Array.from(grapheme).filter((char) => !UNDRAWN.test(char));
    let found: Face | null = null;
    for (const { regular, bold: heavy, index = 0 } of this.#candidates(grapheme, context)) {
      const face = this.#face(bold ? heavy : regular, index);
      if (!needed.every((char) => face.covers(char.codePointAt(0) ?? 0))) continue;
      found = face;
      break;
    }
    if (this.#chosen.size >= REMEMBERED) this.#chosen.clear();
    this.#chosen.set(key, found);
    return found;
  }
}
