/** From moves to an invoice, over HTTP and a real database: days of two time zones, CSV, PDF, the books, and whose they are. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Store } from "../../../src/api/store.ts";
import type { Client } from "../../../src/client.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { parseDecimal, plus, shortest, ZERO } from "../../../src/report/numbers/decimal.ts";
import { Folder, pgliteForm, postgresForm } from "../../db/world.ts";
import { gate } from "../../harness/gates.ts";
import { newDatabase } from "../../harness/pglite.ts";
import { PrivatePostgres } from "../../harness/stores/postgres.ts";
import { until } from "../../harness/until.ts";
import { Served } from "./served.ts";

const RANGE = { from: "2031-10-31T00:00:00Z", to: "2031-12-01" };
const HOUR_MS = 3_600_000;

const sum = (amounts: readonly string[]) =>
  shortest(amounts.map(parseDecimal).reduce((all, one) => plus(all, one), ZERO));
const same = (text: string) => shortest(parseDecimal(text));

async function codeOf(job: Promise<unknown>): Promise<{ code: string; field: unknown }> {
  try {
    await job;
    return { code: "none", field: null };
  } catch (error) {
    if (!isWarrenError(error)) throw error;
    return { code: error.code, field: error.details["field"] };
  }
}

function servedTests(name: string, open: () => Promise<{ store: Store; close(): PromiseLike<void> }>): void {
  describe(`Billing over HTTP on ${name}`, () => {
    let form: { store: Store; close(): PromiseLike<void> };
    let served: Served;
    let acme: Client["host"];
    let key: string;
    let other: Client["host"];

    beforeAll(async () => {
      form = await open();
      served = await Served.open(form.store, "2031-10-30T12:00:00Z");
      const billTo = { name: "Acme Łódź 株式会社", address: ["1 Main St"], taxId: "DE 1" };
      key = await served.key("acme", ["billing:read", "account:read"], { timeZone: "Asia/Kolkata", billTo });
      acme = served.client(key).host;
      other = served.client(await served.key("other", ["billing:read"])).host;
      await served.settle();
      await served.ran({
        ...{ id: "sb_long", account: "acme", cpu: 1, memoryMib: 1024, metadata: { team: "=web" } },
        ...{ from: "2031-10-31T12:00:00Z", until: [["deleted", "2031-11-03T12:00:00Z"]] },
      });
      await served.ran({
        ...{ id: "sb_short", account: "acme", cpu: 2, memoryMib: 512, from: "2031-11-10T00:00:00Z" },
        until: [
          ["paused", "2031-11-10T01:00:00Z"],
          ["deleted", "2031-11-10T02:00:00Z"],
        ],
      });
      served.now("2031-12-01T00:11:00Z");
    }, 120_000);
    afterAll(async () => {
      await served?.[Symbol.asyncDispose]();
      await form?.close();
    });

    const hoursByDay = async (): Promise<Record<string, number>> => {
      const { rows } = await acme.usage({ ...RANGE, to: "2031-11-05T00:00:00Z", groupBy: "day" });
      return Object.fromEntries(rows.map(({ group, meters }) => [group["day"], Number(meters["vcpu_ms"]) / HOUR_MS]));
    };

    test("days are those of the account's time zone, of 23 and 25 hours too", async () => {
      expect(await hoursByDay()).toEqual({
        ...{ "2031-10-31": 6.5, "2031-11-01": 24, "2031-11-02": 24, "2031-11-03": 17.5 },
      });
      await served.admin.host.updateAccount({ account: "acme", timeZone: "America/New_York" });
      await until("the key's account is known anew", async () => (await acme.me({})).account.timeZone.startsWith("Am"));
      expect(await hoursByDay()).toEqual({
        ...{ "2031-10-31": 16, "2031-11-01": 24, "2031-11-02": 25, "2031-11-03": 7 },
      });
      const day = { from: "2031-11-02", to: "2031-11-03" };
      expect(await acme.usage(day)).toMatchObject({ from: "2031-11-02T04:00:00.000Z", to: "2031-11-03T05:00:00.000Z" });
    }, 60_000);

    test("what a report says is the same before and after it is settled, and the sum of its parts", async () => {
      const report = () => acme.usage({ ...RANGE, groupBy: "sandbox,metadata.team" });
      const before = await report();
      const { issued, charged, closed } = await served.settle();
      expect([issued, charged > 8, closed]).toEqual([2, true, 32]);
      const { seenUntil: _, ...after } = await report();
      expect(before).toMatchObject(after);
      expect(after).toMatchObject({ currency: "USD", groupBy: ["sandbox", "metadata.team"], total: same3("3.7152") });
      expect(after.rows.map(({ group, amount }) => [group["metadata.team"], amount])).toEqual([
        ["=web", same3("3.6288")],
        [null, same3("0.0864")],
      ]);
      const lines = new TextDecoder()
        .decode(await whole(acme.usageEntries(RANGE)))
        .trim()
        .split("\n");
      const entries = lines.map((line) => JSON.parse(line) as { amount: string; from: string });
      expect(sum(entries.map(({ amount }) => amount))).toEqual(same("3.7152"));
      expect(entries.map(({ from }) => from)).toEqual(entries.map(({ from }) => from).toSorted());
      expect(await acme.sandboxUsage({ id: "sb_short" })).toMatchObject({
        ...{ sandbox: "sb_short", from: "2031-11-10T00:00:00.000Z", to: "2031-11-10T02:00:00.000Z", open: false },
        ...{ meters: { vcpu_ms: "7200000", paused_memory_mib_ms: "1843200000" }, amount: same3("0.0864") },
      });
    }, 120_000);

    test("a report as CSV has the same rows, and no formula", async () => {
      const query = "from=2031-10-31T00:00:00Z&to=2031-12-01T00:00:00Z&group_by=metadata.team&format=csv";
      const answer = await served.fetch(`/v1/usage?${query}`, key);
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        "content-type": "text/csv; charset=utf-8",
        "content-disposition": 'attachment; filename="usage-2031-10-31-2031-12-01.csv"',
        "cache-control": "no-store",
      });
      const [head = "", ...rows] = (await answer.text()).trimEnd().split("\r\n");
      expect(head.split(",").at(0)).toBe("metadata.team");
      expect(rows.map((row) => [row.split(",").at(0), same(row.split(",").at(-2) ?? "")])).toEqual([
        ["'=web", same("3.6288")],
        ["", same("0.0864")],
      ]);
      const entries = await served.fetch("/v1/usage/entries?from=2031-10-31T00:00:00Z&to=2031-12-01&format=csv", key);
      const [titles, ...lines] = (await entries.text()).trimEnd().split("\r\n");
      expect(titles).toBe("subject,template,meter,from,to,quantity,amount,currency,open");
      expect(sum(lines.map((line) => line.split(",")[6] ?? ""))).toEqual(same("3.7152"));
    });

    test("invoices are of months of UTC, the sum of their lines, and can be had as PDF", async () => {
      const { items } = await acme.invoices({});
      expect(items.map(({ month, total, issuedAt }) => [month, total, issuedAt === null])).toEqual([
        ["2031-12", "0", true],
        ["2031-11", "3.11", false],
        ["2031-10", "0.60", false],
      ]);
      const november = await acme.invoice({ id: items[1]?.id ?? "" });
      expect(november.billTo.name).toBe("Acme Łódź 株式会社");
      const costs = november.lines.filter(({ amount }) => Number(amount) !== 0);
      expect(costs.map(({ meter, amount }) => [meter, amount]).toSorted()).toEqual([
        ["memory_mib_ms", "0.87"],
        ["paused_memory_mib_ms", "0.01"],
        ["vcpu_ms", "2.23"],
      ]);
      expect(sum(november.lines.map(({ amount }) => amount))).toEqual(same(november.total));
      const pdf = await served.fetch(`/v1/invoices/${november.id}/pdf`, key);
      expect(pdf.headers.get("content-type")).toBe("application/pdf");
      expect(pdf.headers.get("content-disposition")).toBe(`attachment; filename="invoice-${november.id}.pdf"`);
      const bytes = new Uint8Array(await pdf.arrayBuffer());
      expect(new TextDecoder().decode(bytes.slice(0, 5))).toBe("%PDF-");
      expect(await whole(acme.invoicePdf({ id: november.id }))).toEqual(bytes);
    });

    test("another account has nothing of it", async () => {
      const [, { id = "" } = {}] = (await acme.invoices({})).items;
      expect((await other.invoices({})).items.filter(({ issuedAt }) => issuedAt !== null)).toEqual([]);
      expect(await codeOf(other.invoice({ id }))).toMatchObject({ code: "not_found", field: "id" });
      expect(await codeOf(other.invoicePdf({ id }))).toMatchObject({ code: "not_found", field: "id" });
      expect(await codeOf(other.sandboxUsage({ id: "sb_long" }))).toMatchObject({ code: "not_found", field: "id" });
      expect(await other.usage(RANGE)).toMatchObject({ meters: {}, total: "0" });
      expect(await whole(other.usageEntries(RANGE))).toEqual(new Uint8Array());
      expect(await codeOf(other.settleBooks({}))).toMatchObject({ code: "forbidden" });
    });

    test("an administrator sees what is another account's when it is named, and nobody else does", async () => {
      const admin = served.admin.host;
      const [, { id = "" } = {}] = (await acme.invoices({})).items;
      expect(await admin.invoices({ account: "acme" })).toEqual(await acme.invoices({}));
      expect(await admin.invoice({ id, account: "acme" })).toEqual(await acme.invoice({ id }));
      expect(await admin.usage({ ...RANGE, account: "acme" })).toEqual(await acme.usage(RANGE));
      expect((await admin.usage({ from: "2031-11-01", to: "2031-11-02", account: "acme" })).timeZone).toStartWith("Am");
      expect((await admin.sandboxUsage({ id: "sb_long", account: "acme" })).sandbox).toBe("sb_long");
      expect(await codeOf(admin.invoice({ id }))).toEqual({ code: "not_found", field: "id" });
      expect(await codeOf(admin.pricing({ account: "nobody" }))).toEqual({ code: "not_found", field: "account" });
      for (const job of [
        () => other.usage({ account: "acme" }),
        () => other.invoices({ account: "acme" }),
        () => other.invoicePdf({ id, account: "acme" }),
        () => other.usageEntries({ account: "nobody" }),
        () => other.pricing({ account: "nobody" }),
      ])
        expect(await codeOf(job())).toEqual({ code: "forbidden", field: "account" });
      expect((await other.pricing({ account: "other" })).list).toBe("default");
    });

    test("the books agree with the moves, and a settled entry can be taken back, once", async () => {
      const books = served.admin.host;
      const month = { from: "2031-10-31", to: "2031-12-01" };
      expect(await books.reconcileBooks(month)).toMatchObject({ differences: [] });
      const none = { entry: "999999999999", reason: "there is none" };
      expect(await codeOf(books.correct(none))).toEqual({ code: "not_found", field: "entry" });
      const first = { entry: "1", reason: "the host was at fault" };
      expect((await books.correct(first)).entries).toHaveLength(1);
      expect(await codeOf(books.correct(first))).toEqual({ code: "already_exists", field: "entry" });
      expect(await books.reconcileBooks(month)).toMatchObject({ differences: [] });
    });

    test("price lists and plans: made, shown, and refused with the field that is wrong", async () => {
      const books = served.admin.host;
      const made = await books.setPrices({ id: "acme-2032", account: "acme", prices: { vcpu_ms: "0.00002" } });
      expect(made).toMatchObject({ id: "acme-2032", currency: "USD", account: "acme" });
      await books.setPlan({ id: "team", list: "acme-2032", minimum: "20", included: { creates: "10" } });
      await books.subscribe({ account: "acme", plan: "team", fromDay: "2032-01-01" });
      await books.setPlan({ id: "held", list: "default" });
      await books.subscribe({ account: "other", plan: "held", fromDay: "2026-01-01" });
      const { items } = await books.priceLists({});
      expect(items.map(({ id }) => id)).toEqual(expect.arrayContaining(["acme-2032", "default", "pandastack-hosted"]));
      const shown = await acme.pricing({});
      expect(shown).toMatchObject({ list: "default", currency: "USD", plan: null });
      expect(shown.prices.map(({ meter, price }) => [meter, price])).toEqual(
        expect.arrayContaining([
          ["vcpu_ms", "0.00001"],
          ["memory_mib_ms", "0.000004"],
        ]),
      );
      expect(shown.notes.join(" ")).toContain("once for each child");
      const { setPlan, setPrices, subscribe } = books;
      const prices = { vcpu_ms: "1" };
      const refused: readonly (readonly [() => Promise<unknown>, string, string | undefined])[] = [
        [() => setPrices({ id: "acme-2032", prices, currency: "EUR" }), "invalid_request", "currency"],
        [() => setPrices({ id: "acme-2032", prices, fromDay: "2031-11-30" }), "invalid_request", "fromDay"],
        [() => setPrices({ id: "acme-2032", prices, account: "other" }), "invalid_request", "account"],
        [() => setPrices({ id: "of-none", prices, account: "none" }), "not_found", "account"],
        [() => setPlan({ id: "held", list: "default", cap: "5" }), "already_exists", undefined],
        [() => setPlan({ id: "lost", list: "none" }), "not_found", "list"],
        [() => subscribe({ account: "acme", plan: "none" }), "not_found", "plan"],
        [() => subscribe({ account: "none", plan: "team" }), "not_found", "account"],
        [() => subscribe({ account: "other", plan: "team" }), "invalid_request", "account"],
        [() => subscribe({ account: "other", plan: "held", fromDay: "2026-01-01" }), "already_exists", undefined],
      ];
      const told = [];
      for (const [job] of refused) told.push(await codeOf(job()));
      expect(told).toEqual(refused.map(([, code, field]) => ({ code, field })));
    });
  });
}

/** As the store writes amounts: whatever zeros are at its end. */
const same3 = (amount: string) => expect.stringMatching(new RegExp(`^${amount.replace(".", "\\.")}0*$`));

async function whole(pieces: Promise<AsyncIterable<Uint8Array>>): Promise<Uint8Array> {
  return new Uint8Array(Buffer.concat(await Array.fromAsync(await pieces)));
}

servedTests("PGlite", async () => {
  const folder = new Folder();
  await newDatabase(folder.path);
  const form = await pgliteForm(folder.path);
  const close = async () => {
    await form.close();
    folder[Symbol.dispose]();
  };
  return { store: form.store, close };
});

if (gate("postgres")) {
  servedTests("PostgreSQL", async () => {
    const server = await PrivatePostgres.open();
    const form = await postgresForm(await server.database());
    const close = async () => {
      await form.close();
      await server[Symbol.asyncDispose]();
    };
    return { store: form.store, close };
  });
}
