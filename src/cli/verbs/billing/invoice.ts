/** `warren billing invoice`: what was billed, on a terminal or as the PDF that is sent. */
import type { Invoice, InvoiceInfo } from "../../../contract/routes/api/billing.ts";
import type { Define, Verb } from "../../verb.ts";

interface Options {
  readonly pdf?: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren billing invoice
  $ warren billing invoice draft-2026-11
  $ warren billing invoice 2026-10-0001 --pdf invoice.pdf

The month that is not over is a draft: what its invoice would be now.`;

export const defineInvoice: Define = (billing, verb) => {
  billing
    .command("invoice")
    .summary("what was billed, also as PDF")
    .description("List invoices, newest first, or show one with its lines.")
    .argument("[id]", "of one, as the list has it")
    .option("--pdf <file>", "write it there as it is sent")
    .option("--json", "as JSON, exact")
    .addHelpText("after", EXAMPLES)
    .action((id: string | undefined, options: Options, of) => {
      if (id === undefined && options.pdf !== undefined)
        of.error("error: --pdf is of one invoice: name it; `warren billing invoice` lists them");
      if (id === undefined) return list(verb, options.json === true);
      return options.pdf === undefined ? show(verb, id, options.json === true) : pdf(verb, id, options.pdf);
    });
};

async function rowOf({ id, month, plan, total, currency, issuedAt }: InvoiceInfo): Promise<string[]> {
  const { money } = await import("../../../report/numbers/money.ts");
  const issued = issuedAt === null ? "draft" : issuedAt.slice(0, 10);
  return [id, month, issued, plan ?? "-", `${money(total, currency)} ${currency}`];
}

async function list(verb: Verb, isJson: boolean): Promise<void> {
  const { io } = verb;
  const { printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { asking } = await import("./ask.ts");
  const { items } = await asking(verb, (api, options) => api.invoices({}, options));
  if (isJson) return printJson(io, items);
  const rows = await Promise.all(items.map(rowOf));
  await io.out.write(table([["ID", "MONTH", "ISSUED", "PLAN", "TOTAL"], ...rows.map((row) => row.map(escapeLine))]));
}

function headOf({ id, month, issuedAt, billTo, plan }: Invoice): string[][] {
  return [
    ["invoice", id],
    ["month", `${month} (UTC)`],
    ["issued", issuedAt ?? "not yet: a draft"],
    ["bill to", [billTo.name, ...billTo.address, ...(billTo.taxId === null ? [] : [billTo.taxId])].join(", ")],
    ...(plan === null ? [] : [["plan", plan]]),
  ];
}

async function show(verb: Verb, id: string, isJson: boolean): Promise<void> {
  const { io } = verb;
  const { printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { invoiceTable } = await import("../../../report/formats/table.ts");
  const { asking } = await import("./ask.ts");
  const invoice = await asking(verb, (api, options) => api.invoice({ id }, options));
  if (isJson) return printJson(io, invoice);
  const head = table(headOf(invoice).map((row) => row.map(escapeLine)));
  await io.out.write(`${head}\n${invoiceTable(invoice, io.out.isTty ? { columns: io.out.columns } : {})}`);
}

async function pdf(verb: Verb, id: string, file: string): Promise<void> {
  const { asking } = await import("./ask.ts");
  const { deliver } = await import("./deliver.ts");
  await asking(verb, async (api, options) => deliver(verb.io, file, await api.invoicePdf({ id }, options), true));
}
