/** Months become invoices: drafts, issued once, never changed; each is the sum of its lines. */
import { expect, test } from "bun:test";
import type { InvoiceLine } from "../../../../src/contract/routes/api/billing.ts";
import { account, codeOf } from "../world.ts";
import { type BooksForm, DAY_MS, HOUR_MS, newSubject, rows, SECOND_MS, utc, write } from "./world.ts";

const MINUTE_MS = 60 * SECOND_MS;
/** Not after any day that these prices and plans begin on. */
const TODAY = utc("2026-11-21");
/** Months of one case come after those of the cases before it. */
const first = (month: string) => utc(`${month}-01`);
const closed = (month: string) => first(month) + 10 * MINUTE_MS;

const brief = (lines: readonly InvoiceLine[]) =>
  lines.map(({ kind, meter, quantity, price, amount }) => [kind, meter, quantity, price, amount]);
const summed = (lines: readonly InvoiceLine[]) =>
  lines.reduce((sum, { amount }) => sum + BigInt(amount.replace(".", "")), 0n);
const cents = (amount: string) => BigInt(amount.replace(".", ""));

export function invoiceCases(form: () => BooksForm): void {
  const settle = (nowMs: number) => form().store.settleBooks(nowMs);
  /** So many hours of one vCPU from an instant on. */
  const hours = (mine: string, fromMs: number, count: number) =>
    write(form().driver, [
      { account: mine, subject: newSubject(), meter: "vcpu_ms", units: 1, fromMs, toMs: fromMs + count * HOUR_MS },
    ]);
  const inMonth = async (mine: string, month: string, nowMs: number) => {
    const info = (await form().store.invoices(mine, nowMs)).find((one) => one.month === month);
    if (info === undefined) throw new Error(`no invoice of ${month}`);
    const invoice = await form().store.invoice(mine, info.id, nowMs);
    if (invoice === null) throw new Error(`no invoice ${info.id}`);
    const { lines, ...rest } = invoice;
    expect(rest).toEqual(info);
    expect(summed(lines)).toBe(cents(invoice.total));
    return invoice;
  };

  test("Store.invoices has a draft until the month's last day is closed, then the invoice, which nothing changes", async () => {
    const { store, driver } = form();
    const [mine, idle] = [await account(store, { name: "Ünïcode & Söhne" }), await account(store)];
    await settle(first("2030-03") + HOUR_MS);
    await hours(mine, first("2030-03") + 5 * DAY_MS, 10);
    await settle(first("2030-03") + 6 * DAY_MS);
    const draft = await inMonth(mine, "2030-03", first("2030-03") + 6 * DAY_MS);
    expect(draft).toMatchObject({ id: "draft-2030-03", issuedAt: null, plan: null, total: "0.36", currency: "USD" });
    expect(draft.billTo).toEqual({ name: "Ünïcode & Söhne", address: [], taxId: null });
    expect(brief(draft.lines)).toEqual([["usage", "vcpu_ms", "36000", "0.00001", "0.36"]]);
    expect(draft.lines[0]?.unit).toBe("vCPU-second");

    expect((await settle(closed("2030-04") - 1)).issued).toBe(0);
    expect((await inMonth(mine, "2030-03", closed("2030-04") - 1)).id).toBe("draft-2030-03");
    expect((await settle(closed("2030-04"))).issued).toBeGreaterThanOrEqual(1);
    expect((await settle(closed("2030-04"))).issued).toBe(0);
    const issued = await inMonth(mine, "2030-03", closed("2030-04"));
    expect(issued.id).toMatch(/^2030-03-\d{4}$/);
    expect(issued.lines).toEqual(draft.lines);
    expect((await store.invoices(mine, closed("2030-04"))).map(({ id }) => id)).toEqual(["draft-2030-04", issued.id]);
    expect((await store.invoices(idle, closed("2030-04"))).map(({ id, total }) => [id, total])).toEqual([
      ["draft-2030-04", "0"],
    ]);
    expect(await store.invoice(idle, issued.id, closed("2030-04"))).toBeNull();
    expect(await store.invoice(mine, "2030-03-9999", closed("2030-04"))).toBeNull();

    for (const text of [
      `update billing.invoices set total = 0 where id = '${issued.id}'`,
      `delete from billing.invoice_lines_kept where invoice = '${issued.id}'`,
      `insert into billing.invoice_lines_kept values ('${issued.id}', 99, 'usage', null, 'one more', null, null, 1)`,
    ]) {
      expect(await codeOf(rows(driver, text))).toBe("internal");
    }
  });

  test("Store.settleBooks puts what came after the invoice on the next one, at its day's price, once", async () => {
    const { store } = form();
    const mine = await account(store);
    await hours(mine, first("2030-04") + DAY_MS, 1);
    await settle(closed("2030-05"));
    const before = await inMonth(mine, "2030-04", closed("2030-05"));
    await hours(mine, first("2030-04") + 2 * DAY_MS, 100);
    await hours(mine, first("2030-05") + 2 * DAY_MS, 10);
    await settle(closed("2030-05") + 3 * DAY_MS);
    expect(await inMonth(mine, "2030-04", closed("2030-05"))).toEqual(before);
    await settle(closed("2030-06"));
    const may = await inMonth(mine, "2030-05", closed("2030-06"));
    expect(brief(may.lines)).toEqual([
      ["usage", "vcpu_ms", "36000", "0.00001", "0.36"],
      ["late", null, null, null, "3.60"],
    ]);
    expect(may.lines[1]?.describes).toContain("2030-04");
    await hours(mine, first("2030-06") + DAY_MS, 1);
    await settle(closed("2030-07"));
    expect(brief((await inMonth(mine, "2030-06", closed("2030-07"))).lines)).toEqual([
      ["usage", "vcpu_ms", "3600", "0.00001", "0.04"],
    ]);
  });

  test("Store.settleBooks applies the plan of the month's last day: included amounts by day, minimum, cap", async () => {
    const { store } = form();
    const list = `list-${newSubject().slice(3)}`.toLowerCase();
    const prices = (vcpu: string, fromDay?: string) =>
      store.setPrices({ list, currency: undefined, account: undefined, fromDay, prices: { vcpu_ms: vcpu } }, TODAY);
    await prices("0.001");
    await prices("0.002", "2030-07-16");
    const plan = (id: string, change: object) =>
      store.setPlan({ id: `${list}-${id}`, list, minimum: null, cap: null, included: {}, ...change });
    await plan("free", { included: { vcpu_ms: String(15 * HOUR_MS) } });
    await plan("least", { minimum: "50" });
    await plan("most", { cap: "20", included: { vcpu_ms: String(HOUR_MS) } });
    const accounts = await Promise.all(["free", "least", "most"].map(() => account(store)));
    const [free = "", least = "", most = ""] = accounts;
    for (const [i, id] of ["free", "least", "most"].entries())
      await store.subscribeTo(accounts[i] ?? "", `${list}-${id}`, "2030-07-01", TODAY);
    for (const mine of accounts) {
      await hours(mine, first("2030-07") + 9 * DAY_MS, 10);
      await hours(mine, first("2030-07") + 19 * DAY_MS, 10);
    }
    const idle = await account(store);
    await store.subscribeTo(idle, `${list}-least`, "2030-07-31", TODAY);
    await settle(closed("2030-08"));
    const of = async (mine: string) => brief((await inMonth(mine, "2030-07", closed("2030-08"))).lines);
    const usage = [
      ["usage", "vcpu_ms", "36000", "0.001", "36.00"],
      ["usage", "vcpu_ms", "36000", "0.002", "72.00"],
    ];
    expect(await of(free)).toEqual([
      ...usage,
      ["included", "vcpu_ms", "-36000", "0.001", "-36.00"],
      ["included", "vcpu_ms", "-18000", "0.002", "-36.00"],
    ]);
    expect(await of(least)).toEqual(usage);
    expect(await of(most)).toEqual([
      ...usage,
      ["included", "vcpu_ms", "-3600", "0.001", "-3.60"],
      ["cap", null, null, null, "-84.40"],
    ]);
    expect(await of(idle)).toEqual([["minimum", null, null, null, "50.00"]]);
  });

  test("Store.setPrices of an active-CPU list: CPU time that was used is charged, vCPUs are not; in yen without decimals", async () => {
    const { store, driver } = form();
    const list = `list-${newSubject().slice(3)}`.toLowerCase();
    await store.setPrices(
      {
        list,
        currency: "JPY",
        account: undefined,
        fromDay: undefined,
        prices: { cpu_used_ms: "0.0015", memory_mib_ms: "0.0005" },
      },
      TODAY,
    );
    await store.setPlan({ id: list, list, minimum: null, cap: null, included: {} });
    const mine = await account(store);
    await store.subscribeTo(mine, list, "2030-08-01", TODAY);
    const fromMs = first("2030-08") + DAY_MS;
    const one = { account: mine, subject: newSubject(), fromMs };
    await write(driver, [
      { ...one, meter: "vcpu_ms", units: 4, toMs: fromMs + HOUR_MS },
      { ...one, meter: "memory_mib_ms", units: 1024, toMs: fromMs + HOUR_MS },
      { ...one, meter: "cpu_used_ms", units: 1_000_001, toMs: null },
    ]);
    await settle(closed("2030-09"));
    const invoice = await inMonth(mine, "2030-08", closed("2030-09"));
    expect(invoice.currency).toBe("JPY");
    expect(brief(invoice.lines)).toEqual([
      ["usage", "cpu_used_ms", "1000.001", "0.0015", "2"],
      ["usage", "memory_mib_ms", "3600", "0.0005", "2"],
    ]);
  });

  test("Store.settleBooks of a month with two plans: prices by day, and all that the last day's plan includes", async () => {
    const { store } = form();
    const name = `list-${newSubject().slice(3)}`.toLowerCase();
    for (const [part, price, included] of [
      ["a", "0.001", {}],
      ["b", "0.003", { vcpu_ms: String(8 * HOUR_MS) }],
    ] as const) {
      const [list, prices] = [`${name}-${part}`, { vcpu_ms: price }];
      await store.setPrices({ list, currency: undefined, account: undefined, fromDay: undefined, prices }, TODAY);
      await store.setPlan({ id: list, list, minimum: null, cap: null, included });
    }
    const mine = await account(store);
    await store.subscribeTo(mine, `${name}-a`, "2030-09-01", TODAY);
    await store.subscribeTo(mine, `${name}-b`, "2030-09-16", TODAY);
    await hours(mine, first("2030-09") + 14 * DAY_MS, 24 + 10);
    await settle(closed("2030-10"));
    const invoice = await inMonth(mine, "2030-09", closed("2030-10"));
    expect(invoice.plan).toBe(`${name}-b`);
    expect(brief(invoice.lines)).toEqual([
      ["usage", "vcpu_ms", "86400", "0.001", "86.40"],
      ["usage", "vcpu_ms", "36000", "0.003", "108.00"],
      ["included", "vcpu_ms", "-28800", "0.001", "-28.80"],
    ]);
  });

  test("Store.settleBooks bills of what came late, or was corrected, what its month comes to with its own plan, less what it was invoiced with", async () => {
    const { store, driver } = form();
    const list = `list-${newSubject().slice(3)}`.toLowerCase();
    const prices = { list, currency: undefined, account: undefined, fromDay: undefined, prices: { vcpu_ms: "0.001" } };
    await store.setPrices(prices, TODAY);
    const plans = {
      included: { minimum: null, cap: null, included: { vcpu_ms: String(1000 * HOUR_MS) } },
      capped: { minimum: null, cap: "30", included: {} },
      least: { minimum: "50", cap: null, included: {} },
    };
    const accounts: Record<string, string> = {};
    for (const [name, plan] of Object.entries(plans)) {
      await store.setPlan({ id: `${list}-${name}`, list, ...plan });
      const mine = await account(store);
      accounts[name] = mine;
      await store.subscribeTo(mine, `${list}-${name}`, "2030-10-01", TODAY);
      await hours(mine, first("2030-10") + DAY_MS, name === "least" ? 1 : 10);
    }
    await settle(closed("2030-11"));
    const [included = "", capped = "", least = ""] = Object.values(accounts);
    const totals = (month: string, nowMs: number) =>
      Promise.all([included, capped, least].map(async (mine) => (await inMonth(mine, month, nowMs)).total));
    expect(await totals("2030-10", closed("2030-11"))).toEqual(["0.00", "30.00", "50.00"]);
    const [charge] = await rows(driver, "select id::text from billing.ledger where account = $1", included);
    await store.correct(String(charge?.[0]), { quantity: null, reason: "wrong" }, first("2030-11") + DAY_MS);
    await hours(capped, first("2030-10") + 3 * DAY_MS, 10);
    await hours(least, first("2030-10") + 3 * DAY_MS, 2);
    await settle(closed("2030-12"));
    expect((await totals("2030-11", closed("2030-12"))).map(Number)).toEqual([0, 0, 50]);
    const november = await Promise.all([included, capped].map((mine) => inMonth(mine, "2030-11", closed("2030-12"))));
    expect(november.map(({ lines }) => brief(lines))).toEqual([
      [["correction", null, null, null, "0.00"]],
      [["late", null, null, null, "0.00"]],
    ]);
    await hours(least, first("2030-10") + 5 * DAY_MS, 20);
    await settle(closed("2030-12") + DAY_MS);
    await settle(closed("2031-01"));
    const december = brief((await inMonth(least, "2030-12", closed("2031-01"))).lines);
    expect(december).toEqual([
      ["minimum", null, null, null, "50.00"],
      ["late", null, null, null, "32.80"], // 23 hours come to 82.80, of which 50.00 were invoiced as the minimum
    ]);
  });

  test("Store.settleBooks asks for nothing that prepaid credit has paid, and gives back to it what the plan includes", async () => {
    const { store } = form();
    const list = `list-${newSubject().slice(3)}`.toLowerCase();
    const prices = { list, currency: undefined, account: undefined, fromDay: undefined, prices: { vcpu_ms: "0.001" } };
    await store.setPrices(prices, TODAY);
    const included = { vcpu_ms: String(4 * HOUR_MS) };
    await store.setPlan({ id: list, list, minimum: null, cap: null, included });
    const [plain, planned] = [await account(store, { creditUsd: "100" }), await account(store, { creditUsd: "100" })];
    await store.subscribeTo(planned, list, "2031-01-01", TODAY);
    for (const mine of [plain, planned]) await hours(mine, first("2031-01") + DAY_MS, 10);
    const credit = async (mine: string) => (await store.account(mine))?.creditUsd;
    expect([await credit(plain), await credit(planned)]).toEqual(["99.64", "64"]);
    await settle(closed("2031-02"));
    const of = async (mine: string) => brief((await inMonth(mine, "2031-01", closed("2031-02"))).lines);
    expect(await of(plain)).toEqual([
      ["usage", "vcpu_ms", "36000", "0.00001", "0.36"],
      ["credit", null, null, null, "-0.36"],
    ]);
    expect(await of(planned)).toEqual([
      ["usage", "vcpu_ms", "36000", "0.001", "36.00"],
      ["included", "vcpu_ms", "-14400", "0.001", "-14.40"],
      ["credit", null, null, null, "-21.60"],
    ]);
    expect([await credit(plain), await credit(planned)]).toEqual(["99.64", "78.4"]);
  });

  test("billing.rounded takes halves away from zero, to the currency's smallest unit", async () => {
    const round = async (amount: string, currency: string) =>
      (
        await rows(form().driver, "select billing.rounded($1::text::numeric, $2::text)::text", amount, currency)
      )[0]?.[0];
    expect(await round("0.005", "USD")).toBe("0.01");
    expect(await round("-0.005", "USD")).toBe("-0.01");
    expect(await round("0.00499999999999999999", "EUR")).toBe("0.00");
    expect(await round("2.5", "JPY")).toBe("3");
    expect(await round("1.2345", "KWD")).toBe("1.235");
  });
}
