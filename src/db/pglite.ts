/**
 * PostgreSQL inside this process, in a thread of its own, over one folder that no other process may open. A thread that has
 * failed is ended, and the next statement begins another, which recovers what was answered.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { WarrenError } from "../errors.ts";
import type { Driver, Statement } from "./driver.ts";
import { toldOf } from "./failure.ts";
import { takeLock } from "./pglite/lock.ts";
import type { Ask } from "./pglite/messages.ts";
import { isCompiled, Thread } from "./pglite/thread.ts";

/** A first start makes the database: 4 s measured, three times that on a busy host. */
const OPEN_MS = 120_000;
const ANSWER_MS = 30_000;
const CLOSE_MS = 10_000;

const NOTE =
  "the database is embedded: it survives a crash of this process, but PGlite does not wait for the disk, so a power cut or a " +
  "crash of the host may lose or damage what it holds. Set DATABASE_URL to a PostgreSQL for data that must last";

/** @throws {WarrenError} `wrong_state` – another process has the folder open; `store_unavailable` */
export async function openPglite(folder: string, { clock }: { readonly clock: Clock }): Promise<Driver> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const unlock = takeLock(join(folder, "lock"));
  if (unlock === null) {
    const says = `the database in ${folder} is open in another process; stop that one, or choose another home`;
    throw new WarrenError("wrong_state", says, { details: { folder } });
  }
  const driver = new PgliteDriver(folder, clock, unlock);
  try {
    await driver.begin();
  } catch (cause) {
    await driver[Symbol.asyncDispose]();
    throw cause;
  }
  return driver;
}

class PgliteDriver implements Driver {
  readonly kind = "pglite";
  readonly note = NOTE;
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #unlock: () => void;
  #thread: Promise<Thread> | null = null;
  #stuck: unknown = null;
  #closed = false;

  constructor(folder: string, clock: Clock, unlock: () => void) {
    this.#folder = folder;
    this.#clock = clock;
    this.#unlock = unlock;
  }

  async begin(): Promise<void> {
    if (!existsSync(join(this.#folder, "data"))) {
      // Making a database takes 900 MB for a moment, which a thread that goes on would keep.
      await this.#end(await this.#start("make"));
      Bun.gc(true);
    }
    await this.#open();
  }

  query(statement: Statement): Promise<unknown[][]> {
    return this.#ask({ kind: "query", statement }, ANSWER_MS);
  }

  async script(text: string): Promise<void> {
    await this.#ask({ kind: "script", text }, OPEN_MS);
  }

  /** One by one: what is asked meanwhile waits for one table, not for all. */
  async tidy(tables: readonly string[]): Promise<void> {
    for (const table of tables) await this.script(`vacuum (analyze) ${table}`);
  }

  /** No other process has the folder, and this one is at its start. */
  async alone(job: (driver: Pick<Driver, "query" | "script">) => Promise<void>): Promise<void> {
    await job(this);
  }

  /** Nobody else can change anything. */
  async onKeysChanged(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const thread = await this.#thread?.catch(() => null); // it has not begun, so that there is nothing to close
    try {
      if (thread != null && !thread.isOver) await thread.ask({ kind: "close" }, CLOSE_MS);
    } finally {
      await thread?.end();
      this.#unlock();
    }
  }

  async #ask(ask: Ask, deadlineMs: number): Promise<unknown[][]> {
    if (this.#closed) throw toldOf({ code: "ended", message: "it was closed" });
    return (await this.#open()).ask(ask, deadlineMs);
  }

  /** The thread that there is, or another one after it. */
  async #open(): Promise<Thread> {
    const had = this.#thread;
    const thread = (await had?.catch(() => null)) ?? null; // what did not begin is begun again
    if (thread !== null && !thread.isOver) return thread;
    // Of those that have seen it end, the first begins the next.
    const next = this.#thread === had || this.#thread === null ? this.#after(thread) : this.#thread;
    this.#thread = next;
    return next;
  }

  async #after(before: Thread | null): Promise<Thread> {
    if (before !== null) await this.#end(before);
    return this.#start("open");
  }

  async #start(kind: "make" | "open"): Promise<Thread> {
    if (this.#stuck !== null) throw this.#stuck;
    const thread = new Thread(this.#clock);
    try {
      await thread.ask({ kind, folder: this.#folder, compiled: isCompiled() }, OPEN_MS);
    } catch (cause) {
      await this.#end(thread);
      throw cause;
    }
    return thread;
  }

  /** Two threads on the same files would damage them: after one that does not end there is no other. */
  async #end(thread: Thread): Promise<void> {
    try {
      await thread.end();
    } catch (cause) {
      this.#stuck = cause;
      throw cause;
    }
  }
}
