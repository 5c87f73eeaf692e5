/** The books: settled and corrected. The rules are in the database's functions, which see to it that each thing is done once. */
import { sql } from "drizzle-orm";
import type { BillingStore } from "../../api/billing.ts";
import { WarrenError } from "../../errors.ts";
import type { Database } from "../database.ts";
import { invoiceCalls } from "./invoices.ts";
import { reconcileCalls } from "./reconcile.ts";

type Calls = Pick<BillingStore, "settleBooks" | "correct" | "invoices" | "invoice" | "reconcileBooks">;

/** Days of stretches that one statement cuts, and intervals that one charges: a fraction of a second of a server's, a few of the embedded database's. */
const PIECE = 5_000;

/** Of the database's `bigint`. */
const ENTRY_MAX = 2n ** 63n - 1n;

const iso = (ms: number) => new Date(ms).toISOString();

export function bookCalls(db: Database): Calls {
  return {
    ...invoiceCalls(db),
    ...reconcileCalls(db),
    async settleBooks(nowMs) {
      const sum = { cut: 0, charged: 0, closed: 0, issued: 0 };
      for (let cut = -1; cut !== 0; sum.cut += cut) {
        cut = Number(await db.value(sql`select billing.cut(${iso(nowMs)}::timestamptz, ${PIECE})::text`));
      }
      for (let after: number | string | null = null, more = true; more; more = after !== null) {
        const told = await db.value(
          sql`select billing.settle(${iso(nowMs)}::timestamptz, ${after}::bigint, ${PIECE})::text`,
        );
        const piece = JSON.parse(String(told)) as Omit<typeof sum, "cut"> & { readonly after: number | null };
        for (const what of ["charged", "closed", "issued"] as const) sum[what] += piece[what];
        after = piece.after;
      }
      return sum;
    },
    async correct(entry, { quantity, reason }, nowMs) {
      if (BigInt(entry) > ENTRY_MAX) throw unknownEntry(entry);
      const told = await db.value(sql`
        select billing.correct(${entry}::bigint, ${quantity}::bigint, ${reason}, ${iso(nowMs)}::timestamptz)::text`);
      const { kind, entries } = JSON.parse(String(told)) as {
        readonly kind: string;
        readonly entries?: readonly string[];
      };
      if (entries !== undefined) return entries;
      const details = { field: "entry" };
      if (kind === "not-found") throw unknownEntry(entry);
      if (kind === "corrected")
        throw new WarrenError(
          "already_exists",
          `entry: ${entry} was corrected before; correct what was booked in its place`,
          { details },
        );
      throw new WarrenError("invalid_request", `entry: ${entry} is a reversal, allowed is a charge or a correction`, {
        details,
      });
    },
  };
}

function unknownEntry(entry: string): WarrenError {
  return new WarrenError("not_found", `entry: there is no entry ${entry}`, { details: { field: "entry" } });
}
