/** Databases of the tests about the store: each engine, opened the way that a server opens it, with a way to look inside. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "../../src/api/store.ts";
import { systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import type { Driver } from "../../src/db/driver.ts";
import { migrate } from "../../src/db/migrate.ts";
import { openPglite } from "../../src/db/pglite.ts";
import { openPostgres } from "../../src/db/postgres.ts";
import { storeOver } from "../../src/db/store.ts";
import { NOTHING } from "../../src/meter/fold.ts";
import { gate } from "../harness/gates.ts";
import { newDatabase } from "../harness/pglite.ts";
import { PrivatePostgres } from "../harness/stores/postgres.ts";
import type { StoreForm } from "../suites/store.ts";

export const parts = { clock: systemClock, log: createLog("error"), node: "node-1" };

/** A folder that is removed at the end. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "warren-store-"));
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** What the database has of a sandbox's use: intervals, and what is open. */
export function meterOf(driver: Driver): NonNullable<StoreForm["meter"]> {
  const ask = (text: string, sandbox: string) => driver.query({ text, parameters: [sandbox] });
  return async (sandbox) => {
    const sums = await ask(
      "select meter, sum(quantity)::text from billing.intervals where subject = $1 group by meter",
      sandbox,
    );
    const open = await ask(
      "select meter, units, floor(extract(epoch from since) * 1000) from billing.open_time where subject = $1",
      sandbox,
    );
    const closed = Object.fromEntries(sums.map(([meter, quantity]) => [meter, BigInt(String(quantity))]));
    const charged = Object.fromEntries(open.map(([meter, units]) => [meter, Number(units)]));
    const since = open[0]?.[2];
    return {
      closed: { ...NOTHING, ...closed },
      open: since === undefined ? null : { sinceMs: BigInt(String(since)), charged },
    };
  };
}

/** Cases live in years of their own, which the database's clock would not believe. */
async function anyYear(driver: Driver): Promise<void> {
  await driver.script(
    "create or replace function billing.latest() returns timestamptz language sql stable as $$ select 'infinity'::timestamptz $$",
  );
}

export async function pgliteForm(folder: string) {
  const driver = await openPglite(folder, parts);
  await migrate(driver);
  await anyYear(driver);
  const store = await storeOver(driver, parts);
  return { driver, store, second: null, meter: meterOf(driver), close: () => store[Symbol.asyncDispose]() };
}

/** With a second server, of the same name: what it does is this host's too. */
export async function postgresForm(url: string) {
  const driver = openPostgres(url, parts);
  await migrate(driver);
  await anyYear(driver);
  const store = await storeOver(driver, parts);
  const second = await storeOver(openPostgres(url, parts), parts);
  const close = async () => {
    await second[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  };
  return { driver, store, second, meter: meterOf(driver), close };
}

export type DatabaseForm = Omit<Awaited<ReturnType<typeof pgliteForm>>, "second" | "close"> & {
  readonly second: Store | null;
  close(): Promise<void>;
};

/** A suite over each engine: a database of its own, new, closed with all that stands on it. PostgreSQL where there is one. */
export function onBothEngines(suite: (name: string, open: () => Promise<DatabaseForm>) => void): void {
  suite("PGlite", async () => {
    const folder = new Folder();
    await newDatabase(folder.path);
    const form = await pgliteForm(folder.path);
    const close = async () => {
      await form.close();
      folder[Symbol.dispose]();
    };
    return { ...form, close };
  });
  if (!gate("postgres")) return;
  suite("PostgreSQL", async () => {
    const server = await PrivatePostgres.open();
    const form = await postgresForm(await server.database());
    const close = async () => {
      await form.close();
      await server[Symbol.asyncDispose]();
    };
    return { ...form, close };
  });
}
