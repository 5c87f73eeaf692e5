/** The table of an invoice: as many lines and pages as it takes, its headings on each. */
import type { Invoice, InvoiceLine } from "../../contract/routes/api/billing.ts";
import { grouped, parseDecimal, round, shortest } from "../numbers/decimal.ts";
import { money, unitPrice } from "../numbers/money.ts";
import type { Style } from "../type/line.ts";
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
  STRONG,
  TINT,
} from "./sheet.ts";

/** Points from the left edge; numbers end at theirs. */
const COLUMNS = {
  description: { x: LEFT + 6, width: 232 },
  quantity: { x: 366, width: 76 },
  unit: { x: 372, width: 56 },
  price: { x: 482, width: 52 },
  amount: { x: RIGHT - 6, width: 56 },
} as const;
const HEAD_HEIGHT = 20;
const PADDING = 5;
/** Decimals of a quantity on paper; data formats have all. */
const QUANTITY_PLACES = 6;

export function tableHead(sheet: Sheet, { currency }: Invoice): void {
  const { page } = sheet;
  page.box(LEFT, sheet.y, RIGHT - LEFT, HEAD_HEIGHT, TINT);
  const y = sheet.y + 13;
  const title = (text: string) => sheet.line(text, LABEL);
  page.text(title("Description"), COLUMNS.description.x, y, ACCENT);
  page.text(title("Quantity"), COLUMNS.quantity.x, y, ACCENT, "right");
  page.text(title("Unit"), COLUMNS.unit.x, y, ACCENT);
  page.text(title("Unit price"), COLUMNS.price.x, y, ACCENT, "right");
  page.text(title(`Amount (${currency})`), COLUMNS.amount.x, y, ACCENT, "right");
  sheet.y += HEAD_HEIGHT;
}

/** Begins a page that goes on with an invoice: says which, and repeats the headings. */
export function continued(sheet: Sheet, invoice: Invoice, headings: boolean): void {
  const page = sheet.newPage();
  const draft = invoice.issuedAt === null ? "Draft invoice" : "Invoice";
  page.text(sheet.line(`${draft} ${invoice.id}, continued`, STRONG), LEFT, sheet.y, MUTED);
  sheet.y += 14;
  if (headings) tableHead(sheet, invoice);
}

/** @param keep points below it that have to be on its page */
function row(sheet: Sheet, invoice: Invoice, line: InvoiceLine, keep: number): void {
  const { currency } = invoice;
  const description = sheet.wrapped(line.describes, BODY, COLUMNS.description.width);
  const units = line.unit === null ? [] : sheet.wrapped(line.unit, BODY, COLUMNS.unit.width, 3);
  const height = Math.max(1, description.length, units.length) * leading(BODY) + 2 * PADDING;
  if (sheet.y + height + keep > FLOOR) continued(sheet, invoice, true);
  const { page } = sheet;
  const y = sheet.y + PADDING + BODY.size;
  sheet.stack(description, COLUMNS.description.x, y, BODY, INK);
  sheet.stack(units, COLUMNS.unit.x, y, BODY, MUTED);
  const right = (text: string, { x, width }: { x: number; width: number }, style: Style = BODY) =>
    page.text(sheet.fitting(text, style, width), x, y, INK, "right");
  if (line.quantity !== null) {
    right(grouped(shortest(round(parseDecimal(line.quantity), QUANTITY_PLACES))), COLUMNS.quantity);
  }
  if (line.price !== null) right(unitPrice(line.price, currency), COLUMNS.price);
  right(money(line.amount, currency), COLUMNS.amount);
  sheet.y += height;
  page.rule(LEFT, sheet.y, RIGHT - LEFT, 0.4, HAIRLINE);
}

/** @param footPoints height of the totals, which never stand alone on a page: the last line is with them */
export function lines(sheet: Sheet, invoice: Invoice, footPoints: number): void {
  // Headings with no line below them would be lost at a page's end.
  if (sheet.y + HEAD_HEIGHT + 3 * leading(BODY) > FLOOR) continued(sheet, invoice, false);
  tableHead(sheet, invoice);
  const last = invoice.lines.length - 1;
  for (const [i, line] of invoice.lines.entries()) row(sheet, invoice, line, i === last ? footPoints : 0);
  if (invoice.lines.length > 0) return;
  sheet.page.text(sheet.line("Nothing was used in this period.", BODY), COLUMNS.description.x, sheet.y + 14, MUTED);
  sheet.y += 22;
}
