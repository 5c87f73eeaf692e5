/** A report or an invoice as columns and rows of exact text: what `csv`, `parquet` and `table` are made of. */
import type { Invoice, SandboxUsage, UsageReport } from "../../contract/routes/api/billing.ts";
import { METER_NAMES } from "../../meter/meters.ts";

export interface Column {
  readonly name: string;
  /** `whole` and `amount` are numbers; `amount` has decimals. */
  readonly kind: "text" | "whole" | "amount";
}

export type Cell = string | null;

export interface Grid {
  readonly columns: readonly Column[];
  readonly rows: Iterable<readonly Cell[]> | AsyncIterable<readonly Cell[]>;
}

const text = (name: string): Column => ({ name, kind: "text" });
const whole = (name: string): Column => ({ name, kind: "whole" });
const amount = (name: string): Column => ({ name, kind: "amount" });

type Totals = Pick<UsageReport, "groupBy" | "meters">;

/** Meters in the order of the table of meters, then those that it does not know. */
export function metersOf({ meters }: Pick<UsageReport, "meters">): string[] {
  const known: readonly string[] = METER_NAMES;
  const here = Object.keys(meters);
  return [...known.filter((name) => here.includes(name)), ...here.filter((name) => !known.includes(name)).sort()];
}

export function usageColumns(report: Totals): Column[] {
  return [...report.groupBy.map(text), ...metersOf(report).map(whole), amount("amount"), text("currency")];
}

/** Rows may come from elsewhere, a page at a time: then the report gives the columns alone. */
export function usageCells(report: Totals & { currency: string }, row: UsageReport["rows"][number]): Cell[] {
  const groups = report.groupBy.map((name) => row.group[name] ?? null);
  const meters = metersOf(report).map((name) => row.meters[name] ?? "0");
  return [...groups, ...meters, row.amount, report.currency];
}

export function usageGrid(report: UsageReport): Grid {
  return { columns: usageColumns(report), rows: report.rows.map((row) => usageCells(report, row)) };
}

export function sandboxGrid(usage: SandboxUsage): Grid {
  const meters = metersOf(usage);
  return {
    columns: [...["sandbox", "from", "to", "open"].map(text), ...meters.map(whole), amount("amount"), text("currency")],
    rows: [
      [
        ...[usage.sandbox, usage.from, usage.to, String(usage.open)],
        ...meters.map((name) => usage.meters[name] ?? "0"),
        ...[usage.amount, usage.currency],
      ],
    ],
  };
}

export function invoiceGrid(invoice: Invoice): Grid {
  return {
    columns: [
      ...["invoice", "account", "month", "kind", "meter", "description"].map(text),
      ...[amount("quantity"), text("unit"), amount("price"), amount("amount"), text("currency")],
    ],
    rows: invoice.lines.map((line) => [
      ...[invoice.id, invoice.account, invoice.month, line.kind, line.meter, line.describes],
      ...[line.quantity, line.unit, line.price, line.amount, invoice.currency],
    ]),
  };
}
