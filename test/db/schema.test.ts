/** Migrations: what they come to is `migrations/schema.sql` on both engines, they are part of the program, and servers that start together apply them once. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import type { Driver } from "../../src/db/driver.ts";
import { dumpSchema } from "../../src/db/dump.ts";
import { migrate } from "../../src/db/migrate.ts";
import { MIGRATIONS } from "../../src/db/migrations.ts";
import { openPglite } from "../../src/db/pglite.ts";
import { openPostgres } from "../../src/db/postgres.ts";
import { openStore } from "../../src/db/store.ts";
import { gate } from "../harness/gates.ts";
import { newDatabase } from "../harness/pglite.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import { codeOf } from "../suites/store/world.ts";
import { Folder, parts } from "./world.ts";

const ROOT = join(import.meta.dir, "../..");
const SUM = join(ROOT, "migrations/schema.sql");
const SLOW_MS = 120_000;

test("Migrations: the program has every file of the folder, in the journal's order", () => {
  const files = readdirSync(join(ROOT, "migrations")).filter((name) => /^\d{4}_\w+\.sql$/.test(name));
  expect(MIGRATIONS.map(({ tag }) => `${tag}.sql`)).toEqual(files.sort());
  expect(MIGRATIONS.every(({ madeMs }, i) => i === 0 || madeMs > (MIGRATIONS[i - 1]?.madeMs ?? 0))).toBe(true);
});

test("Migrations: the tables of src/db/schema ask for no other", async () => {
  using folder = new Folder();
  cpSync(join(ROOT, "migrations"), folder.path, { recursive: true });
  const options = ["--dialect=postgresql", "--schema=./src/db/schema", `--out=${relative(ROOT, folder.path)}`];
  const kit = Bun.spawn([process.execPath, join(ROOT, "node_modules/drizzle-kit/bin.cjs"), "generate", ...options], {
    ...{ cwd: ROOT, stdout: "pipe", stderr: "pipe" },
  });
  const said = await new Response(kit.stdout).text();
  expect(`${said}\n${await new Response(kit.stderr).text()}`).toContain("No schema changes");
}, 60_000);

describe("PGlite", () => {
  let driver: Driver | null = null;
  const folder = new Folder();
  beforeAll(async () => {
    await newDatabase(folder.path);
    driver = await openPglite(folder.path, parts);
  }, SLOW_MS);
  afterAll(async () => {
    await driver?.[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  test(
    "migrate comes to migrations/schema.sql, and does nothing the second time",
    async () => {
      if (driver === null) throw new Error("not open");
      expect(await migrate(driver)).toBe(MIGRATIONS.length);
      expect(await migrate(driver)).toBe(0);
      const sum = await dumpSchema(driver);
      if (process.env["RENEW"] === "schema") await Bun.write(SUM, sum);
      expect(sum).toBe(await Bun.file(SUM).text());
    },
    SLOW_MS,
  );

  test(
    "migrate applies all that is missing or nothing, and refuses a database of the future",
    async () => {
      if (driver === null) throw new Error("not open");
      const madeMs = (MIGRATIONS.at(-1)?.madeMs ?? 0) + 1;
      const good = { tag: "good", madeMs, text: "create table later (id text)" };
      const bad = { tag: "bad", madeMs: madeMs + 1, text: "create table accounts (id text)" };
      expect(await codeOf(migrate(driver, [...MIGRATIONS, good, bad]))).toBe("internal");
      expect(await dumpSchema(driver)).toBe(await Bun.file(SUM).text());
      expect(await migrate(driver, [...MIGRATIONS, good])).toBe(1);
      expect(await codeOf(migrate(driver))).toBe("wrong_state");
    },
    SLOW_MS,
  );
});

if (gate("postgres")) {
  describe("PostgreSQL", () => {
    let server: PrivatePostgres | null = null;
    beforeAll(async () => {
      server = await PrivatePostgres.open();
    }, SLOW_MS);
    afterAll(async () => {
      await server?.[Symbol.asyncDispose]();
    });

    test(
      "openStore by four servers at once on an empty database makes it once, and it comes to migrations/schema.sql",
      async () => {
        for (let round = 0; round < 3; round++) {
          const url = (await server?.database()) ?? "";
          const opened = await Promise.all(
            [1, 2, 3, 4].map((n) => openStore({ ...parts, url, dir: "/nonexistent", node: `node-${n}` })),
          );
          await Promise.all(opened.map((store) => store.ping()));
          await using driver = openPostgres(url, parts);
          expect(await dumpSchema(driver)).toBe(await Bun.file(SUM).text());
          const known = await driver.query({
            text: "select count(*) from drizzle.__drizzle_migrations",
            parameters: [],
          });
          expect(known).toEqual([[String(MIGRATIONS.length)]]);
          await Promise.all(opened.map((store) => store[Symbol.asyncDispose]()));
        }
      },
      SLOW_MS,
    );
  });
}
