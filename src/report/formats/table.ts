/** Usage and invoices as tables for people: natural units, amounts that line up, a row of totals. */
import type { Invoice, UsageReport } from "../../contract/routes/api/billing.ts";
import { dayLabel } from "../numbers/day.ts";
import { grouped, parseDecimal, shortest } from "../numbers/decimal.ts";
import { amountAt, money, sharedPlaces, unitPrice } from "../numbers/money.ts";
import { meterTitle, quantity } from "../numbers/quantity.ts";
import { columnsOf, type Heading } from "./columns.ts";
import { metersOf } from "./grid.ts";

export interface TableOptions {
  /** Of the terminal. Default: as wide as it has to be. */
  readonly columns?: number;
}

/** What a row is called: its value of each name in `groupBy`; days of 23 or 25 hours say so. */
export function groupLabels({ groupBy, timeZone }: UsageReport, row: UsageReport["rows"][number]): (string | null)[] {
  return groupBy.map((name) => {
    const value = row.group[name] ?? null;
    return name === "day" && value !== null ? dayLabel(value, timeZone) : value;
  });
}

/**
 * A usage report: a column for each meter that counted anything, amounts, and totals.
 * Amounts are shown with up to six decimals more than the currency has; a line says so when that rounded any.
 */
export function usageTable(report: UsageReport, { columns }: TableOptions = {}): string {
  const meters = metersOf(report).filter((name) => !/^-?0*$/.test(report.meters[name] ?? "0"));
  const { places, rounded } = sharedPlaces([...report.rows.map(({ amount }) => amount), report.total], report.currency);
  const groups = report.groupBy.length === 0 ? [""] : report.groupBy;
  const headings: Heading[] = [
    ...groups.map((title): Heading => ({ title, align: "left", whole: title === "day" })),
    ...meters.map((name): Heading => ({ ...meterTitle(name), align: "right" })),
    { title: "amount", unit: report.currency, align: "right" },
  ];
  const line = (labels: (string | null)[], of: { meters: Record<string, string> }, amount: string) => [
    ...labels,
    ...meters.map((name) => quantity(name, of.meters[name] ?? "0")),
    amountAt(parseDecimal(amount), places),
  ];
  const total = line(["total", ...groups.slice(1).map(() => "")], report, report.total);
  const rows = report.rows.map((row) => line(groupLabels(report, row), row, row.amount));
  const table =
    report.groupBy.length === 0
      ? columnsOf(headings, [total], [], columns)
      : columnsOf(headings, rows, [total], columns);
  return rounded ? `${table}Amounts are rounded to ${places} decimals here; json, csv and parquet have all.\n` : table;
}

/** An invoice's lines, and what they add up to. */
export function invoiceTable(invoice: Invoice, { columns }: TableOptions = {}): string {
  const { currency } = invoice;
  const headings: Heading[] = [
    { title: "description", align: "left" },
    { title: "quantity", align: "right" },
    { title: "unit", align: "left" },
    { title: "price", unit: currency, align: "right" },
    { title: "amount", unit: currency, align: "right" },
  ];
  const rows = invoice.lines.map((line) => [
    line.describes,
    line.quantity === null ? "" : grouped(shortest(parseDecimal(line.quantity))),
    line.unit ?? "",
    line.price === null ? "" : unitPrice(line.price, currency),
    money(line.amount, currency),
  ]);
  return columnsOf(headings, rows, [["total", "", "", "", money(invoice.total, currency)]], columns);
}
