/** Reports as JSON: numbers stay exact text, and keys are in one order, so that the same report is the same bytes. */

/** What a terminal would obey or hide and JSON lets pass: it only occurs in strings, where its escape means the same. */
const UNSEEN = /(?![\u200c\u200d])[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Keys are sorted at every depth; two spaces, one newline at the end. */
export function json(value: unknown): string {
  return `${JSON.stringify(ordered(value), null, 2)}\n`.replace(UNSEEN, escaped);
}

function escaped(char: string): string {
  return Array.from({ length: char.length }, (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`).join(
    "",
  );
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  // `fromEntries` defines, it does not assign: a key such as `__proto__` is a key like any other.
  return Object.fromEntries(entries.map(([key, held]) => [key, ordered(held)]));
}
