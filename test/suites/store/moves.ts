/** The log of moves: in whatever order it comes, what is read of it and what it amounts to is the same. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Move } from "../../../src/contract/move.ts";
import type { SandboxState } from "../../../src/contract/routes/sandboxes.ts";
import { CHARGED, fold } from "../../../src/meter/fold.ts";
import { formatUsd, parseUsd, roundUsd, type Usd } from "../../../src/meter/money.ts";
import { price, ratesOf } from "../../../src/meter/rates.ts";
import { account, booking, LIFE, movesOf, newId, type Step, type StoreForm, T0 } from "./world.ts";

export interface MoveSkips {
  /** Why there is no second server. */
  readonly second?: string;
  /** Why nothing is metered. */
  readonly meter?: string;
}

/** The embedded database on a busy host. */
const SLOW_MS = 60_000;
const STATES = Object.keys(CHARGED) as SandboxState[];
const size = fc.record({ cpu: fc.integer({ min: 1, max: 32 }), memoryMib: fc.integer({ min: 128, max: 65_536 }) });
/** Any sequence of states: what is charged does not depend on which follow each other. */
const history = fc
  .record({
    size,
    instants: fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 8 }),
    states: fc.array(fc.constantFrom(...STATES), { minLength: 8, maxLength: 8 }),
    sent: fc.array(fc.option(fc.nat(2 ** 40), { nil: undefined }), { minLength: 8, maxLength: 8 }),
  })
  .map(({ size: of, instants, states, sent }) => ({
    size: of,
    steps: [...instants]
      .sort((a, b) => a - b)
      .map((at, i): Step => {
        const bytesOut = sent[i];
        const network =
          bytesOut === undefined ? {} : { network: { bytesOut, bytesIn: 1, connections: 1 }, cpuUsedMs: bytesOut / 7 };
        return [states[i] ?? "running", at, network];
      }),
  }));

/** The same rows in another order, some of them several times, cut into batches. */
function shuffled(rows: readonly Move[]) {
  const order = fc.shuffledSubarray([...rows, ...rows], { minLength: 2 * rows.length });
  return fc.tuple(order, fc.integer({ min: 1, max: 7 })).map(([mixed, most]) => {
    const batches: Move[][] = [];
    for (let at = 0; at < mixed.length; at += most) batches.push(mixed.slice(at, at + most));
    return batches;
  });
}

