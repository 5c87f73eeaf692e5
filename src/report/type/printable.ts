/** Text of users and guests on its way to paper: one line, nothing that hides or reorders, and never nothing. Pure. */
import { escapeLine } from "../../base/escape.ts";

/** What only says how its neighbours go together: emoji and Indic scripts need it. */
const KEPT = new Set(["\u200c", "\u200d", "\ufe0e", "\ufe0f"]);
/** Tags, of which flags of regions are made. */
const TAG = /[\u{e0020}-\u{e007f}]/u;
const SPACE = /[\s\p{Zl}\p{Zp}]+/gu;
const UNSEEN = /[\p{Cc}\p{Cf}]/gu;
/** Longer than any field may be. */
const CHARS_MAX = 4096;

/**
 * Composed (NFC), spaces and line ends as single spaces, invisible characters gone. A text that had no visible character is
 * shown by the codes of what it had.
 */
export function printable(text: string): string {
  const whole = (text.length > CHARS_MAX ? `${text.slice(0, CHARS_MAX)}…` : text).toWellFormed();
  const seen = whole
    .replace(SPACE, " ")
    .replace(UNSEEN, (char) => (KEPT.has(char) || TAG.test(char) ? char : ""))
    .normalize("NFC")
    .trim();
  // A mark with nothing under it has no width: it gets the circle that stands for a letter.
  if (/[^\p{Default_Ignorable_Code_Point}\s]/u.test(seen)) return /^\p{M}/u.test(seen) ? `\u25cc${seen}` : seen;
  const codes = Array.from(
    whole.slice(0, 8),
    (char) => `U+${(char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`,
  );
  return codes.length === 0 ? "" : escapeLine(`(${codes.join(" ")})`);
}
