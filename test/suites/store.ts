/** What a store keeps and tells, written once and run against every one: PostgreSQL, PGlite, and the memory of the API's tests. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { accountCases } from "./store/accounts.ts";
import { admissionCases } from "./store/admission.ts";
import { edgeCases } from "./store/edge.ts";
import { endedCases } from "./store/ended.ts";
import { keptCases } from "./store/kept.ts";
import { type MoveSkips, moveCases } from "./store/moves.ts";
import { priceCases } from "./store/prices.ts";
import { scopeCases } from "./store/scope.ts";
import type { StoreForm } from "./store/world.ts";

export type { StoreForm } from "./store/world.ts";

/** A first start of the embedded database on a busy host. */
const OPEN_MS = 120_000;

/** Registers every case under `name`. All share one store: each makes accounts of its own. */
export function storeSuite(
  name: string,
  open: () => Promise<StoreForm & { close(): Promise<void> }>,
  skips: MoveSkips = {},
): void {
  describe(name, () => {
    let opened: Awaited<ReturnType<typeof open>> | null = null;
    beforeAll(async () => {
      opened = await open();
    }, OPEN_MS);
    afterAll(async () => {
      await opened?.close();
    }, OPEN_MS);
    const form = (): StoreForm => {
      if (opened === null) throw new Error("the store was not opened");
      return opened;
    };

    test("Store.ping answers, and says what it is", async () => {
      const { store } = form();
      await store.ping();
      expect(["pglite", "postgres"]).toContain(store.kind);
    });
    accountCases(form);
    admissionCases(form);
    moveCases(form, skips);
    endedCases(form, skips);
    edgeCases(form);
    scopeCases(form);
    priceCases(form, skips);
    keptCases(form, skips);
  });
}