export function moveCases(form: () => StoreForm, skips: MoveSkips): void {
  const metered = test.skipIf(skips.meter !== undefined);
  const because = skips.meter === undefined ? "" : ` [skipped: ${skips.meter}]`;

  describe("record", () => {
    test("Store.events tells the last of a sandbox's moves, oldest first, whatever order they came in", async () => {
      const { store } = form();
      const mine = await account(store);
      const id = newId();
      const rows = movesOf(mine, id, LIFE);
      await store.record([...rows].reverse());
      await store.record(rows);
      const [, running, stopping, deleted] = [1, 2, 3, 4].map((sequence) => ({ sequence }));
      expect(await store.events(mine, id, 3)).toMatchObject([running ?? {}, stopping ?? {}, deleted ?? {}]);
      expect((await store.events(mine, id, 1000))?.[0]).toEqual({
        ...{ sequence: 1, at: new Date(T0).toISOString(), type: "created", from: null, to: "creating", reason: null },
      });
      expect((await store.events(mine, id, 1))?.[0]).toEqual({
        ...{ sequence: 4, at: new Date(T0 + 60_100).toISOString(), type: "reaped" },
        ...{ from: "stopping", to: "deleted", reason: "closed" },
      });
    });

    test("Store.events is empty of what was booked and has not moved, and null of what never was", async () => {
      const { store } = form();
      const mine = await account(store);
      const one = booking();
      await store.admit(mine, [one], null);
      expect(await store.events(mine, one.id, 10)).toEqual([]);
      expect(await store.events(mine, "sb_never", 10)).toBeNull();
      expect(await store.events(mine, "sb_\u0000\ud800", 10)).toBeNull();
    });

    test(
      "Store.record takes thousands of rows, and whatever text is in them",
      async () => {
        const { store } = form();
        const mine = await account(store);
        const steps = Array.from({ length: 2500 }, (_, i): Step => [i % 2 === 0 ? "paused" : "running", i]);
        const id = newId();
        await store.record(movesOf(mine, id, steps, { reason: 'a "reason" \\ with \\u0000 and 🐇' }));
        const events = await store.events(mine, id, 1000);
        expect(events?.length).toBe(1000);
        expect(events?.at(-1)).toMatchObject({ sequence: 2500, reason: 'a "reason" \\ with \\u0000 and 🐇' });
        await store.record(movesOf(mine, newId(), LIFE, { reason: "cut in \ud83d half, and NUL \u0000" }));
        await store.record([]);
      },
      SLOW_MS,
    );

    metered(
      `Store.record meters moves as the fold does, in any order and any number of times${because}`,
      async () => {
        const { store, second, meter } = form();
        const cases = fc.array(history, { minLength: 1, maxLength: 3 });
        await fc.assert(
          fc.asyncProperty(cases, fc.gen(), async (histories, gen) => {
            const credit = parseUsd("100000000");
            const mine = await account(store, { creditUsd: formatUsd(credit) });
            const all = histories.map(({ size: of, steps }) => movesOf(mine, newId(), steps, of));
            const batches = gen(shuffled, all.flat());
            await Promise.all(batches.map((batch, i) => (i % 2 === 0 ? store : (second ?? store)).record(batch)));
            for (const rows of all) {
              const kept = await meter?.(rows[0]?.sandbox ?? "");
              expect(kept?.closed).toEqual(fold(rows));
              expect(kept?.open ?? null).toEqual(openOf(rows.at(-1)));
            }
            const left = less(credit, price(fold(all.flat()), ratesOf()));
            expect((await store.account(mine))?.creditUsd).toBe(formatUsd(roundUsd(left, 12)));
          }),
          { numRuns: 40 },
        );
      },
      SLOW_MS,
    );

    metered(
      `Store.record comes to the same with proofs of life and days settled in between, and replayed three times${because}`,
      async () => {
        const { store, meter } = form();
        await fc.assert(
          fc.asyncProperty(
            history,
            fc.array(fc.double({ min: 0, max: 1, noNaN: true })),
            fc.gen(),
            async (one, at, gen) => {
              const mine = await account(store, { creditUsd: "100000000" });
              const rows = movesOf(mine, newId(), one.steps, one.size);
              await lived(form(), rows, at);
              for (let again = 0; again < 3; again++)
                for (const batch of gen(shuffled, rows)) await store.record(batch);
              expect((await meter?.(rows[0]?.sandbox ?? ""))?.closed).toEqual(fold(rows));
              const left = less(parseUsd("100000000"), price(fold(rows), ratesOf()));
              expect((await store.account(mine))?.creditUsd).toBe(formatUsd(roundUsd(left, 12)));
            },
          ),
          { numRuns: 15 },
        );
      },
      SLOW_MS,
    );

    metered(
      `Store.record takes a stretch's price from prepaid credit, to below nothing, and then nothing is made${because}`,
      async () => {
        const { store } = form();
        const mine = await account(store, { creditUsd: "0.0001" });
        const id = newId();
        await store.record(movesOf(mine, id, LIFE.slice(0, 2), { memoryMib: 1024 }));
        expect((await store.account(mine))?.creditUsd).toBe("0.0001");
        await store.record(movesOf(mine, id, LIFE, { memoryMib: 1024 }));
        expect((await store.account(mine))?.creditUsd).toBe("-0.00074");
        expect(await store.admit(mine, [booking()], null)).toEqual({ kind: "no-credit", creditUsd: "-0.00074" });
      },
    );

    metered(`Store.admit takes what runs from prepaid credit, up to the instant it is asked at${because}`, async () => {
      const { store } = form();
      const mine = await account(store, { creditUsd: "0.0001" });
      const id = newId();
      await store.record(movesOf(mine, id, LIFE.slice(0, 2), { memoryMib: 1024 }));
      // The 60 s of the case above.
      const late = booking({ atMs: T0 + 60_040 });
      expect(await store.admit(mine, [late], null)).toEqual({ kind: "no-credit", creditUsd: "-0.00074" });
      expect((await store.account(mine))?.creditUsd).toBe("0.0001");
      expect((await store.admit(mine, [booking({ atMs: T0 + 40 })], null)).kind).toBe("booked");
      await store.record(movesOf(mine, id, LIFE, { memoryMib: 1024 }));
      expect(await store.admit(mine, [late], null)).toEqual({ kind: "no-credit", creditUsd: "-0.00074" });
    });

    test("Store.record keeps what belongs to other accounts when one row's account is unknown", async () => {
      const { store } = form();
      const mine = await account(store);
      const [lost, kept] = [newId(), newId()];
      await store.record([...movesOf("nobody-knows", lost, LIFE), ...movesOf(mine, kept, LIFE)]);
      expect((await store.events(mine, kept, 10))?.length).toBe(4);
      expect(await store.events(mine, lost, 10)).toBeNull();
    });
  });
}

function openOf(last: Move | undefined) {
  if (last === undefined) return null;
  const charged = Object.entries(CHARGED[last.to] as Record<string, "cpu" | "memoryMib">);
  if (charged.length === 0) return null;
  const sinceMs = BigInt(Math.floor(last.monotonicMs));
  return { sinceMs, charged: Object.fromEntries(charged.map(([meter, size]) => [meter, last[size]])) };
}

function less(a: Usd, b: Usd): Usd {
  const decimals = Math.max(a.decimals, b.decimals);
  const scaled = ({ units, decimals: has }: Usd) => units * 10n ** BigInt(decimals - has);
  const units = scaled(a) - scaled(b);
  if (units < 0n) throw new Error("the case has cost more than there was");
  return { units, decimals };
}

/** Moves as they happen, each with a proof of life somewhere before the next, up to which days are settled by one of two servers. */
async function lived({ store, second }: StoreForm, rows: readonly Move[], at: readonly number[]): Promise<void> {
  for (const [i, move] of rows.entries()) {
    await store.record([move]);
    const { sandbox, monotonicMs } = move;
    const nextMs = rows[i + 1]?.monotonicMs ?? monotonicMs;
    const seenMs = monotonicMs + (nextMs - monotonicMs) * (at[i % Math.max(1, at.length)] ?? 1);
    await store.heartbeat([{ sandbox, seenMs, cpuUsedMs: null, egressBytes: null }]);
    await (i % 2 === 0 ? store : (second ?? store)).settleBooks(seenMs);
  }
}
