/** Amounts as bars for a terminal: one line a bar, zero on one axis, corrections to the left of it. */
import type { UsageReport } from "../../contract/routes/api/billing.ts";
import { type Decimal, parseDecimal, unitsAt } from "../numbers/decimal.ts";
import { amountAt, sharedPlaces } from "../numbers/money.ts";
import { cellText, clip, pad, width } from "./columns.ts";
import { groupLabels } from "./table.ts";

export interface Bar {
  readonly label: string;
  /** Exact decimal text. */
  readonly amount: string;
}

export interface ChartOptions {
  /** Of the terminal: 40 at least are used. */
  readonly columns: number;
  /** Colours are for a terminal alone. */
  readonly colour: boolean;
  readonly currency: string;
}

const NARROWEST = 40;
/** Labels get a third of the line at most. */
const LABEL_SHARE = 3;
const LEAST_BAR = 8;
const LEAST_LABEL = 4;
/** Between label, bar and number. */
const GAPS = 4;
const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const GREEN = "\x1b[32m";
const RED = "\x1b[31m";
const PLAIN = "\x1b[0m";

/** One scale for both sides of zero: so many columns for so much. */
interface Scale {
  readonly columns: bigint;
  readonly amount: bigint;
}

/** Where zero is, and the largest scale at which the longest bar of either side fits. */
function axis(least: bigint, most: bigint, room: number): { left: number; scale: Scale } {
  const span = most + least;
  if (span === 0n) return { left: 0, scale: { columns: 0n, amount: 1n } };
  const share = Number((least * BigInt(room) + span - 1n) / span);
  const left = least === 0n ? 0 : most === 0n ? room : Math.min(Math.max(1, share), room - 1);
  const sides = [
    { columns: BigInt(left), amount: least },
    { columns: BigInt(room - left), amount: most },
  ].filter(({ amount }) => amount > 0n);
  const [one, other] = sides as [Scale, Scale?];
  const scale = other === undefined || one.columns * other.amount <= other.columns * one.amount ? one : other;
  return { left, scale };
}

function rightBar(units: bigint, { columns, amount }: Scale): string {
  if (units <= 0n) return "";
  const eighths = Number((units * columns * 8n) / amount);
  // What is more than nothing is seen.
  return "█".repeat(eighths >> 3) + (EIGHTHS[eighths & 7] ?? "") || "▏";
}

function leftBar(units: bigint, { columns, amount }: Scale): string {
  if (units >= 0n) return "";
  const halves = Number((-units * columns * 2n) / amount);
  return `${(halves & 1) === 1 ? "▐" : ""}${"█".repeat(halves >> 1)}` || "▐";
}

/** Bars in their order; every line has the same width, at most `columns`. */
export function chart(bars: readonly Bar[], { columns, colour, currency }: ChartOptions): string {
  if (bars.length === 0) return "Nothing was used.\n";
  const line = Math.max(NARROWEST, columns);
  const { places } = sharedPlaces(
    bars.map(({ amount }) => amount),
    currency,
  );
  const amounts: Decimal[] = bars.map(({ amount }) => parseDecimal(amount));
  const units = amounts.map((amount) => unitsAt(amount, Math.max(...amounts.map((one) => one.places))));
  const shown = amounts.map((amount) => `${amountAt(amount, places)} ${currency}`);
  const numbers = Math.max(...shown.map(width));
  const longest = Math.max(...bars.map(({ label }) => width(cellText(label))));
  const share = Math.min(Math.floor(line / LABEL_SHARE), line - numbers - GAPS - LEAST_BAR);
  const labels = Math.min(longest, Math.max(LEAST_LABEL, share));
  const room = Math.max(LEAST_BAR, line - labels - numbers - GAPS);
  const sorted = [0n, ...units].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const { left, scale } = axis(-(sorted[0] ?? 0n), sorted.at(-1) ?? 0n, room);
  const paint = (code: string, bar: string) => (colour && bar !== "" ? `${code}${bar}${PLAIN}` : bar);
  return bars
    .map(({ label }, i) => {
      const value = units[i] ?? 0n;
      const before = leftBar(value, scale);
      const after = rightBar(value, scale);
      const drawn =
        " ".repeat(left - width(before)) +
        paint(RED, before) +
        paint(GREEN, after) +
        " ".repeat(room - left - width(after));
      return `${pad(clip(cellText(label), labels), labels, "left")}  ${drawn}  ${pad(shown[i] ?? "", numbers, "right")}\n`;
    })
    .join("");
}

/** A usage report's rows as bars, each called by its groups. */
export function usageChart(report: UsageReport, options: Omit<ChartOptions, "currency">): string {
  const bars = report.rows.map((row) => ({
    label: groupLabels(report, row)
      .map((label) => label ?? "–")
      .join(" · "),
    amount: row.amount,
  }));
  return chart(bars, { ...options, currency: report.currency });
}
