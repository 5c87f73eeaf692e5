/** Invoices: those that were issued, as they were sent, and of the month that is not over what it has come to so far. */
import { asc, desc, eq, sql } from "drizzle-orm";
import type { BillingStore } from "../../api/billing.ts";
import type { BillTo, Invoice, InvoiceInfo, InvoiceLine } from "../../contract/routes/api/billing.ts";
import { type Database, owned } from "../database.ts";
import { invoiceLines, invoices, meters } from "../schema/billing.ts";

type Calls = Pick<BillingStore, "invoices" | "invoice">;

const iso = (ms: number) => new Date(ms).toISOString();

export function invoiceCalls(db: Database): Calls {
  return {
    async invoices(account, nowMs) {
      const rows = await db.ask((orm) =>
        orm
          .select()
          .from(invoices)
          .where(owned(invoices, account))
          .orderBy(desc(invoices.month), asc(invoices.currency)),
      );
      const drafts = await draftsOf(db, account, nowMs);
      return [...drafts.map(({ lines: _, ...info }) => info), ...rows.map(infoOf)];
    },
    async invoice(account, id, nowMs) {
      if (id.startsWith("draft-")) {
        return (await draftsOf(db, account, nowMs)).find((draft) => draft.id === id) ?? null;
      }
      const [row] = await db.ask((orm) =>
        orm
          .select()
          .from(invoices)
          .where(owned(invoices, account, eq(invoices.id, id))),
      );
      if (row === undefined) return null;
      const lines = await db.ask((orm) =>
        orm
          .select({ line: invoiceLines, unit: meters.unit })
          .from(invoiceLines)
          .leftJoin(meters, eq(meters.meter, invoiceLines.meter))
          .where(eq(invoiceLines.invoice, id))
          .orderBy(asc(invoiceLines.line)),
      );
      return { ...infoOf(row), lines: lines.map(({ line, unit }) => ({ ...lineOf(line), unit })) };
    },
  };
}

type Kept = Pick<typeof invoiceLines.$inferSelect, "kind" | "meter" | "describes" | "quantity" | "price" | "amount">;

function lineOf({ kind, meter, describes, quantity, price, amount }: Kept): Omit<InvoiceLine, "unit"> {
  return { kind: kind as InvoiceLine["kind"], meter, describes, quantity, price, amount };
}

function infoOf(row: typeof invoices.$inferSelect): InvoiceInfo {
  return {
    ...{ id: row.id, account: row.account, month: row.month.slice(0, 7), currency: row.currency, plan: row.plan },
    ...{ issuedAt: iso(row.issuedAt), billTo: row.billTo as BillTo, total: row.total },
  };
}

/**
 * Of the month that it is (UTC), and of those before whose last day is not closed yet: as settled so far. In another currency
 * than the account's own only where something was charged in it.
 */
async function draftsOf(db: Database, account: string, nowMs: number): Promise<Invoice[]> {
  const now = sql`(${iso(nowMs)}::timestamptz at time zone 'UTC')`;
  const rows = await db.rows(sql`
    with months as (
      select m::date as month, (m + interval '1 month')::date - 1 as last_day
      from generate_series(date_trunc('month', least((select max(day) from billing.windows where closed_at is null),
        ${now}::date)::timestamp), ${now}, interval '1 month') as m
    ), due as (
      select m.month, t.currency, t.plan, true as own from months as m, lateral billing.terms(${account}, m.last_day) as t
      union all
      select distinct m.month, r.currency::text, null, false from months as m
      join billing.rollups as r on r.account = ${account} and r.day between m.month and m.last_day and r.amount <> 0
      where r.currency <> (select t.currency from billing.terms(${account}, m.last_day) as t)
    )
    select to_char(d.month, 'YYYY-MM'), d.currency, d.plan, d.own, billing.bill_to(${account})::text, l.lines, l.total
    from due as d, lateral (
      select coalesce(jsonb_agg(jsonb_build_object('kind', l.kind, 'meter', l.meter, 'describes', l.describes,
        'quantity', l.quantity::text, 'unit', l.unit, 'price', l.price::text, 'amount', l.amount::text) order by l.line), '[]')::text,
        coalesce(sum(l.amount), 0)::text
      from billing.lines(${account}, d.month, d.currency, 9223372036854775807) as l
    ) as l(lines, total)
    where exists (select from accounts where id = ${account}) and not exists (select from ${invoices} as i
      where i.account = ${account} and i.month = d.month and i.currency = d.currency)
    order by d.month desc, d.own desc, d.currency`);
  return rows.map(([month, currency, plan, isOwn, billTo, lines, total]) => ({
    id: `draft-${String(month)}${isOwn === true ? "" : `-${String(currency).toLowerCase()}`}`,
    ...{ account, month: String(month), currency: String(currency), plan: plan === null ? null : String(plan) },
    ...{ issuedAt: null, billTo: JSON.parse(String(billTo)) as BillTo, total: String(total) },
    lines: JSON.parse(String(lines)) as InvoiceLine[],
  }));
}
