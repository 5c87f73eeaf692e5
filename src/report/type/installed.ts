/**
 * Fonts that this machine has, in the files of Debian's packages: fonts-noto-cjk (Chinese, Japanese, Korean),
 * fonts-droid-fallback (the same, small), fonts-noto-core (a font for each of the world's scripts). None is needed.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Where Debian keeps fonts. */
export const FONT_FOLDERS: readonly string[] = [
  "/usr/share/fonts/opentype/noto",
  "/usr/share/fonts/truetype/noto",
  "/usr/share/fonts/truetype/droid",
];

export interface Installed {
  readonly regular: string;
  readonly bold: string;
  /** Which font of a collection. */
  readonly index: number;
}

const EAST_ASIAN =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\u3000-\u303f\u31c0-\u31ef\u3200-\u33ff\ufe30-\ufe4f\uff00-\uffef]/u;
const KANA = /[\p{Script=Hiragana}\p{Script=Katakana}]/u;
const HANGUL = /\p{Script=Hangul}/u;
/** Order of languages in NotoSansCJK's collections. */
const JAPANESE = 0;
const KOREAN = 1;
const CHINESE = 2;

/** Names of Noto's files for what belongs to no script. */
const SYMBOLS = ["Symbols", "Symbols2", "Math", "Music"];

function scriptPattern(name: string): RegExp | null {
  const script = name.replace(/(?<=[a-z])(?=[A-Z])/g, "_");
  if (SYMBOLS.includes(name)) return /\p{Script=Common}/u;
  try {
    return new RegExp(`\\p{Script=${script}}`, "u");
  } catch (cause) {
    if (cause instanceof SyntaxError) return null; // a style of a script, such as NotoSansMono
    throw cause;
  }
}

/** Names that lead to a file. */
function listed(folder: string): string[] {
  try {
    return readdirSync(folder)
      .sort()
      .filter((name) => existsSync(join(folder, name)));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw cause;
  }
}

/** What is in some folders, by file name. */
export class InstalledFonts {
  readonly #files = new Map<string, string>();
  #scripts: { pattern: RegExp; font: Installed }[] | undefined;

  constructor(folders: readonly string[]) {
    for (const folder of folders) {
      for (const name of listed(folder)) if (!this.#files.has(name)) this.#files.set(name, join(folder, name));
    }
  }

  #font(regular: string, bold: string, index: number): Installed[] {
    const path = this.#files.get(regular);
    return path === undefined ? [] : [{ regular: path, bold: this.#files.get(bold) ?? path, index }];
  }

  /** Which of the languages that share characters a text is in, as far as its other characters say. */
  languageOf(context: string): number {
    return KANA.test(context) ? JAPANESE : HANGUL.test(context) ? KOREAN : CHINESE;
  }

  /** Which may have a character; `context` decides between the shapes that one character has in several languages. */
  for(character: string, context: string): Installed[] {
    if (EAST_ASIAN.test(character)) {
      const language = this.languageOf(context);
      return [
        ...this.#font("NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc", language),
        ...this.#font("DroidSansFallbackFull.ttf", "DroidSansFallbackFull.ttf", 0),
      ];
    }
    this.#scripts ??= [...this.#files.keys()].flatMap((name) => {
      const script = /^Noto(?:Sans|Serif)?([A-Z][A-Za-z0-9]+)-Regular\.ttf$/.exec(name)?.[1];
      const pattern = script === undefined ? null : scriptPattern(script);
      if (pattern === null) return [];
      return this.#font(name, name.replace("-Regular", "-Bold"), 0).map((font) => ({ pattern, font }));
    });
    return this.#scripts.filter(({ pattern }) => pattern.test(character)).map(({ font }) => font);
  }
}
