/**
 * An invoice as a PDF of A4 pages. The same invoice, terms and fonts give the same bytes: nothing in it is of the moment at
 * which it is made. Names are drawn in any script, and read back from the file as they were written.
 */
import type { Invoice } from "../../contract/routes/api/billing.ts";
import { num, PdfFile, textString } from "../pdf/file.ts";
import type { Placed } from "../pdf/page.ts";
import { Fonts } from "../type/fonts.ts";
import { head, type Terms } from "./head.ts";
import { lines } from "./lines.ts";
import { FLOOR, GHOST, HAIRLINE, LEFT, MUTED, PAGE, RIGHT, Sheet, SMALL } from "./sheet.ts";
import { foot, footHeight } from "./totals.ts";

export interface Rendered {
  readonly bytes: Uint8Array;
  /** Where each line of text is, by page. */
  readonly pages: readonly (readonly Placed[])[];
  /** Characters that no font had, as `U+12345`; each is drawn as its code. */
  readonly missing: readonly string[];
}

const WATERMARK = { bold: true, size: 150 };
const FOOTER_Y = FLOOR + 26;

let shared: Fonts | undefined;

/**
 * @param fonts Default: those that Warren brings, and those that this machine has, opened once.
 * @throws {WarrenError} `internal` – the lines do not add up to the total.
 * @throws {WarrenError} `invalid_request` – a number is not decimal text.
 */
export function invoicePdf(invoice: Invoice, terms: Terms, fonts?: Fonts): Rendered {
  shared ??= new Fonts();
  const sheet = new Sheet(fonts ?? shared);
  sheet.newPage();
  head(sheet, invoice, terms);
  lines(sheet, invoice, footHeight(sheet, invoice, terms));
  foot(sheet, invoice, terms);
  footers(sheet, invoice, terms);
  return {
    bytes: written(sheet, invoice),
    pages: sheet.pages.map(({ placed }) => placed),
    missing: [...sheet.type.missing],
  };
}

function footers(sheet: Sheet, invoice: Invoice, { seller }: Terms): void {
  for (const [i, page] of sheet.pages.entries()) {
    page.rule(LEFT, FOOTER_Y - 14, RIGHT - LEFT, 0.4, HAIRLINE);
    page.text(sheet.fitting(`${seller.name} · ${invoice.id}`, SMALL, 380), LEFT, FOOTER_Y, MUTED);
    page.text(sheet.line(`Page ${i + 1} of ${sheet.pages.length}`, SMALL), RIGHT, FOOTER_Y, MUTED, "right");
  }
}

function pdfDate(instant: string): string {
  return `D:${new Date(instant).toISOString().replace(/\D/g, "").slice(0, 14)}Z`;
}

function written(sheet: Sheet, invoice: Invoice): Uint8Array {
  const file = new PdfFile();
  const [root, tree, resources] = [file.reserve(), file.reserve(), file.reserve()];
  const kids = sheet.pages.map((page) => {
    if (invoice.issuedAt === null) page.across(sheet.line("DRAFT", WATERMARK), PAGE.width, GHOST);
    const content = file.add("", Buffer.from(page.content(), "latin1"));
    const box = `/MediaBox [0 0 ${num(PAGE.width)} ${num(PAGE.height)}]`;
    return file.add(`/Type /Page /Parent ${tree} ${box} /Resources ${resources} /Contents ${content}`);
  });
  file.set(resources, `/Font << ${sheet.fonts.write(file)} >>`);
  file.set(tree, `/Type /Pages /Count ${kids.length} /Kids [${kids.join(" ")}]`);
  file.set(root, `/Type /Catalog /Pages ${tree} /Lang (en) /ViewerPreferences << /DisplayDocTitle true >>`);
  const created = invoice.issuedAt === null ? "" : ` /CreationDate (${pdfDate(invoice.issuedAt)})`;
  const info = file.add(`/Title ${textString(`Invoice ${invoice.id}`)} /Producer (Warren)${created}`);
  return file.bytes(root, info);
}
