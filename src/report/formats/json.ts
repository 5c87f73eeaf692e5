/** Reports as JSON: numbers stay exact text, and keys are in one order, so that the same report is the same bytes. */

/** Keys are sorted at every depth; two spaces, one newline at the end. */
export function json(value: unknown): string {
  return `${JSON.stringify(ordered(value), null, 2)}\n`;
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  // `fromEntries` defines, it does not assign: a key such as `__proto__` is a key like any other.
  return Object.fromEntries(entries.map(([key, held]) => [key, ordered(held)]));
}
