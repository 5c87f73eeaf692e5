/**
 * The text of one member of a JSON object, as it was written. `JSON.parse` turns 64-bit ids into the nearest double; data on
 * its way into a guest must not change on the way. Pure; for text that `JSON.parse` has accepted.
 */

const QUOTE = 34;
const BACKSLASH = 92;

function isSpace(code: number): boolean {
  return code === 32 || code === 9 || code === 10 || code === 13;
}

function skipSpace(text: string, at: number): number {
  let next = at;
  while (isSpace(text.charCodeAt(next))) next += 1;
  return next;
}

/** `at` is an opening quote; the result is behind the closing one. */
function skipString(text: string, at: number): number {
  let next = at + 1;
  while (next < text.length) {
    const code = text.charCodeAt(next);
    if (code === QUOTE) return next + 1;
    next += code === BACKSLASH ? 2 : 1;
  }
  return next;
}

/** Behind the value that starts at `at`: strings whole, brackets by depth, anything else up to a delimiter. */
function skipValue(text: string, at: number): number {
  let depth = 0;
  let next = at;
  while (next < text.length) {
    const char = text[next];
    if (char === '"') next = skipString(text, next);
    else if (char === "{" || char === "[") {
      depth += 1;
      next += 1;
    } else if (char === "}" || char === "]") {
      if (depth === 0) return next;
      depth -= 1;
      next += 1;
    } else if (depth === 0 && (char === "," || isSpace(text.charCodeAt(next)))) return next;
    else {
      next += 1;
      continue;
    }
    if (depth === 0) return next;
  }
  return next;
}

/**
 * Text of member `name` of the object in `text`; of the last one when it is there twice, as `JSON.parse` has it;
 * null without one, and for what is no object.
 */
export function rawMember(text: string, name: string): string | null {
  let found: string | null = null;
  const start = skipSpace(text, 0);
  if (text[start] !== "{") return null;
  let at = skipSpace(text, start + 1);
  while (text[at] === '"') {
    const keyEnd = skipString(text, at);
    const key: unknown = JSON.parse(text.slice(at, keyEnd));
    const valueAt = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const end = skipValue(text, valueAt);
    if (key === name) found = text.slice(valueAt, end);
    at = skipSpace(text, end);
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return found;
}
