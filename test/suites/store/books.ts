/** The books of a store, written once and run against PostgreSQL and PGlite: settlement, corrections, reports, invoices. */
import { afterAll, beforeAll, describe } from "bun:test";
import { correctionCases } from "./books/corrections.ts";
import { invoiceCases } from "./books/invoices.ts";
import { settleCases } from "./books/settle.ts";
import { usageCases } from "./books/usage.ts";
import { viewCases } from "./books/views.ts";
import type { BooksForm } from "./books/world.ts";

/** A first start of the embedded database on a busy host. */
const OPEN_MS = 120_000;

/** Registers every case under `name`. All share one store, and its days: they close in the order of the cases. */
export function booksSuite(name: string, open: () => Promise<BooksForm & { close(): Promise<void> }>): void {
  describe(name, () => {
    let opened: Awaited<ReturnType<typeof open>> | null = null;
    beforeAll(async () => {
      opened = await open();
    }, OPEN_MS);
    afterAll(async () => {
      await opened?.close();
    }, OPEN_MS);
    const form = (): BooksForm => {
      if (opened === null) throw new Error("the store was not opened");
      return opened;
    };
    settleCases(form);
    invoiceCases(form);
    usageCases(form);
    correctionCases(form);
    viewCases(form);
  });
}
