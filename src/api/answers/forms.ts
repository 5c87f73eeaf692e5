/** Answers that are files to people: tables for spreadsheets, lines for programs, invoices as they are sent. */
import type { UsageReport } from "../../contract/routes/api/billing.ts";
import type { RowName } from "../../contract/table.ts";
import { csv } from "../../report/formats/csv.ts";
import { usageGrid } from "../../report/formats/grid.ts";
import { type HeaderFields, stream, whole } from "./answer.ts";
import { type Answer, type AnswerParts, begun, bytesBody } from "./bytes.ts";

interface Form {
  readonly type: string;
  readonly file: string;
}

type Fielded = Readonly<Record<string, unknown>>;

const CSV = "text/csv; charset=utf-8";

/** Rows that answer with bytes, and what these are. */
const FILES: { readonly [K in RowName]?: (input: Fielded) => Form } = {
  usageEntries: ({ format }) =>
    format === "csv" ? { type: CSV, file: "usage.csv" } : { type: "application/x-ndjson", file: "usage.jsonl" },
  invoicePdf: ({ id }) => ({ type: "application/pdf", file: `invoice-${id}.pdf` }),
};

/** No browser runs what is in it. */
function download(file: string): HeaderFields {
  return { "content-disposition": `attachment; filename="${file}"`, "content-security-policy": "sandbox" };
}

/** Null: the row's bytes are no file of these. */
export function namedFile(name: RowName, parts: AnswerParts): Answer | null {
  const form = FILES[name];
  if (form === undefined) return null;
  return async (context, _asked, { input }, call) => {
    const { type, file } = form(input);
    const { source } = await begun<Uint8Array>(call, parts, null);
    return stream(bytesBody(source, context, parts), type, download(file));
  };
}

/** A usage report: `answer`, or as CSV where the request asks for that. */
export function usageAnswer(answer: Answer): Answer {
  return async (context, asked, fields, call) => {
    if (fields.wire["format"] !== "csv") return answer(context, asked, fields, call);
    const report = (await call()) as UsageReport;
    const lines: string[] = [];
    for await (const line of csv(usageGrid(report))) lines.push(line);
    const file = `usage-${report.from.slice(0, 10)}-${report.to.slice(0, 10)}.csv`;
    return whole(lines.join(""), CSV, download(file));
  };
}
