/** What is streamed of usage: all of it, once, in its order, with few questions where there is little and small ones where there is much. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { BillingStore } from "../../../src/api/billing.ts";
import { asCsv, asLines, entriesOf } from "../../../src/api/calls/billing/entries.ts";
import type { UsageEntry } from "../../../src/contract/routes/api/billing.ts";
import { MemoryStore } from "../../harness/stores/memory-store.ts";

const DAY_MS = 86_400_000;
const FROM_MS = Date.UTC(2026, 0, 1, 5);

function entryAt(ms: number, n: number): UsageEntry {
  const at = new Date(ms).toISOString();
  return {
    ...{ subject: `sb_${String(n).padStart(6, "0")}`, template: null, meter: "creates", from: at, to: at },
    ...{ quantity: "1", amount: "0", currency: "USD", open: false },
  };
}

/** A store that has a create at each of these instants. */
class Creates extends MemoryStore {
  readonly asked: number[] = [];

  constructor(instants: readonly number[]) {
    super();
    const all = instants.toSorted((a, b) => a - b).map(entryAt);
    Object.assign(this, {
      usageEntries: async (_: string, { fromMs, toMs, after, limit }: Parameters<BillingStore["usageEntries"]>[1]) => {
        this.asked.push(toMs - fromMs);
        const inside = all.filter(({ from }) => Date.parse(from) >= fromMs && Date.parse(from) < toMs);
        const rest = inside.filter(({ subject }) => after === null || subject > after);
        const items = rest.slice(0, limit);
        return { items, next: rest.length > limit ? (items.at(-1)?.subject ?? null) : null };
      },
    });
  }

  of(toMs: number): Promise<UsageEntry[]> {
    return Array.fromAsync(entriesOf(this, "acme", { fromMs: FROM_MS, toMs }, toMs));
  }
}

describe("entriesOf", () => {
  test("tells everything in the range once, oldest first", async () => {
    const instants = fc.array(fc.integer({ min: FROM_MS - DAY_MS, max: FROM_MS + 100 * DAY_MS }), { maxLength: 50 });
    const days = fc.integer({ min: 0, max: 100 });
    await fc.assert(
      fc.asyncProperty(instants, days, async (all, count) => {
        const toMs = FROM_MS + count * DAY_MS;
        const told = await new Creates(all).of(toMs);
        const wanted = all.filter((ms) => ms >= FROM_MS && ms < toMs).toSorted((a, b) => a - b);
        expect(told.map(({ from }) => Date.parse(from))).toEqual(wanted);
      }),
      { numRuns: 100 },
    );
  });

  test("asks about many days at a time where nothing was used, and about one where there is more than a page", async () => {
    const idle = new Creates([]);
    expect(await idle.of(FROM_MS + 1098 * DAY_MS)).toEqual([]);
    expect(idle.asked.length).toBeLessThan(45);
    const busy = new Creates(Array.from({ length: 12_000 }, (_, n) => FROM_MS + 3 * DAY_MS + n * 50_000));
    expect(await busy.of(FROM_MS + 40 * DAY_MS)).toHaveLength(12_000);
    expect(busy.asked.filter((ms) => ms <= DAY_MS).length).toBeGreaterThan(6);
    expect(Math.max(...busy.asked)).toBeLessThanOrEqual(32 * DAY_MS);
  });

  test("is nothing of an empty range", async () => {
    const store = new Creates([FROM_MS]);
    expect(await store.of(FROM_MS)).toEqual([]);
    expect(store.asked).toEqual([]);
    const text = async (pieces: AsyncIterable<Uint8Array>) => Buffer.concat(await Array.fromAsync(pieces)).toString();
    const none = () => entriesOf(store, "acme", { fromMs: FROM_MS, toMs: FROM_MS }, FROM_MS);
    expect(await text(asLines(none()))).toBe("");
    expect(await text(asCsv(none()))).toBe("subject,template,meter,from,to,quantity,amount,currency,open\r\n");
  });
});
