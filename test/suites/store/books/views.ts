/** What finance people see: views with every column said, and a role that reads them and nothing else. */
import { expect, test } from "bun:test";
import { account, codeOf, sandboxInfo } from "../world.ts";
import { type BooksForm, DAY_MS, newSubject, ran, rows, utc, write } from "./world.ts";

const VIEWS = ["invoice_lines", "usage_by_day", "usage_by_label", "usage_by_sandbox", "usage_by_template"];

export function viewCases(form: () => BooksForm): void {
  test("billing's views say what each is and what each of their columns means", async () => {
    const { driver } = form();
    const said = await rows(
      driver,
      `select c.relname, a.attname, coalesce(length(col_description(c.oid, a.attnum)), 0) > 3, length(obj_description(c.oid)) > 10
       from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
       where c.relkind = 'v' and c.relnamespace = 'billing'::regnamespace and c.relname not in ('rates', 'open_time')`,
    );
    expect([...new Set(said.map(([view]) => view))].toSorted()).toEqual(VIEWS);
    expect(said.filter(([, , isColumnSaid, isViewSaid]) => isColumnSaid !== true || isViewSaid !== true)).toEqual([]);
  });

  test("warren_reports reads the views, and no table", async () => {
    const { driver } = form();
    const as = (text: string) => codeOf(driver.script(`set local role warren_reports; ${text}`));
    for (const view of VIEWS) expect(await as(`select * from billing.${view} limit 1`)).toBe("none");
    for (const text of [
      "select * from billing.ledger",
      "select * from accounts",
      "select * from billing.invoices",
      "select billing.settle(now(), null, 1)",
      "insert into billing.windows (day) values ('2040-01-01')",
    ]) {
      expect(await as(text)).not.toBe("none");
    }
  });

  test("billing.usage_by_* add up to the ledger", async () => {
    const { store, driver } = form();
    const mine = await account(store, { name: "Finance" });
    const id = newSubject();
    await store.describe(mine, [sandboxInfo(id, { metadata: { team: "red" } })]);
    const at = utc("2031-10-01");
    await write(driver, [
      ...ran(mine, at, at + 60_000, { subject: id }),
      ...ran(mine, at + DAY_MS, at + DAY_MS + 60_000, { template: null }),
    ]);
    await store.settleBooks(at + 2 * DAY_MS);
    const of = (view: string, columns: string) =>
      rows(
        driver,
        `select ${columns}, trim_scale(sum(amount))::text, min(currency) from billing.${view} where account = $1 group by ${columns} order by ${columns}`,
        mine,
      );
    expect(await of("usage_by_day", "account_name, day::text")).toEqual([
      ["Finance", "2031-10-01", "0.00084", "USD"],
      ["Finance", "2031-10-02", "0.00084", "USD"],
    ]);
    expect(await of("usage_by_template", "template")).toEqual([
      ["base", "0.00084", "USD"],
      [null, "0.00084", "USD"],
    ]);
    expect((await of("usage_by_sandbox", "sandbox")).length).toBe(2);
    expect(await of("usage_by_label", "label, value")).toEqual([["team", "red", "0.00084", "USD"]]);
    const units = await rows(
      driver,
      "select meter, quantity::text, units::text, unit from billing.usage_by_day where account = $1 and day = '2031-10-01' order by meter",
      mine,
    );
    expect(units).toEqual([
      ["memory_mib_ms", String(1024 * 60_000), "60", "GiB-second"],
      ["vcpu_ms", "60000", "60", "vCPU-second"],
    ]);
  });
}
