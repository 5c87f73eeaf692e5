/** What an invoice's lines add up to, by kind; and what is said below. */
import type { Invoice, InvoiceLine } from "../../contract/routes/api/billing.ts";
import { WarrenError } from "../../errors.ts";
import { type Decimal, parseDecimal, plainText, plus, unitsAt, ZERO } from "../numbers/decimal.ts";
import { currencyPlaces, money } from "../numbers/money.ts";
import type { Terms } from "./head.ts";
import { continued } from "./lines.ts";
import {
  ACCENT,
  BODY,
  FLOOR,
  HAIRLINE,
  INK,
  LABEL,
  LEFT,
  leading,
  MUTED,
  RIGHT,
  type Sheet,
  SMALL,
  TINT,
} from "./sheet.ts";

/** Rows of the totals, in their order. */
const KINDS = {
  usage: "Usage",
  late: "Usage of earlier months",
  included: "Included in the plan",
  minimum: "Up to the plan's minimum",
  cap: "Above the plan's cap",
  correction: "Corrections",
  credit: "Paid from prepaid credit",
} as const satisfies Record<InvoiceLine["kind"], string>;

const TOTAL = { bold: true, size: 11 };
const BOX_LEFT = 330;
const VALUE_WIDTH = 110;
const TOTAL_HEIGHT = 26;
const ROW_HEIGHT = leading(BODY) + 3;
const GAP_ABOVE = 22;
const GAP_BELOW = 20;
/** Points of notes that may be on a page of their own. */
const LONG_NOTES = 150;
/** Codes of characters that could not be drawn, of which so many are named. */
const NAMED = 12;

/**
 * Sums by kind, of kinds that there are, subtotal first.
 * @throws {WarrenError} `internal` – the lines do not add up to the invoice's total: it must not be printed.
 */
export function totals({ lines, total, currency, id }: Invoice): [string, string][] {
  const sums = new Map<InvoiceLine["kind"], Decimal>();
  for (const { kind, amount } of lines) sums.set(kind, plus(sums.get(kind) ?? ZERO, parseDecimal(amount)));
  const sum = [...sums.values()].reduce(plus, ZERO);
  const difference = plus(parseDecimal(total), { ...sum, units: -sum.units });
  if (difference.units !== 0n) {
    const says = `the lines of invoice ${id} add up to ${plainText(sum)}, and its total is ${total}`;
    throw new WarrenError("internal", says, { details: { invoice: id, total, lines: plainText(sum) } });
  }
  const shown = (value: Decimal) => {
    const places = currencyPlaces(currency);
    return money(plainText({ units: unitsAt(value, places), places }), currency);
  };
  const kinds = Object.keys(KINDS) as InvoiceLine["kind"][];
  return kinds.flatMap((kind): [string, string][] => {
    const held = sums.get(kind);
    return held === undefined ? [] : [[KINDS[kind], shown(held)]];
  });
}

function notes(sheet: Sheet, { issuedAt, total }: Invoice, { seller }: Terms): string[] {
  const codes = [...sheet.type.missing];
  const more = codes.length > NAMED ? ` and ${codes.length - NAMED} more` : "";
  const missing = `No font here has these characters, which are shown by their codes: ${codes.slice(0, NAMED).join(", ")}${more}.`;
  // Nobody is asked to pay a draft, nor what is paid already.
  const payment = issuedAt === null || Number(total) <= 0 ? [] : (seller.payment ?? []);
  return [...payment, ...(codes.length === 0 ? [] : [missing])];
}

function totalName({ issuedAt, total }: Invoice): string {
  if (issuedAt === null) return "Total so far";
  return total.startsWith("-") ? "Total in your favour" : "Total due";
}

/** Points that the totals take, and the notes below them unless they are long. */
export function footHeight(sheet: Sheet, invoice: Invoice, terms: Terms): number {
  const heights = notes(sheet, invoice, terms).map(
    (note) => sheet.wrapped(note, SMALL, RIGHT - LEFT).length * leading(SMALL) + 2,
  );
  const said = heights.reduce((sum, height) => sum + height, heights.length === 0 ? 0 : 3 * leading(LABEL));
  const below = GAP_BELOW + said;
  return GAP_ABOVE + totals(invoice).length * ROW_HEIGHT + TOTAL_HEIGHT + (below > LONG_NOTES ? 0 : below);
}

/** Draws them below the lines, never cut by a page's end. */
export function foot(sheet: Sheet, invoice: Invoice, terms: Terms): void {
  const rows = totals(invoice);
  if (sheet.y + footHeight(sheet, invoice, terms) > FLOOR) continued(sheet, invoice, false);
  let y = sheet.y + GAP_ABOVE;
  for (const [name, value] of rows) {
    sheet.page.text(sheet.line(name, BODY), BOX_LEFT + 6, y, MUTED);
    sheet.page.text(sheet.fitting(value, BODY, VALUE_WIDTH), RIGHT - 6, y, INK, "right");
    y += ROW_HEIGHT;
  }
  sheet.page.rule(BOX_LEFT, y - 6, RIGHT - BOX_LEFT, 0.8, HAIRLINE);
  sheet.page.box(BOX_LEFT, y - 2, RIGHT - BOX_LEFT, TOTAL_HEIGHT, TINT);
  const base = y - 2 + TOTAL_HEIGHT / 2 + 4;
  const name = `${totalName(invoice)} (${invoice.currency})`;
  sheet.page.text(sheet.line(name, { ...TOTAL, size: 10 }), BOX_LEFT + 6, base, ACCENT);
  const value = sheet.fitting(money(invoice.total, invoice.currency), TOTAL, VALUE_WIDTH);
  sheet.page.text(value, RIGHT - 6, base, ACCENT, "right");
  sheet.y = y + TOTAL_HEIGHT + GAP_BELOW;
  below(sheet, invoice, notes(sheet, invoice, terms));
}

function below(sheet: Sheet, invoice: Invoice, says: readonly string[]): void {
  for (const [i, note] of says.entries()) {
    const lines = sheet.wrapped(note, SMALL, RIGHT - LEFT);
    if (sheet.y + (lines.length + 1) * leading(SMALL) > FLOOR) continued(sheet, invoice, false);
    if (i === 0) {
      sheet.page.text(sheet.line("NOTES", LABEL), LEFT, sheet.y, MUTED);
      sheet.y += leading(LABEL) + 2;
    }
    sheet.y = sheet.stack(lines, LEFT, sheet.y, SMALL, MUTED) + 2;
  }
}
