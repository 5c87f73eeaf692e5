/** Entries that were wrong are taken back, once; the books are compared with what they were made of. */
import { expect, test } from "bun:test";
import { account, booking, codeOf, LIFE, movesOf, T0 } from "../world.ts";
import { type BooksForm, DAY_MS, HOUR_MS, newSubject, rows, sums, utc, write } from "./world.ts";

const JULY = utc("2031-07-01");
const AUGUST = utc("2031-08-01");
const TEN_MINUTES_MS = 600_000;

export function correctionCases(form: () => BooksForm): void {
  const hours = (mine: string, fromMs: number, count: number) =>
    write(form().driver, [
      { account: mine, subject: newSubject(), meter: "vcpu_ms", units: 1, fromMs, toMs: fromMs + count * HOUR_MS },
    ]);
  const entryOf = async (mine: string) => {
    const of = "select id::text from billing.ledger where account = $1 and kind <> 'reversal' order by id desc limit 1";
    return String((await rows(form().driver, of, mine))[0]?.[0]);
  };

  test("Store.correct takes an entry back and books another, once each; sums, credit and the invoice follow", async () => {
    const { store, driver } = form();
    const mine = await account(store, { creditUsd: "10" });
    const credit = async () => (await store.account(mine))?.creditUsd;
    await store.settleBooks(JULY + HOUR_MS);
    await hours(mine, JULY + DAY_MS, 10);
    await store.settleBooks(JULY + 2 * DAY_MS);
    expect(await credit()).toBe("9.64");
    const wrong = await entryOf(mine);
    const [reversal = "", corrected = ""] = await store.correct(
      wrong,
      { quantity: String(2 * HOUR_MS), reason: "counted twice" },
      JULY + 2 * DAY_MS,
    );
    expect(await credit()).toBe("9.928");
    const again = { quantity: null, reason: "again" };
    expect(await codeOf(store.correct(wrong, again, JULY + 2 * DAY_MS))).toBe("already_exists");
    expect(await codeOf(store.correct(reversal, again, JULY + 2 * DAY_MS))).toBe("invalid_request");
    for (const entry of ["999999999999", "9999999999999999999"])
      expect(await codeOf(store.correct(entry, again, JULY + 2 * DAY_MS))).toBe("not_found");
    const told = [["2031-07-02", "vcpu_ms", String(2 * HOUR_MS), "0.072"]] as never;
    expect(await sums(driver, "ledger", mine)).toEqual(told);
    expect(await sums(driver, "rollups", mine)).toEqual(told);
    const draft = (await store.invoice(mine, "draft-2031-07", JULY + 2 * DAY_MS))?.lines;
    expect(draft?.map(({ kind, amount }) => [kind, amount])).toEqual([
      ["usage", "0.36"],
      ["correction", "-0.29"],
      ["credit", "-0.07"],
    ]);
    expect(await store.correct(corrected, again, JULY + 2 * DAY_MS)).toHaveLength(1);
    expect(await credit()).toBe("10");
    expect((await store.settleBooks(JULY + 2 * DAY_MS)).charged).toBe(0);
  });

  test("Store.correct of a month that was invoiced is on the next invoice, as much as the month comes to less with its minimum", async () => {
    const { store } = form();
    const list = `list-${newSubject().slice(3)}`.toLowerCase();
    const prices = { list, currency: undefined, account: undefined, fromDay: undefined, prices: { vcpu_ms: "0.001" } };
    await store.setPrices(prices, utc("2026-11-21"));
    await store.setPlan({ id: list, list, minimum: "5", cap: "30", included: {} });
    const mine = await account(store);
    await store.subscribeTo(mine, list, "2031-07-01", utc("2026-11-21"));
    await hours(mine, JULY + 5 * DAY_MS, 5);
    await store.settleBooks(AUGUST + TEN_MINUTES_MS);
    await store.correct(await entryOf(mine), { quantity: null, reason: "ours, not theirs" }, AUGUST + DAY_MS);
    await store.settleBooks(utc("2031-09-01") + TEN_MINUTES_MS);
    const [july, august] = await Promise.all(
      ["2031-07", "2031-08"].map(async (month) => {
        const info = (await store.invoices(mine, utc("2031-09-02"))).find((one) => one.month === month);
        return await store.invoice(mine, info?.id ?? "", utc("2031-09-02"));
      }),
    );
    expect([july?.total, august?.total]).toEqual(["18.00", "-8.00"]);
    expect(august?.lines.map(({ kind, amount }) => [kind, amount])).toEqual([
      ["minimum", "5.00"],
      ["correction", "-13.00"],
    ]);
  });

  test("Store.reconcileBooks finds nothing where all is right, and every stretch that is booked too much, too little or not charged", async () => {
    const { store, driver } = form();
    const mine = await account(store);
    const [bare, more, right] = [newSubject(), newSubject(), newSubject()];
    for (const id of [bare, more, right]) {
      await store.admit(mine, [booking({ id })], null);
      await store.record(movesOf(mine, id, LIFE));
    }
    const open = newSubject();
    await store.record(movesOf(mine, open, LIFE.slice(0, 2)));
    await store.settleBooks(utc("2031-09-02"));
    const reconcile = async (fromMs: number, toMs: number) =>
      (await store.reconcileBooks(fromMs, toMs)).differences
        .filter((one) => one.account === mine)
        .map(({ sandbox, meter, against, booked, found }) => [sandbox, meter, against, booked, found]);
    const whole = [T0, T0 + DAY_MS] as const;
    expect(await reconcile(...whole)).toEqual([]);
    expect(await reconcile(T0 + 1000, T0 + 2000)).toEqual([]);
    const extra = { account: mine, subject: more, template: "base", meter: "vcpu_ms", units: 1 };
    await write(driver, [{ ...extra, fromMs: T0 + 100_000, toMs: T0 + 101_000 }]);
    await rows(driver, "delete from moves where sandbox = $1 and sequence > 2", bare);
    const notCharged = `insert into billing.intervals (account, subject, meter, units, during, recorded_at)
      values ($1, 'volume/x', 'volume_mib_s', 1, '[2030-01-01 10:00+00, 2030-01-01 10:00:05+00)', now() - interval '1 hour')`;
    await rows(driver, notCharged, mine);
    const sorted = (found: readonly unknown[]) => found.map((one) => JSON.stringify(one)).toSorted();
    expect(sorted(await reconcile(...whole))).toEqual(
      sorted([
        ["volume/x", "volume_mib_s", "ledger", "5", "0"],
        [more, "vcpu_ms", "moves", "61000", "60000"],
        [bare, "moves", "moves", "2", "4"],
        [bare, "vcpu_ms", "moves", "60000", "0"],
        [bare, "memory_mib_ms", "moves", String(512 * 60_000), "0"],
      ]),
    );
  });

  test("Store.reconcileBooks tells what is charged as running while no VMM ran", async () => {
    const { store } = form();
    const mine = await account(store);
    const [fits, over] = [newSubject(), newSubject()];
    for (const id of [fits, over]) await store.record(movesOf(mine, id, LIFE));
    const ran = [
      { sandbox: fits, fromMs: T0, toMs: T0 + 60_040.5 },
      { sandbox: over, fromMs: null, toMs: T0 + 30_000 },
      { sandbox: over, fromMs: T0 + 40_000.9, toMs: null },
    ];
    const { differences } = await store.reconcileBooks(T0, T0 + DAY_MS, ran);
    expect(differences.filter(({ against }) => against === "accounting")).toEqual([
      {
        ...{ account: mine, sandbox: over, meter: "memory_mib_ms", against: "accounting" },
        ...{ booked: String(512 * 60_000), found: String(512 * 50_000) },
        says: "charged as running while no VMM of it ran",
      },
      {
        ...{ account: mine, sandbox: over, meter: "vcpu_ms", against: "accounting", booked: "60000", found: "50000" },
        says: "charged as running while no VMM of it ran",
      },
    ]);
  });
}
