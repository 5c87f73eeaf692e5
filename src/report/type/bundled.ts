/**
 * The fonts that Warren brings, all under the SIL Open Font License, in the order in which they are asked for a character:
 * Noto Sans in the pieces that it is published in, and GNU Unifont for whatever else is in the Basic Multilingual Plane.
 */
import emoji from "@fontsource/noto-emoji/files/noto-emoji-emoji-400-normal.woff" with { type: "file" };
import cyrillic from "@fontsource/noto-sans/files/noto-sans-cyrillic-400-normal.woff" with { type: "file" };
import cyrillicBold from "@fontsource/noto-sans/files/noto-sans-cyrillic-700-normal.woff" with { type: "file" };
import cyrillicExt from "@fontsource/noto-sans/files/noto-sans-cyrillic-ext-400-normal.woff" with { type: "file" };
import cyrillicExtBold from "@fontsource/noto-sans/files/noto-sans-cyrillic-ext-700-normal.woff" with { type: "file" };
import devanagari from "@fontsource/noto-sans/files/noto-sans-devanagari-400-normal.woff" with { type: "file" };
import devanagariBold from "@fontsource/noto-sans/files/noto-sans-devanagari-700-normal.woff" with { type: "file" };
import greek from "@fontsource/noto-sans/files/noto-sans-greek-400-normal.woff" with { type: "file" };
import greekBold from "@fontsource/noto-sans/files/noto-sans-greek-700-normal.woff" with { type: "file" };
import greekExt from "@fontsource/noto-sans/files/noto-sans-greek-ext-400-normal.woff" with { type: "file" };
import greekExtBold from "@fontsource/noto-sans/files/noto-sans-greek-ext-700-normal.woff" with { type: "file" };
import latin from "@fontsource/noto-sans/files/noto-sans-latin-400-normal.woff" with { type: "file" };
import latinBold from "@fontsource/noto-sans/files/noto-sans-latin-700-normal.woff" with { type: "file" };
import latinExt from "@fontsource/noto-sans/files/noto-sans-latin-ext-400-normal.woff" with { type: "file" };
import latinExtBold from "@fontsource/noto-sans/files/noto-sans-latin-ext-700-normal.woff" with { type: "file" };
import vietnamese from "@fontsource/noto-sans/files/noto-sans-vietnamese-400-normal.woff" with { type: "file" };
import vietnameseBold from "@fontsource/noto-sans/files/noto-sans-vietnamese-700-normal.woff" with { type: "file" };
import arabic from "@fontsource/noto-sans-arabic/files/noto-sans-arabic-arabic-400-normal.woff" with { type: "file" };
import arabicBold from "@fontsource/noto-sans-arabic/files/noto-sans-arabic-arabic-700-normal.woff" with {
  type: "file",
};
import hebrew from "@fontsource/noto-sans-hebrew/files/noto-sans-hebrew-hebrew-400-normal.woff" with { type: "file" };
import hebrewBold from "@fontsource/noto-sans-hebrew/files/noto-sans-hebrew-hebrew-700-normal.woff" with {
  type: "file",
};
import thai from "@fontsource/noto-sans-thai/files/noto-sans-thai-thai-400-normal.woff" with { type: "file" };
import thaiBold from "@fontsource/noto-sans-thai/files/noto-sans-thai-thai-700-normal.woff" with { type: "file" };
import unifont from "@fontsource/unifont/files/unifont-latin-400-normal.woff" with { type: "file" };

export interface Weights {
  readonly regular: string;
  readonly bold: string;
}

export const NOTO: readonly Weights[] = [
  { regular: latin, bold: latinBold },
  { regular: latinExt, bold: latinExtBold },
  { regular: cyrillic, bold: cyrillicBold },
  { regular: cyrillicExt, bold: cyrillicExtBold },
  { regular: greek, bold: greekBold },
  { regular: greekExt, bold: greekExtBold },
  { regular: vietnamese, bold: vietnameseBold },
  { regular: devanagari, bold: devanagariBold },
  { regular: arabic, bold: arabicBold },
  { regular: hebrew, bold: hebrewBold },
  { regular: thai, bold: thaiBold },
];

/** In outlines, black; families, flags and skin colours are one character each. */
export const EMOJI: Weights = { regular: emoji, bold: emoji };

/** A bitmap font in outlines: legible, not beautiful, no shaping. */
export const LAST_RESORT: Weights = { regular: unifont, bold: unifont };
