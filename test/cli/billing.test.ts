/** `warren billing` over a server that writes down what it is asked: what it asks, and what it prints. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parquetReadObjects } from "hyparquet";
import { WarrenError } from "../../src/errors.ts";
import { BillingServer, ENTRIES, LIST, REPORT } from "./billing-server.ts";

let dir = "";
const cwd = process.cwd();
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "warren-billing-"));
  process.chdir(dir);
});
afterEach(() => {
  process.chdir(cwd);
  rmSync(dir, { recursive: true, force: true });
});

describe("warren billing usage", () => {
  test("tells what was used, what runs, what that costs and what is left", async () => {
    const server = new BillingServer();
    const { code, out } = await server.run(["usage", "--from", "2026-11-01"]);
    expect(server.asked).toEqual([
      ["usage", { from: "2026-11-01" }],
      ["me", {}],
    ]);
    expect([code, out.split("\n")]).toEqual([
      0,
      [
        "account     acme",
        "from        2026-10-31T18:30:00.000Z (days of Asia/Kolkata)",
        "to          2026-11-02T18:30:00.000Z",
        "seen until  2026-11-02T18:29:30.000Z",
        "now         2 sandboxes, 4 vCPUs, 1024 MiB",
        "vCPU        3.000 vCPU-hours",
        "cost        0.1080000001 USD, before plans and credit",
        "credit      12.5 USD left",
        "",
      ],
    ]);
    const json = await server.run(["usage", "--json"]);
    expect(JSON.parse(json.out)).toEqual(REPORT);
  });

  test("goes without what its key may not read", async () => {
    const server = new BillingServer();
    server.failing = { me: new WarrenError("forbidden", "no") };
    const { code, out } = await server.run(["usage"]);
    expect([code, out]).toEqual([0, expect.not.stringContaining("credit  ")]);
    server.failing = { me: new WarrenError("store_unavailable", "away") };
    expect((await server.run(["usage"])).code).not.toBe(0);
  });

  test("is of one sandbox when it is named", async () => {
    const server = new BillingServer();
    const { out } = await server.run(["usage", "sb_1"]);
    expect(server.asked).toEqual([["sandboxUsage", { id: "sb_1" }]]);
    expect(out).toContain("to       - (it goes on)\n");
    expect(out).toContain("cost     0.00005 USD");
    expect((await server.run(["usage", "sb_1", "--to", "2026-11-01"])).code).toBe(2);
  });
});

test("warren billing asks about another account when it is named", async () => {
  const server = new BillingServer();
  for (const [line, asked] of [
    [["usage"], "usage"],
    [["usage", "sb_1"], "sandboxUsage"],
    [["report"], "usage"],
    [["export"], "usageEntries"],
    [["invoice"], "invoices"],
    [["invoice", "2026-10-0001"], "invoice"],
    [["invoice", "2026-10-0001", "--pdf", "i.pdf"], "invoicePdf"],
    [["prices"], "pricing"],
  ] as const) {
    expect([line, (await server.run([...line, "--account", "acme"])).code]).toEqual([line, 0]);
    expect(server.asked.at(-1)).toEqual([asked, expect.objectContaining({ account: "acme" })]);
  }
});

describe("warren billing report", () => {
  test("is a table, with bars when they are asked for or on a terminal, safe to look at", async () => {
    const server = new BillingServer();
    const piped = await server.run(["report", "--from", "2026-11-01", "--to", "2026-11-03"]);
    expect(server.asked).toEqual([["usage", { groupBy: "day", from: "2026-11-01", to: "2026-11-03" }]]);
    expect(piped.out).toContain("=web\\x1b[2J");
    expect(piped.out).toMatch(/total .* 3\.000 .*0\.108/);
    expect(piped.out).not.toContain("█");
    const bars = await server.run(["report", "--chart"]);
    expect(bars.out).toContain("█");
    expect(bars.out).not.toContain("\x1b");
    const seen = await server.run(["report"], { isTty: true });
    expect(seen.out).toContain("█");
    expect(seen.out).not.toContain("\x1b[2J");
    expect((await server.run(["report", "--no-chart"], { isTty: true })).out).not.toContain("█");
  });

  test("goes to other programs as csv, json and parquet, to stdout or to a file", async () => {
    const server = new BillingServer();
    const csv = await server.run(["report", "--format", "csv", "--group-by", "day,metadata.team"]);
    expect(csv.out).toBe(
      "day,metadata.team,vcpu_ms,amount,currency\r\n" +
        "2026-11-01,'=web\x1b[2J,3600000,0.036,USD\r\n2026-11-02,,7200000,0.0720000001,USD\r\n",
    );
    expect(JSON.parse((await server.run(["report", "--json"])).out)).toEqual(REPORT);
    const file = await server.run(["report", "--format", "parquet", "--out", "r.parquet"]);
    expect([file.code, file.out]).toEqual([0, ""]);
    const rows = await parquetReadObjects({ file: readFileSync("r.parquet").buffer as ArrayBuffer });
    expect(rows.map(({ day, amount_exact }) => [day, amount_exact])).toEqual([
      ["2026-11-01", "0.036"],
      ["2026-11-02", "0.0720000001"],
    ]);
    await server.run(["report", "--json", "--out", "r.json"]);
    expect(JSON.parse(readFileSync("r.json", "utf8"))).toEqual(REPORT);
    expect(readdirSync(".").sort()).toEqual(["r.json", "r.parquet"]);
  });

  test("names the option that is wrong, and what to do", async () => {
    const server = new BillingServer();
    const refusal = (field: string) =>
      new WarrenError("invalid_request", `${field}: got "x", allowed is …`, { details: { field } });
    server.failing = { usage: refusal("groupBy") };
    expect(await server.run(["report", "--group-by", "x"])).toMatchObject({
      code: 2,
      err: expect.stringContaining('--group-by: got "x"'),
    });
    server.failing = {};
    for (const [line, says] of [
      [["report", "--format", "xls"], "table, json, csv, parquet"],
      [["report", "--format", "csv", "--chart"], "--chart goes with a table"],
      [["report", "--format", "csv", "--json"], "not both"],
      [["export", "--format", "table"], "csv, json, parquet"],
      [["invoice", "--pdf", "x.pdf"], "name it"],
      [["report", "--out", "no/such/dir/f", "--json"], "no/such/dir/f cannot be written"],
      [["prices", "plan", "p"], "--list"],
      [["correct", "1"], "--reason"],
      [["sinks", "add", "a", "http://a.test"], "--kind"],
      [["nope"], "unknown command"],
    ] as const) {
      const { code, err } = await server.run(line);
      expect([line, code, err]).toEqual([line, 2, expect.stringContaining(says)]);
    }
    const binary = await server.run(["report", "--format", "parquet"], { isTty: true });
    expect([binary.code, binary.err]).toEqual([2, expect.stringContaining("--out FILE")]);
  });
});

describe("warren billing export", () => {
  test("passes rows on as they come, and makes Parquet of them", async () => {
    const server = new BillingServer();
    const csv = await server.run(["export", "--from", "2026-11-01"]);
    expect(server.asked).toEqual([["usageEntries", { format: "csv", from: "2026-11-01" }]]);
    expect(csv.out).toBe("sb_1\r\nsb_2\r\nsb_3\r\n");
    const json = await server.run(["export", "--json"]);
    expect(
      json.out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([...ENTRIES]);
    expect((await server.run(["export", "--format", "parquet", "--out", "e.parquet"])).code).toBe(0);
    const rows = await parquetReadObjects({ file: readFileSync("e.parquet").buffer as ArrayBuffer });
    expect(rows.map(({ subject, template, amount_exact }) => [subject, template, amount_exact])).toEqual([
      ["sb_1", "base", "0.036"],
      ["sb_2", "base", "0.036"],
      ["sb_3", null, "0.036"],
    ]);
  });

  test("leaves no half of a file when the server fails in its middle", async () => {
    const server = new BillingServer();
    writeFileSync("e.csv", "before");
    server.failing = { usageEntries: new WarrenError("connection_failed", "gone") };
    expect((await server.run(["export", "--out", "e.csv"])).code).not.toBe(0);
    expect(readFileSync("e.csv", "utf8")).toBe("before");
    expect(readdirSync(".")).toEqual(["e.csv"]);
  });
});

describe("warren billing invoice and prices", () => {
  test("lists invoices, shows one, and writes its PDF", async () => {
    const server = new BillingServer();
    const list = await server.run(["invoice"]);
    expect(list.out.split("\n")).toEqual([
      "ID             MONTH    ISSUED      PLAN  TOTAL",
      "draft-2026-11  2026-10  draft       team  1,234.50 USD",
      "2026-10-0001   2026-10  2026-11-01  team  20.00 USD",
      "",
    ]);
    const one = await server.run(["invoice", "2026-10-0001"]);
    expect(one.out).toContain("bill to  Acme\\x1b[2J Ltd, 1 Main St\n");
    expect(one.out).toMatch(/total .*20\.00\n$/);
    expect((await server.run(["invoice", "2026-10-0001", "--pdf", "i.pdf"])).code).toBe(0);
    expect(readFileSync("i.pdf", "utf8")).toBe("%PDF-1.7");
    expect(server.asked.at(-1)).toEqual(["invoicePdf", { id: "2026-10-0001" }]);
  });

  test("shows prices with the plan and the rules", async () => {
    const { out } = await new BillingServer().run(["prices"]);
    expect(out).toBe(
      [
        "list  default (USD)",
        "plan  team, at least 20 USD a month, 1073741824 egress_bytes free each month",
        "",
        "METER    PRICE     FOR                  FROM        WHAT",
        "vcpu_ms  0.000010  USD per vCPU-second  0001-01-01  vCPUs of running sandboxes",
        "",
        "- A fork's memory is charged once for each child.",
        "",
      ].join("\n"),
    );
  });

  test("sets prices by hand or from a file, each exact", async () => {
    const server = new BillingServer();
    const asked = () => server.asked.at(-1)?.[1];
    expect(
      (await server.run(["prices", "set", "l", "vcpu_ms=0.1", "creates=1", "--from-day", "2027-01-01"])).code,
    ).toBe(0);
    expect(asked()).toEqual({ id: "l", prices: { vcpu_ms: "0.1", creates: "1" }, fromDay: "2027-01-01" });
    writeFileSync("p.json", '{"vcpu_ms": "0.2"}');
    const json = await server.run([
      "prices",
      "set",
      "acme-2027",
      "p.json",
      "--account",
      "acme",
      "--currency",
      "EUR",
      "--json",
    ]);
    expect(asked()).toEqual({ id: "acme-2027", prices: { vcpu_ms: "0.2" }, account: "acme", currency: "EUR" });
    expect(JSON.parse(json.out)).toEqual(LIST);
    writeFileSync("float.json", '{"vcpu_ms": 0.2}');
    const refused: [string[], string][] = [
      [["float.json"], "a number of JSON may not be exact"],
      [["none.json"], "ENOENT"],
      [["vcpu_ms=1", "vcpu_ms=2"], "twice"],
      [["vcpu_ms=1", "creates"], "METER=PRICE"],
    ];
    for (const [given, says] of refused) {
      const { code, err } = await server.run(["prices", "set", "l", ...given]);
      expect([given, code, err]).toEqual([given, 2, expect.stringContaining(says)]);
    }
    expect((await server.run(["prices", "lists"])).out).toContain("acme-2027  acme     vcpu_ms");
  });

  test("makes plans and gives them to accounts", async () => {
    const server = new BillingServer();
    const line = ["prices", "plan", "team", "--list", "default", "--minimum", "20", "--include", "egress_bytes=5"];
    expect((await server.run(line)).out).toBe("team\n");
    expect(server.asked.at(-1)).toEqual([
      "setPlan",
      { id: "team", list: "default", minimum: "20", included: { egress_bytes: "5" } },
    ]);
    expect((await server.run(["prices", "subscribe", "acme", "team", "--from-day", "2026-12-01"])).code).toBe(0);
    expect(server.asked.at(-1)).toEqual(["subscribe", { account: "acme", plan: "team", fromDay: "2026-12-01" }]);
  });
});

test("warren billing says where what is not there can be looked up", async () => {
  const server = new BillingServer();
  for (const [message, says] of [
    ["there is no invoice x", "\n  see `warren billing invoice`\n"],
    ["there is no list x", "\n  see `warren billing prices lists`\n"],
    ["there is no account x", "\n  see `warren accounts ls`\n"],
    ["there is no sandbox x", "\n  see `warren ls`\n"],
    ["there is no plan x", "warren: there is no plan x\n"],
  ] as const) {
    server.failing = { usage: new WarrenError("not_found", message) };
    const { code, err } = await server.run(["usage"]);
    expect([code, err]).toEqual([2, expect.stringContaining(says)]);
    expect(err.endsWith(says)).toBe(true);
  }
});

describe("warren billing, for operators", () => {
  test("reconcile ends with 1 when there are differences", async () => {
    const server = new BillingServer();
    expect(await server.run(["reconcile"])).toMatchObject({
      code: 0,
      out: "",
      err: "warren: 7 sandboxes, 0 differences\n",
    });
    server.differences = [
      {
        ...{ account: "acme", sandbox: "sb_1", meter: "vcpu_ms", against: "moves" },
        ...{ booked: "5", found: "6", says: "moved\x1b" },
      },
    ];
    const told = await server.run(["reconcile", "--from", "2026-11-01"]);
    expect(told).toMatchObject({ code: 1, out: expect.stringContaining("moves    5       6      moved\\x1b") });
    expect((await server.run(["reconcile", "--json"])).code).toBe(1);
  });

  test("settle and correct say what they did", async () => {
    const server = new BillingServer();
    expect((await server.run(["settle"])).out).toBe("1 cut, 20 charged, 3 days closed, 4 invoices issued\n");
    const line = ["correct", "7", "--quantity", "60000", "--reason", "counted twice"];
    expect((await server.run(line)).out).toBe("8 9\n");
    expect(server.asked.at(-1)).toEqual(["correct", { entry: "7", quantity: "60000", reason: "counted twice" }]);
  });

  test("sinks are listed, added with a token from a file or stdin, and removed", async () => {
    const server = new BillingServer();
    expect((await server.run(["sinks", "ls"])).out).toContain(
      "meter  openmeter  -        3        -           https://o.test/\n",
    );
    const add = ["sinks", "add", "s", "https://s.test", "--kind", "stripe", "--customer", "acme=cus_1", "--token-file"];
    expect((await server.run([...add, "-"], { stdin: "sk_1\n" })).code).toBe(0);
    expect(server.asked.at(-1)).toEqual([
      "createSink",
      { id: "s", kind: "stripe", url: "https://s.test", token: "sk_1", customers: { acme: "cus_1" } },
    ]);
    expect((await server.run([...add, "none"])).err).toContain("--token-file: none cannot be read");
    expect((await server.run(["sinks", "rm", "a", "b"])).out).toBe("a\nb\n");
  });
});

test("warren billing shows help with examples for each of its verbs", async () => {
  const verbs = ["usage", "report", "export", "invoice", "prices", "reconcile", "settle", "correct", "sinks"];
  for (const line of [[], ...verbs.map((verb) => [verb])]) {
    const { code, out } = await new BillingServer().run([...line, "--help"]);
    expect([line, code, out]).toEqual([line, 0, expect.stringContaining("Examples:\n  $ warren billing")]);
  }
});
