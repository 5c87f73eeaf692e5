/** `warren billing invoice`: what was billed, on a terminal or as the PDF that is sent. */
import type { Invoice, InvoiceInfo } from "../../../contract/routes/api/billing.ts";
import { given } from "../../arguments.ts";
import type { Define, Verb } from "../../verb.ts";
import { ACCOUNT } from "./ask.ts";

interface Options {
  readonly account?: string;
  readonly pdf?: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ warren billing invoice
  $ warren billing invoice draft-2026-11
  $ warren billing invoice 2026-10-0001 --pdf invoice.pdf
  $ warren billing invoice --account acme

The month that is not over is a draft: what its invoice would be now.`;

export const defineInvoice: Define = (billing, verb) => {
  billing
    .command("invoice")
    .summary("what was billed, also as PDF")
    .description("List invoices, newest first, or show one with its lines.")
    .argument("[id]", "of one, as the list has it")
    .option("--pdf <file>", "write it there as it is sent")
    .option(...ACCOUNT)
    .option("--json", "as JSON, exact")
    .addHelpText("after", EXAMPLES)
    .action((id: string | undefined, options: Options, of) => {
      if (id === undefined && options.pdf !== undefined)
        of.error("error: --pdf is of one invoice: name it; `warren billing invoice` lists them");
      if (id === undefined) return list(verb, options);
      return options.pdf === undefined ? show(verb, id, options) : pdf(verb, id, options.pdf, options);
    });
};

async function rowOf({ id, month, plan, total, currency, issuedAt }: InvoiceInfo): Promise<string[]> {
  const { money } = await import("../../../report/numbers/money.ts");
  const issued = issuedAt === null ? "draft" : issuedAt.slice(0, 10);
  return [id, month, issued, plan ?? "-", `${money(total, currency)} ${currency}`];
}

async function list(verb: Verb, { account, json }: Options): Promise<void> {
  const { io } = verb;
  const { printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { asking } = await import("./ask.ts");
  const { items } = await asking(verb, (api, options) => api.invoices(given({ account }), options));
  if (json === true) return printJson(io, items);
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

async function show(verb: Verb, id: string, { account, json }: Options): Promise<void> {
  const { io } = verb;
  const { printJson } = await import("../../ground/io.ts");
  const { table } = await import("../../text/format.ts");
  const { escapeLine } = await import("../../../base/escape.ts");
  const { invoiceTable } = await import("../../../report/formats/table.ts");
  const { asking } = await import("./ask.ts");
  const invoice = await asking(verb, (api, options) => api.invoice({ id, ...given({ account }) }, options));
  if (json === true) return printJson(io, invoice);
  const head = table(headOf(invoice).map((row) => row.map(escapeLine)));
  await io.out.write(`${head}\n${invoiceTable(invoice, io.out.isTty ? { columns: io.out.columns } : {})}`);
}

async function pdf(verb: Verb, id: string, file: string, { account }: Options): Promise<void> {
  const { asking } = await import("./ask.ts");
  const { deliver } = await import("./deliver.ts");
  const asked = { id, ...given({ account }) };
  await asking(verb, async (api, options) => deliver(verb.io, file, await api.invoicePdf(asked, options), true));
}
