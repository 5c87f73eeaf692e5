/** Numbers and tables for people. Pure. */

export function duration(ms: number): string {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Dollars, without losing small amounts: two digits that say something. */
export function usd(amount: number): string {
  if (amount === 0) return "$0";
  const digits = Math.max(2, 1 - Math.floor(Math.log10(amount)));
  return `$${amount.toFixed(Math.min(9, digits + 1))}`;
}

/** Characters as a terminal counts them; wide ones as two. */
function width(text: string): number {
  return Bun.stringWidth(text);
}

/** Columns as wide as they have to be; the last is not padded. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, width(cell));
  }
  const pad = (cell: string, i: number, row: readonly string[]) =>
    i === row.length - 1 ? cell : cell + " ".repeat((widths[i] ?? 0) - width(cell));
  return rows.map((row) => `${row.map(pad).join("  ").trimEnd()}\n`).join("");
}

/** The text, or its beginning and an ellipsis, in at most so many columns. */
export function clip(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  let out = "";
  for (const char of text) {
    if (width(out + char) > columns - 1) break;
    out += char;
  }
  return `${out}…`;
}
