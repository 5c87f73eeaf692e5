/** The top of an invoice: whose it is, for whom, and what it is called. */
import type { Invoice } from "../../contract/routes/api/billing.ts";
import { daysAfter, longDate, monthSpan } from "../numbers/day.ts";
import { ACCENT, BODY, HAIRLINE, INK, LABEL, LEFT, leading, MUTED, RIGHT, type Sheet, SMALL, STRONG } from "./sheet.ts";

/** Who sends invoices, as it is printed on them. */
export interface Seller {
  readonly name: string;
  readonly address: readonly string[];
  readonly taxId?: string | null;
  /** Below everything on the last page: bank account, terms. */
  readonly payment?: readonly string[];
}

export interface Terms {
  readonly seller: Seller;
  /** Days after it was issued at which it is due. Default: 30. */
  readonly dueDays?: number;
}

const DUE_DAYS = 30;
const TITLE = { bold: true, size: 22 };
const SELLER = { bold: true, size: 12 };
const PARTY_WIDTH = 272;
const FACTS_LEFT = 346;
const FACT_VALUE = 404;
const ADDRESS_LINES = 3;

function facts(invoice: Invoice, { dueDays = DUE_DAYS }: Terms): [string, string][] {
  const { issuedAt } = invoice;
  return [
    ["Invoice", invoice.id],
    ["Account", invoice.account],
    ["Period", `${monthSpan(invoice.month)} (UTC)`],
    ["Issued", issuedAt === null ? "not yet" : longDate(new Date(issuedAt).toISOString())],
    ["Due", issuedAt === null ? "–" : longDate(daysAfter(issuedAt, dueDays))],
    ["Currency", invoice.currency],
    ...(invoice.plan === null ? [] : [["Plan", invoice.plan] satisfies [string, string]]),
  ];
}

function party(sheet: Sheet, name: string, lines: readonly string[], y: number, style: typeof SELLER): number {
  const wide = (text: string) => sheet.wrapped(text, BODY, PARTY_WIDTH, ADDRESS_LINES);
  const after = sheet.stack(sheet.wrapped(name, style, PARTY_WIDTH, ADDRESS_LINES), LEFT, y, style, INK);
  return sheet.stack(lines.flatMap(wide), LEFT, after, BODY, MUTED);
}

const taxLine = (taxId: string | null | undefined) => (taxId ? [`Tax ID ${taxId}`] : []);

/** Draws it on the first page, and leaves the cursor below. */
export function head(sheet: Sheet, invoice: Invoice, terms: Terms): void {
  const { seller } = terms;
  const page = sheet.page;
  const top = sheet.y + TITLE.size * 0.6;
  page.text(sheet.line(invoice.issuedAt === null ? "DRAFT INVOICE" : "INVOICE", TITLE), RIGHT, top, ACCENT, "right");
  let y = party(sheet, seller.name, [...seller.address, ...taxLine(seller.taxId)], top - 6, SELLER);
  y = Math.max(y, top + 18) + 14;
  page.rule(LEFT, y - 12, RIGHT - LEFT, 0.6, HAIRLINE);
  y += 8;
  page.text(sheet.line("BILL TO", LABEL), LEFT, y, MUTED);
  let factY = y;
  for (const [name, value] of facts(invoice, terms)) {
    page.text(sheet.line(name, BODY), FACTS_LEFT, factY, MUTED);
    const lines = sheet.wrapped(value, BODY, RIGHT - FACT_VALUE, 2);
    factY = Math.max(sheet.stack(lines, FACT_VALUE, factY, BODY, INK), factY + leading(BODY)) + 1.5;
  }
  const { billTo } = invoice;
  const partyY = party(sheet, billTo.name, [...billTo.address, ...taxLine(billTo.taxId)], y + 15, {
    ...STRONG,
    size: 10.5,
  });
  sheet.y = Math.max(partyY, factY) + 18;
  if (invoice.issuedAt !== null) return;
  const says = "This is a draft: the month is not over, and its amounts will change.";
  sheet.page.text(sheet.line(says, SMALL), LEFT, sheet.y - 8, MUTED);
  sheet.y += 12;
}
