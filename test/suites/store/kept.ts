/** What is kept on disk, kept ready or built: each size for as long as it held, in whole MiB, once, however often it is told. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Stored } from "../../../src/contract/stored.ts";
import { STORED_METERS } from "../../../src/meter/storage.ts";
import { account, LIFE, movesOf, newId, type StoreForm, T0 } from "./world.ts";

const MIB = 2 ** 20;
const SLOW_MS = 60_000;

export function keptCases(form: () => StoreForm, skips: { readonly meter?: string }): void {
  const metered = test.skipIf(skips.meter !== undefined);
  const because = skips.meter === undefined ? "" : ` [skipped: ${skips.meter}]`;
  const row = (of: string, sizeBytes: number, atMs: number, change: Partial<Stored> = {}): Stored => ({
    ...{ kind: "volume", id: "v", account: of, sizeBytes, monotonicMs: T0 + atMs, wallMs: T0 + atMs },
    ...change,
  });

  describe("what is kept", () => {
    metered(`Store.recordStored charges each size until the next, to whole seconds and MiB${because}`, async () => {
      const { store, meter } = form();
      const mine = await account(store);
      const rows = [row(mine, 10 * MIB, 1_500), row(mine, 10 * MIB + 1, 61_999), row(mine, 0, 121_000)];
      await store.recordStored(rows.slice(0, 1));
      const used = () => meter?.(`volume/${mine}/v`);
      expect((await used())?.open).toEqual({ sinceMs: BigInt(T0 + 1_500), charged: { volume_mib_s: 10 } });
      for (let again = 0; again < 3; again++) await store.recordStored(rows);
      expect(await used()).toMatchObject({ closed: { volume_mib_s: BigInt(60 * 10 + 60 * 11) }, open: null });
    });

    metered(
      `Store.recordStored charges any sizes by the batch as one by one, and replayed three times${because}`,
      async () => {
        const { store, second, meter } = form();
        const step = fc.record({ afterMs: fc.integer({ min: 1, max: 2e8 }), sizeBytes: fc.nat(2 ** 33) });
        await fc.assert(
          fc.asyncProperty(
            fc.array(step, { minLength: 1, maxLength: 12 }),
            fc.integer({ min: 1, max: 12 }),
            async (steps, most) => {
              const mine = await account(store);
              let atMs = 0;
              const rows = steps.map(({ afterMs, sizeBytes }) => {
                atMs += afterMs;
                return row(mine, sizeBytes, atMs + 0.5);
              });
              for (let again = 0; again < 3; again++) {
                for (let at = 0; at < rows.length; at += most) {
                  await (again % 2 === 0 ? store : (second ?? store)).recordStored(rows.slice(at, at + most));
                }
              }
              const kept = await meter?.(`volume/${mine}/v`);
              expect(kept?.closed["volume_mib_s"] ?? 0n).toBe(mibSeconds(rows));
              expect(kept?.open === null).toBe(rows.at(-1)?.sizeBytes === 0);
            },
          ),
          { numRuns: 15 },
        );
      },
      SLOW_MS,
    );

    metered(`Store.recordStored never charges twice what a clock that was set back tells again${because}`, async () => {
      const { store, meter } = form();
      const mine = await account(store);
      // A server that starts anew an hour earlier, by its clock.
      await store.recordStored([row(mine, MIB, 3_600_000), row(mine, 2 * MIB, 7_200_000)]);
      await store.recordStored([row(mine, MIB, 3_700_000), row(mine, 0, 7_210_000)]);
      expect((await meter?.(`volume/${mine}/v`))?.closed).toMatchObject({ volume_mib_s: 3_600n + 10n });
    });

    metered(`Store.recordStored knows every kind by its own meter, and an image by its sandbox${because}`, async () => {
      const { store, meter } = form();
      const [mine, id] = [await account(store), newId()];
      await store.record(movesOf(mine, id, LIFE));
      for (const [kind, charged] of Object.entries(STORED_METERS) as [Stored["kind"], string][]) {
        await store.recordStored([row(mine, 3 * MIB, 0, { kind, id }), row(mine, 0, 2000, { kind, id })]);
        const used = await meter?.(kind === "image" ? id : `${kind}/${mine}/${id}`);
        const expected = { ready: 6000n, build: 2n }[kind as string] ?? 6n;
        expect([kind, used?.closed[charged]]).toEqual([kind, expected]);
      }
    });

    metered(
      `Store.reconcile ends what ended with its server, and charges nothing that nobody saw${because}`,
      async () => {
        const { store, meter } = form();
        const mine = await account(store);
        for (const kind of ["ready", "build", "snapshot"] as const)
          await store.recordStored([row(mine, MIB, 0, { kind })]);
        await store.reconcile(new Set(), new Map(), T0 + 60_000);
        for (const kind of ["ready", "build"]) {
          const used = await meter?.(`${kind}/${mine}/v`);
          expect([kind, used?.open, used?.closed[`${kind}_memory_mib_ms`]]).toEqual([kind, null, undefined]);
        }
        expect((await meter?.(`snapshot/${mine}/v`))?.open).toMatchObject({ charged: { snapshot_mib_s: 1 } });
      },
    );

    metered(
      `Store.reconcile charges what ended with its server up to when that is known to have lived${because}`,
      async () => {
        const { store, meter } = form();
        const mine = await account(store);
        const [before, after] = ["before", "after"];
        await store.recordStored([row(mine, MIB, 0, { kind: "ready", id: before })]);
        await store.recordStored([row(mine, MIB, 40_000, { kind: "ready", id: after })]);
        for (let again = 0; again < 2; again++) {
          await store.reconcile(new Set(), new Map(), T0 + 99_000 + again, T0 + 30_000.5);
          const used = async (id: string) => await meter?.(`ready/${mine}/${id}`);
          expect(await used(before)).toMatchObject({ open: null, closed: { ready_memory_mib_ms: 30_000n } });
          expect((await used(after))?.open).toBeNull();
          expect((await used(after))?.closed["ready_memory_mib_ms"]).toBeUndefined();
        }
      },
    );
  });
}

/** Of one thing, from its first row to its last. */
function mibSeconds(rows: readonly Stored[]): bigint {
  let sum = 0n;
  for (const [i, { sizeBytes, monotonicMs }] of rows.entries()) {
    const nextMs = rows[i + 1]?.monotonicMs ?? monotonicMs;
    sum += BigInt(Math.ceil(sizeBytes / MIB)) * BigInt(Math.floor(nextMs / 1000) - Math.floor(monotonicMs / 1000));
  }
  return sum;
}
