/** Settlement: each interval is charged once, days close, what comes late is booked in the next, and all sums are equal. */
import { expect, test } from "bun:test";
import { account, booking, codeOf, movesOf } from "../world.ts";
import { type BooksForm, DAY_MS, HOUR_MS, newSubject, ran, rows, SECOND_MS, sums, utc, write } from "./world.ts";

const MINUTE_MS = 60 * SECOND_MS;

/** The first moment of these cases; each goes on from the day where the one before has ended. */
const FIRST = utc("2030-01-01");

export function settleCases(form: () => BooksForm): void {
  const settle = (nowMs: number) => form().store.settleBooks(nowMs);

  test("Store.settleBooks charges 60 s of 1 vCPU and 1 GiB with $0.00084, 5 s of 1 vCPU and 512 MiB with $0.00006, once", async () => {
    const { store, driver } = form();
    const [one, other] = [await account(store), await account(store)];
    await write(driver, [
      ...ran(one, FIRST, FIRST + 60 * SECOND_MS),
      { account: other, subject: "s", meter: "vcpu_ms", units: 1, fromMs: FIRST, toMs: FIRST + 5000 },
      { account: other, subject: "s", meter: "memory_mib_ms", units: 512, fromMs: FIRST, toMs: FIRST + 5000 },
    ]);
    const now = FIRST + HOUR_MS;
    expect(await settle(now)).toMatchObject({ charged: 4, closed: 0, issued: 0 });
    expect(await settle(now)).toEqual({ cut: 0, charged: 0, closed: 0, issued: 0 });
    const total = async (id: string) =>
      (await rows(driver, "select trim_scale(sum(amount))::text from billing.ledger where account = $1", id))[0]?.[0];
    expect(await total(one)).toBe("0.00084");
    expect(await total(other)).toBe("0.00006");
    for (const what of ["rollups", "intervals"] as const) {
      expect(await sums(driver, what, one)).toEqual(await sums(driver, "ledger", one));
    }
  });

  test("Store.settleBooks books what has no price with nothing, and does not pass it over", async () => {
    const { store, driver } = form();
    const mine = await account(store);
    await write(driver, [
      { account: mine, subject: "s", meter: "cpu_used_ms", units: 1234, fromMs: FIRST, toMs: null },
      { account: mine, subject: "v", meter: "volume_mib_s", units: 10, fromMs: FIRST, toMs: FIRST + 1500 },
    ]);
    await settle(FIRST + HOUR_MS);
    expect(await sums(driver, "ledger", mine)).toEqual([
      ["2030-01-01", "cpu_used_ms", "1234", "0"],
      ["2030-01-01", "volume_mib_s", "10", "0"],
    ]);
  });

  test("Store.settleBooks closes a day ten minutes after its end, and books what comes later in the next, under its own day", async () => {
    const { store, driver } = form();
    const mine = await account(store);
    const end = FIRST + DAY_MS;
    await write(driver, ran(mine, FIRST + HOUR_MS, FIRST + 2 * HOUR_MS));
    expect((await settle(end + 10 * MINUTE_MS - 1)).closed).toBe(0);
    expect((await settle(end + 10 * MINUTE_MS)).closed).toBe(1);
    await write(driver, ran(mine, FIRST + 3 * HOUR_MS, FIRST + 4 * HOUR_MS));
    expect((await settle(end + 11 * MINUTE_MS)).charged).toBe(2);
    const booked = `select "window"::text, day::text, count(*)::integer from billing.ledger where account = $1 group by 1, 2 order by 1`;
    expect(await rows(driver, booked, mine)).toEqual([
      ["2030-01-01", "2030-01-01", 2],
      ["2030-01-02", "2030-01-01", 2],
    ]);
    expect(await sums(driver, "rollups", mine)).toEqual(await sums(driver, "intervals", mine));
    const wrong = rows(driver, "update billing.windows set closed_at = null where day = '2030-01-01'");
    expect(await codeOf(wrong)).toBe("internal");
  });

  test("Store.settleBooks closes the days that it was away for, and goes back with no clock", async () => {
    const now = FIRST + 4 * DAY_MS + HOUR_MS;
    expect((await settle(now)).closed).toBe(3);
    expect((await settle(FIRST)).closed).toBe(0);
    expect((await settle(now)).closed).toBe(0);
  });

  test("Store.settleBooks cuts what runs at midnights that it was seen alive a minute after, and nothing twice", async () => {
    const { store, driver } = form();
    const mine = await account(store);
    const id = newSubject();
    const begin = FIRST + 5 * DAY_MS + 23 * HOUR_MS;
    const midnight = FIRST + 6 * DAY_MS;
    await store.admit(mine, [booking({ id })], null);
    const at = (ms: number) => ({ monotonicMs: ms, wallMs: ms });
    const moves = movesOf(mine, id, [
      ["creating", 0, { event: "created", ...at(begin - 100) }],
      ["running", 0, { event: "booted", ...at(begin) }],
      ["stopping", 0, { event: "close", ...at(midnight + 2 * DAY_MS + HOUR_MS) }],
      ["deleted", 0, { event: "reaped", ...at(midnight + 2 * DAY_MS + HOUR_MS + 50) }],
    ]);
    const alive = (seenMs: number) => store.heartbeat([{ sandbox: id, seenMs, cpuUsedMs: null, egressBytes: null }]);
    await store.record(moves.slice(0, 2));
    await alive(midnight + MINUTE_MS - 1);
    expect((await settle(midnight + HOUR_MS)).cut).toBe(0);
    await alive(midnight + DAY_MS + MINUTE_MS);
    expect((await settle(midnight + DAY_MS + HOUR_MS)).cut).toBe(2);
    expect((await settle(midnight + DAY_MS + HOUR_MS)).cut).toBe(0);
    const vcpu = async () => (await sums(driver, "ledger", mine)).filter(([, meter]) => meter === "vcpu_ms");
    const price = (hours: number) => String((hours * 36) / 1000);
    const days: [string, number][] = [
      ["2030-01-06", 1],
      ["2030-01-07", 24],
    ];
    const told = (of: typeof days) => of.map(([day, hours]) => [day, "vcpu_ms", String(hours * HOUR_MS), price(hours)]);
    expect(await vcpu()).toEqual(told(days) as never);
    for (let time = 0; time < 3; time++) await store.record(moves);
    await settle(midnight + 2 * DAY_MS + 2 * HOUR_MS);
    expect(await vcpu()).toEqual(told([...days, ["2030-01-08", 24], ["2030-01-09", 1]]) as never);
    expect(await sums(driver, "rollups", mine)).toEqual(await sums(driver, "intervals", mine));
  });

  test("Store.settleBooks by two servers at once charges each interval once", async () => {
    const { store, second, driver } = form();
    const mine = await account(store);
    const from = FIRST + 9 * DAY_MS;
    let [facts, charges] = [0, 0];
    for (let round = 0; round < 4; round++) {
      const more = Array.from({ length: 20 }, (_, i) =>
        ran(mine, from + i * SECOND_MS, from + (i + 1) * SECOND_MS),
      ).flat();
      const [, ...told] = await Promise.all([
        write(driver, more),
        store.settleBooks(from + HOUR_MS),
        (second ?? store).settleBooks(from + HOUR_MS),
        store.settleBooks(from + HOUR_MS),
      ]);
      facts += more.length;
      // What was written too late for one round is charged in the next.
      charges += told.reduce((sum, { charged }) => sum + charged, 0);
      expect(charges).toBeLessThanOrEqual(facts);
    }
    expect(charges + (await settle(from + HOUR_MS)).charged).toBe(facts);
    const [row] = await rows(
      driver,
      `select count(*)::integer, count(distinct "interval")::integer from billing.ledger where account = $1`,
      mine,
    );
    expect(row).toEqual([facts, facts]);
    expect(await sums(driver, "rollups", mine)).toEqual(await sums(driver, "intervals", mine));
  });

  test("The database refuses a ledger entry that changes, goes, or is booked in a day that is closed", async () => {
    const { driver } = form();
    for (const text of [
      "update billing.ledger set amount = 0",
      "delete from billing.ledger",
      "truncate billing.ledger",
      "update billing.rollups set amount = 0 where \"window\" = '2030-01-01'",
      `insert into billing.ledger (account, kind, "interval", corrects, "window", day, meter, quantity, price, amount, currency)
        select account, 'reversal', "interval", id, '2030-01-01', day, meter, -quantity, price, -amount, currency from billing.ledger limit 1`,
    ]) {
      expect(await codeOf(rows(driver, text))).toBe("internal");
    }
  });
}
