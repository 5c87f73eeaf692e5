/**
 * What a server remembers, in PostgreSQL: one reached by its URL, or one embedded in this process. The same statements, the
 * same schema, the same migrations.
 */
import { sql } from "drizzle-orm";
import type { Store } from "../api/store.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { accountCalls } from "./calls/accounts.ts";
import { auditCalls } from "./calls/audit.ts";
import { bookCalls } from "./calls/books.ts";
import { keyCalls } from "./calls/keys.ts";
import { moveCalls } from "./calls/moves.ts";
import { portCalls } from "./calls/ports.ts";
import { priceCalls } from "./calls/prices.ts";
import { reportCalls } from "./calls/reports.ts";
import { sandboxCalls } from "./calls/sandboxes.ts";
import { sinkCalls } from "./calls/sinks.ts";
import { webhookCalls } from "./calls/webhooks.ts";
import { Database } from "./database.ts";
import type { Driver } from "./driver.ts";
import { migrate } from "./migrate.ts";

export interface StoreParts {
  /** `postgres://…`; null: embedded, in `dir`. */
  readonly url: string | null;
  /** A folder of this store's own; made when it is missing. */
  readonly dir: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Name of this host: sandboxes are some host's. */
  readonly node: string;
}

/**
 * Opens the database and brings it up to date.
 * @throws {WarrenError} `store_unavailable` – it cannot be reached; `wrong_state` – another process has the embedded one open,
 *   or a newer Warren has changed it; `invalid_request` – the URL is none of PostgreSQL's
 */
export async function openStore(parts: StoreParts): Promise<Store> {
  const driver = await openDriver(parts);
  try {
    const startMs = parts.clock.monotonicMs();
    const applied = await migrate(driver);
    if (applied > 0)
      parts.log.info("the database was brought up to date", { applied, ms: parts.clock.monotonicMs() - startMs });
    return await storeOver(driver, parts);
  } catch (cause) {
    await driver[Symbol.asyncDispose]();
    throw cause;
  }
}

/** Loaded when it is needed: whoever uses one kind has nothing of the other's in memory. */
async function openDriver({ url, dir, clock, log }: StoreParts): Promise<Driver> {
  if (url === null) return (await import("./pglite.ts")).openPglite(dir, { clock });
  return (await import("./postgres.ts")).openPostgres(url, { clock, log });
}

/** The store over a database that is up to date. */
export async function storeOver(
  driver: Driver,
  { clock, log, node }: Pick<StoreParts, "clock" | "log" | "node">,
): Promise<Store> {
  const db = new Database(driver);
  const listeners = new Set<() => void>();
  const changed = () => {
    for (const listener of [...listeners]) listener();
  };
  await driver.onKeysChanged(changed);
  return {
    kind: driver.kind,
    note: driver.note,
    async ping() {
      await db.value(sql`select 1`);
    },
    onKeysChanged(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    ...accountCalls(db, changed),
    ...keyCalls(db, clock, changed),
    ...sandboxCalls(db, node),
    ...portCalls(db),
    ...moveCalls({ db, log, node }),
    ...auditCalls(db, (tables) => driver.tidy(tables)),
    ...webhookCalls(db),
    ...priceCalls(db),
    ...bookCalls(db),
    ...reportCalls(db, clock),
    ...sinkCalls(db),
    async [Symbol.asyncDispose]() {
      listeners.clear();
      await driver[Symbol.asyncDispose]();
    },
  };
}
