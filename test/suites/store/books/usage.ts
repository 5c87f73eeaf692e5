/** Reports: cut exactly at their ends and at the account's own midnights, in any grouping, with what is open as far as it was seen. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Grouping, UsageQuestion } from "../../../../src/api/billing.ts";
import { account, booking, codeOf, movesOf, sandboxInfo } from "../world.ts";
import { type BooksForm, DAY_MS, type Fact, HOUR_MS, newSubject, ran, utc, write } from "./world.ts";

const DAY: Grouping = { kind: "day" };
const label = (key: string): Grouping => ({ kind: "metadata", key });
/** After all that these reports are about. */
const LATER = utc("2032-01-01");

export function usageCases(form: () => BooksForm): void {
  const usage = (mine: string, fromMs: number, toMs: number, change: Partial<UsageQuestion> = {}, nowMs = LATER) =>
    form().store.usage(mine, { fromMs, toMs, timeZone: "UTC", groupBy: [], ...change }, nowMs);
  const vcpu = (mine: string, fromMs: number, toMs: number): Fact => ({
    ...{ account: mine, subject: newSubject(), template: "base", meter: "vcpu_ms", units: 1, fromMs, toMs },
  });

  test("Store.usage of nothing is one row of nothing, and none by days", async () => {
    const mine = await account(form().store);
    const at = utc("2031-01-01");
    const empty = await usage(mine, at, at);
    expect(empty).toMatchObject({
      rows: [{ group: {}, meters: {}, amount: "0" }],
      meters: {},
      total: "0",
      currency: "USD",
    });
    expect((await usage(mine, at, at + DAY_MS)).rows).toEqual(empty.rows);
    expect((await usage(mine, at, at + DAY_MS, { groupBy: [DAY] })).rows).toEqual([]);
  });

  test("Store.usage cuts at the question's ends, to the millisecond; a count belongs to its instant", async () => {
    const { store, driver } = form();
    const mine = await account(store);
    const at = utc("2031-01-05T10:00:00Z");
    await write(driver, [
      vcpu(mine, at, at + HOUR_MS),
      { account: mine, subject: "s", meter: "egress_bytes", units: 7, fromMs: at + 10, toMs: null },
    ]);
    expect((await usage(mine, at + 1, at + 10)).meters).toEqual({ vcpu_ms: "9" });
    expect((await usage(mine, at + 10, at + 11)).meters).toEqual({ vcpu_ms: "1", egress_bytes: "7" });
    expect((await usage(mine, at - HOUR_MS, at)).meters).toEqual({});
    expect(await usage(mine, at, at + 2 * HOUR_MS)).toMatchObject({ meters: { vcpu_ms: "3600000" }, total: "0.036" });
  });

  test.each([
    ["Europe/Berlin", "2031-03-30", 23, "2031-03-29T23:00:00Z"],
    ["Europe/Berlin", "2031-10-26", 25, "2031-10-25T22:00:00Z"],
    ["America/Havana", "2031-11-02", 25, "2031-11-02T04:00:00Z"],
    ["Asia/Kathmandu", "2031-06-01", 24, "2031-05-31T18:15:00Z"],
    ["Pacific/Kiritimati", "2031-06-01", 24, "2031-05-31T10:00:00Z"],
  ])("Store.usage by days in %s: %s has %i hours", async (timeZone, day, hours, begins) => {
    const { store, driver } = form();
    const mine = await account(store);
    const from = utc(begins);
    await write(driver, [vcpu(mine, from - 30 * HOUR_MS, from + 60 * HOUR_MS)]);
    const report = await usage(mine, from - 30 * HOUR_MS, from + 60 * HOUR_MS, { timeZone, groupBy: [DAY] });
    const days = report.rows.map(({ group, meters }) => [group["day"], Number(meters["vcpu_ms"]) / HOUR_MS]);
    expect(days.slice(0, 3)).toEqual([
      [new Date(utc(day) - 2 * DAY_MS).toISOString().slice(0, 10), 6],
      [new Date(utc(day) - DAY_MS).toISOString().slice(0, 10), 24],
      [day, hours],
    ]);
    expect(report.meters).toEqual({ vcpu_ms: String(90 * HOUR_MS) });
    expect(report.total).toBe("3.24");
  });

  test("Store.usage groups by day, sandbox, template and labels in any combination; what has none is null", async () => {
    const { store, driver } = form();
    const mine = await account(store);
    const at = utc("2031-02-01");
    const [a, b] = [newSubject(), newSubject()];
    for (const [id, team] of [
      [a, "red"],
      [b, "blue"],
    ] as const)
      await store.describe(mine, [sandboxInfo(id, { metadata: { team, "odd key'": "x" } })]);
    await write(driver, [
      ...ran(mine, at, at + 1000, { subject: a }),
      ...ran(mine, at + DAY_MS, at + DAY_MS + 2000, { subject: b, template: "code" }),
      { account: mine, subject: `volume/${mine}/v`, meter: "volume_mib_s", units: 3, fromMs: at, toMs: at + 5000 },
    ]);
    const by = async (...groupBy: Grouping[]) =>
      (await usage(mine, at, at + 3 * DAY_MS, { groupBy })).rows.map(({ group, meters }) => [
        ...groupBy.map((one) => group[one.kind === "metadata" ? `metadata.${one.key}` : one.kind]),
        meters["vcpu_ms"] ?? meters["volume_mib_s"],
      ]);
    expect(await by({ kind: "template" })).toEqual([
      ["base", "1000"],
      ["code", "2000"],
      [null, "15"],
    ]);
    expect(await by(label("team"))).toEqual([
      ["blue", "2000"],
      ["red", "1000"],
      [null, "15"],
    ]);
    expect(await by(label("odd key'"), DAY)).toEqual([
      ["x", "2031-02-01", "1000"],
      ["x", "2031-02-02", "2000"],
      [null, "2031-02-01", "15"],
    ]);
    expect(await by(DAY, label("team"), { kind: "sandbox" })).toEqual([
      ["2031-02-01", "red", a, "1000"],
      ["2031-02-01", null, `volume/${mine}/v`, "15"],
      ["2031-02-02", "blue", b, "2000"],
    ]);
  });

  test("Store.usage counts what runs up to when it was last seen, and what is kept up to now", async () => {
    const { store } = form();
    const mine = await account(store);
    const [id, begin] = [newSubject(), utc("2031-04-01T23:00:00Z")];
    await store.admit(mine, [booking({ id, cpu: 2 })], null);
    const at = (ms: number) => ({ monotonicMs: ms, wallMs: ms });
    const steps = movesOf(
      mine,
      id,
      [
        ["creating", 0, at(begin - 50)],
        ["running", 0, at(begin)],
      ],
      { cpu: 2, memoryMib: 512 },
    );
    await store.record(steps);
    await store.heartbeat([{ sandbox: id, seenMs: begin + 2 * HOUR_MS, cpuUsedMs: 100, egressBytes: null }]);
    const volume = { kind: "volume", id: "v", account: mine, sizeBytes: 1, monotonicMs: begin, wallMs: begin } as const;
    await store.recordStored([volume]);
    const now = begin + 3 * HOUR_MS;
    const report = await usage(mine, begin - DAY_MS, begin + DAY_MS, { groupBy: [DAY] }, now);
    expect(
      report.rows.map(({ group, meters }) => [
        group["day"],
        meters["vcpu_ms"],
        meters["volume_mib_s"],
        meters["cpu_used_ms"],
      ]),
    ).toEqual([
      ["2031-04-01", String(2 * HOUR_MS), "3600", undefined],
      ["2031-04-02", String(2 * HOUR_MS), "7200", "100"],
    ]);
    expect(report.seenUntil).toBe(new Date(begin + 2 * HOUR_MS).toISOString());
    const one = await store.sandboxUsage(mine, id);
    expect(one).toMatchObject({ open: true, from: new Date(begin - 0).toISOString(), to: report.seenUntil });
    expect(one?.meters["vcpu_ms"]).toBe(String(4 * HOUR_MS));
    expect(await store.sandboxUsage(await account(store), id)).toBeNull();
    expect(await store.sandboxUsage(mine, "sb_nobody")).toBeNull();
  });

  test("Store.usage is additive over any cut, monotone, and the sum of its entries, whatever was used when", async () => {
    const { store, driver } = form();
    const T = utc("2031-05-01");
    const fact = fc.record({
      meter: fc.constantFrom(
        "vcpu_ms",
        "memory_mib_ms",
        "paused_memory_mib_ms",
        "snapshot_mib_s",
        "egress_bytes",
        "creates",
      ),
      units: fc.integer({ min: 1, max: 1e6 }),
      fromMs: fc.integer({ min: 0, max: 3 * DAY_MS }),
      lengthMs: fc.integer({ min: 1, max: 2 * DAY_MS }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fact, { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 0, max: 5 * DAY_MS }), { maxLength: 3 }),
        fc.constantFrom("UTC", "Asia/Kathmandu", "America/St_Johns"),
        async (facts, cuts, timeZone) => {
          const mine = await account(store);
          await write(
            driver,
            facts.map(({ meter, units, fromMs, lengthMs }) => {
              const isCount = meter === "egress_bytes" || meter === "creates";
              return {
                account: mine,
                subject: newSubject(),
                meter,
                units,
                fromMs: T + fromMs,
                toMs: isCount ? null : T + fromMs + lengthMs,
              };
            }),
          );
          const bounds = [0, ...cuts.sort((a, b) => a - b), 6 * DAY_MS].map((ms) => T + ms);
          const whole = await usage(mine, bounds[0] ?? 0, bounds.at(-1) ?? 0, { timeZone, groupBy: [DAY] });
          const parts = await Promise.all(
            bounds.slice(1).map((toMs, i) => usage(mine, bounds[i] ?? 0, toMs, { timeZone })),
          );
          const added: Record<string, bigint> = {};
          for (const [meter, quantity] of parts.flatMap((part) => Object.entries(part.meters))) {
            expect(BigInt(quantity)).toBeGreaterThanOrEqual(0n); // with additivity: a longer range is never less
            added[meter] = (added[meter] ?? 0n) + BigInt(quantity);
          }
          const positive = Object.entries(added).filter(([, quantity]) => quantity > 0n);
          expect(Object.fromEntries(positive.map(([meter, quantity]) => [meter, String(quantity)]))).toEqual(
            Object.fromEntries(Object.entries(whole.meters).filter(([, quantity]) => quantity !== "0")),
          );
          expect(exactSum(parts.map(({ total }) => total))).toBe(exactSum([whole.total]));
          expect(exactSum(whole.rows.map(({ amount }) => amount))).toBe(exactSum([whole.total]));
          const entries: string[] = [];
          for (let after: string | null = null, more = true; more; more = after !== null) {
            const page = await store.usageEntries(mine, { fromMs: T, toMs: T + 6 * DAY_MS, after, limit: 2 }, LATER);
            entries.push(...page.items.map(({ amount }) => amount));
            after = page.next;
          }
          expect(exactSum(entries)).toBe(exactSum([whole.total]));
        },
      ),
      { numRuns: 25, seed: 6 },
    );
  }, 60_000);

  test("Store.usage over a change of currency is refused, and says so; of a sandbox it is what it cost since", async () => {
    const { store, driver } = form();
    const list = `list-${newSubject().slice(3)}`.toLowerCase();
    const of = { list, currency: "EUR", account: undefined, fromDay: undefined, prices: { vcpu_ms: "1" } };
    await store.setPrices(of, utc("2026-11-21"));
    await store.setPlan({ id: list, list, minimum: null, cap: null, included: {} });
    const mine = await account(store);
    await store.subscribeTo(mine, list, "2031-07-02", utc("2026-11-21"));
    const change = utc("2031-07-02");
    const lived = vcpu(mine, change - HOUR_MS, change + HOUR_MS);
    await store.describe(mine, [sandboxInfo(lived.subject)]);
    await write(driver, [lived]);
    expect(await codeOf(usage(mine, change - DAY_MS, change + DAY_MS))).toBe("invalid_request");
    expect(await usage(mine, change, change + DAY_MS)).toMatchObject({ currency: "EUR", total: "3600" });
    expect(await usage(mine, change - DAY_MS, change)).toMatchObject({ currency: "USD", total: "0.036" });
    expect(await store.sandboxUsage(mine, lived.subject)).toMatchObject({
      ...{ currency: "EUR", amount: "3600", meters: { vcpu_ms: String(2 * HOUR_MS) } },
    });
  });
}

/** Of exact decimal text, in units of 10^-40. */
function exactSum(amounts: readonly string[]): bigint {
  return amounts.reduce((sum, amount) => {
    const [whole = "", fraction = ""] = amount.split(".");
    return sum + BigInt(whole + fraction.padEnd(40, "0"));
  }, 0n);
}
