/**
 * Text of a guest or a user on its way to a terminal: what could move the cursor, change colours, answer back, reorder or
 * hide text becomes visible instead. C0 and C1 controls, DEL, bidirectional and other invisible format characters, line
 * separators, lone surrogates. The joiners of emoji and of Indic scripts stay. Pure.
 */

const JOINERS = new Set(["\u200c", "\u200d"]);
/** The last range is that of tags and of what else is drawn as nothing, much of it not assigned yet. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\u{e0000}-\u{e0fff}]/gu;

function shown(char: string): string {
  if (JOINERS.has(char)) return char;
  const code = char.codePointAt(0) ?? 0;
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

const NAMED: Readonly<Record<string, string>> = { "\n": "\\n", "\t": "\\t", "\r": "\\r" };

/** One line stays one line. */
export function escapeLine(text: string): string {
  return text.replace(UNSAFE, (char) => NAMED[char] ?? shown(char));
}

/** Newlines and tabs stay; a carriage return before a newline goes, any other is shown. */
export function escapeText(text: string): string {
  return text
    .replaceAll("\r\n", "\n")
    .replace(UNSAFE, (char) => (char === "\n" || char === "\t" ? char : (NAMED[char] ?? shown(char))));
}

/** A stream of bytes as safe text; characters and line ends that are cut between two chunks are put together again. */
export class EscapedStream {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #carriage = false;

  next(bytes: Uint8Array): string {
    return this.#escaped(this.#decoder.decode(bytes, { stream: true }));
  }

  /** What was held back. */
  end(): string {
    const rest = this.#escaped(this.#decoder.decode());
    return this.#carriage ? `${rest}\\r` : rest;
  }

  #escaped(text: string): string {
    if (text === "") return "";
    const whole = this.#carriage ? `\r${text}` : text;
    this.#carriage = whole.endsWith("\r");
    return escapeText(this.#carriage ? whole.slice(0, -1) : whole);
  }
}
