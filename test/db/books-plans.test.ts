/** How PostgreSQL answers the reports over a table with statistics: by its indexes, and by hardly more than what they are about. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { SQL } from "drizzle-orm";
import { Database } from "../../src/db/database.ts";
import type { Driver } from "../../src/db/driver.ts";
import { migrate } from "../../src/db/migrate.ts";
import { openPostgres } from "../../src/db/postgres.ts";
import { measure } from "../bench/billing/measure.ts";
import { makeMonth } from "../bench/billing/month.ts";
import { dayOf, monthOf } from "../bench/billing/reports.ts";
import { gate } from "../harness/gates.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { parts } from "./world.ts";

const SLOW_MS = 240_000;
const MONTH = { intervals: 120_000, accounts: 100 };

interface Node {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Actual Rows": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Index Recheck"?: number;
  readonly Plans?: readonly Node[];
}

const nodesOf = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];

if (gate("postgres")) {
  describe("Plans on PostgreSQL", () => {
    let server: PrivatePostgres | null = null;
    let driver: Driver | null = null;
    let url = "";
    beforeAll(async () => {
      server = await PrivatePostgres.open();
      url = await server.database();
      driver = openPostgres(url, parts);
      await migrate(driver);
      await makeMonth(server, url, MONTH);
    }, SLOW_MS);
    afterAll(async () => {
      await driver?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
    }, SLOW_MS);

    /** Of a statement as the product sends it, parameters and all. */
    async function planOf(statement: SQL): Promise<Node[]> {
      if (driver === null) throw new Error("not open");
      const { query } = driver;
      const explained = new Database({
        query: ({ text, parameters }) =>
          query.call(driver, { text: `explain (analyze, format json) ${text}`, parameters }),
      });
      const [told] = JSON.parse(String(await explained.value(statement))) as [{ readonly Plan: Node }];
      return nodesOf(told.Plan);
    }

    test("an account's month is found by the index of accounts, and nothing of others is read", async () => {
      const nodes = await planOf(monthOf("acc-0007"));
      const read = nodes.filter((node) => node["Index Name"] === "intervals_account");
      expect(read).toHaveLength(1);
      expect(read[0]?.["Actual Rows"]).toBeGreaterThan(MONTH.intervals / MONTH.accounts / 2);
      expect(read[0]?.["Actual Rows"]).toBeLessThan((MONTH.intervals / MONTH.accounts) * 2);
      expect(nodes.some((node) => node["Node Type"] === "Seq Scan" && node["Relation Name"] === "intervals")).toBe(
        false,
      );
    });

    test("a day of all accounts is found by BRIN, and a small part of the rest is read", async () => {
      const nodes = await planOf(dayOf(12));
      expect(nodes.some((node) => node["Index Name"] === "intervals_when")).toBe(true);
      const heap = nodes.find((node) => node["Relation Name"] === "intervals");
      const readRows = (heap?.["Actual Rows"] ?? 0) + (heap?.["Rows Removed by Index Recheck"] ?? 0);
      expect(heap?.["Actual Rows"]).toBe(MONTH.intervals / 30);
      // Its ranges are of 128 pages, of which this table has some fifteen.
      expect(readRows).toBeLessThan(MONTH.intervals / 4);
    });

    test(
      "what is measured of ten million intervals runs on a small month, with exact sums",
      async () => {
        if (server === null) throw new Error("not open");
        const { exact, settled, rollups } = await measure(server, url, {
          accounts: MONTH.accounts,
          settle: 10_000,
          rounds: 1,
        });
        expect({ exact, intervals: settled.intervals }).toEqual({ exact: true, intervals: 10_000 });
        expect(rollups).toBe(MONTH.accounts * 30 * 2);
      },
      SLOW_MS,
    );
  });
}
