/**
 * Brings a database up to date: every migration that it does not have, all in one transaction, by one server at a time. Keeps
 * the same record as drizzle's own migrator, whose tools can be used beside it.
 */
import { createHash } from "node:crypto";
import { WarrenError } from "../errors.ts";
import type { Driver } from "./driver.ts";
import { MIGRATIONS, type Migration } from "./migrations.ts";

const RECORD = `create schema if not exists drizzle;
  create table if not exists drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint)`;

/**
 * How many were applied.
 * @throws {WarrenError} `store_unavailable`; `wrong_state` – a newer Warren has been at this database
 */
export async function migrate(driver: Driver, migrations: readonly Migration[] = MIGRATIONS): Promise<number> {
  let applied = 0;
  await driver.alone(async (one) => {
    await one.script(RECORD);
    const last = "select max(created_at) from drizzle.__drizzle_migrations";
    const rows = await one.query({ text: last, parameters: [] });
    const lastMs = Number(rows[0]?.[0] ?? 0);
    if (lastMs > (migrations.at(-1)?.madeMs ?? 0)) {
      throw new WarrenError(
        "wrong_state",
        "this database was brought up to date by a newer version of Warren; run that one",
      );
    }
    const missing = migrations.filter(({ madeMs }) => madeMs > lastMs);
    if (missing.length > 0) await one.script(missing.map(step).join(";\n"));
    applied = missing.length;
  });
  return applied;
}

/** With the row that records it; a hash and a number need no quoting. */
function step({ text, madeMs }: Migration): string {
  const hash = createHash("sha256").update(text).digest("hex");
  return `${text};\ninsert into drizzle.__drizzle_migrations (hash, created_at) values ('${hash}', ${madeMs})`;
}
