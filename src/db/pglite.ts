/** PostgreSQL inside this process, in a thread of its own, over one folder that no other process may open. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { WarrenError } from "../errors.ts";
import type { Driver, Statement } from "./driver.ts";
import { toldOf } from "./failure.ts";
import type { Answer, Ask } from "./pglite/messages.ts";

/** A first start makes the database: 4 s measured, twice that on a busy host. */
const OPEN_MS = 120_000;
const ANSWER_MS = 30_000;
const CLOSE_MS = 10_000;
/** Where `bun build --compile --root . … src/db/pglite/worker.ts` puts it. */
const COMPILED = "/$bunfs/root/src/db/pglite/worker.js";

const NOTE =
  "the database is embedded: it survives a crash of this process, but PGlite does not wait for the disk, so a power cut or a " +
  "crash of the host may lose or damage what it holds. Set DATABASE_URL to a PostgreSQL for data that must last";

interface Waiting {
  readonly resolve: (rows: unknown[][]) => void;
  readonly reject: (error: WarrenError) => void;
  readonly cancel: () => void;
}

/** @throws {WarrenError} `wrong_state` – another process has the folder open; `store_unavailable` */
export async function openPglite(folder: string, { clock }: { readonly clock: Clock }): Promise<Driver> {
  if (!existsSync(join(folder, "data"))) {
    // Making a database takes 900 MB for a moment, which a thread that goes on would keep.
    await (await begun(folder, clock, "make"))[Symbol.asyncDispose]();
    Bun.gc(true);
  }
  return begun(folder, clock, "open");
}

async function begun(folder: string, clock: Clock, kind: "make" | "open"): Promise<PgliteDriver> {
  const driver = new PgliteDriver(folder, clock);
  try {
    await driver.begin(kind);
  } catch (cause) {
    driver.end();
    throw cause;
  }
  return driver;
}

class PgliteDriver implements Driver {
  readonly kind = "pglite";
  readonly note = NOTE;
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #compiled: boolean;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #number = 0;
  /** Why nothing more is answered. */
  #ended: WarrenError | null = null;

  constructor(folder: string, clock: Clock) {
    this.#folder = folder;
    this.#clock = clock;
    this.#compiled = Bun.main.includes("/$bunfs/");
    this.#worker = new Worker(this.#compiled ? COMPILED : new URL("./pglite/worker.ts", import.meta.url).href);
    this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => this.#answered(data);
    this.#worker.onerror = (event) => this.#broke(event.message);
    this.#worker.addEventListener("close", () => this.#broke("its thread has ended"));
  }

  async begin(kind: "make" | "open"): Promise<void> {
    await this.#ask({ kind, folder: this.#folder, compiled: this.#compiled }, OPEN_MS);
  }

  query(statement: Statement): Promise<unknown[][]> {
    return this.#ask({ kind: "query", statement }, ANSWER_MS);
  }

  async script(text: string): Promise<void> {
    await this.#ask({ kind: "script", text }, OPEN_MS);
  }

  /** No other process has the folder, and this one is at its start. */
  async alone(job: (driver: Pick<Driver, "query" | "script">) => Promise<void>): Promise<void> {
    await job(this);
  }

  /** Nobody else can change anything. */
  async onKeysChanged(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended !== null) return;
    try {
      await this.#ask({ kind: "close" }, CLOSE_MS);
    } finally {
      this.end();
    }
  }

  end(): void {
    this.#broke("it was closed");
    this.#worker.terminate();
  }

  #ask(ask: Ask, deadlineMs: number): Promise<unknown[][]> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    this.#number += 1;
    const number = this.#number;
    return new Promise((resolve, reject) => {
      const late = () => {
        this.#waiting.delete(number);
        reject(toldOf({ code: "deadline", message: `no answer within ${deadlineMs} ms` }));
      };
      const cancel = this.#clock.after(deadlineMs, late, { background: true });
      this.#waiting.set(number, { resolve, reject, cancel });
      this.#worker.postMessage({ ...ask, number });
    });
  }

  #answered(answer: Answer): void {
    const waiting = this.#waiting.get(answer.number);
    if (waiting === undefined) return; // its deadline has passed
    this.#waiting.delete(answer.number);
    waiting.cancel();
    if (answer.kind === "rows") waiting.resolve(answer.rows);
    else if (answer.kind === "taken") waiting.reject(this.#taken());
    else waiting.reject(toldOf(answer));
  }

  #taken(): WarrenError {
    const says = `the database in ${this.#folder} is open in another process; stop that one, or choose another home`;
    return new WarrenError("wrong_state", says, { details: { folder: this.#folder } });
  }

  #broke(message: string): void {
    this.#ended ??= toldOf({ code: "ended", message });
    for (const { reject, cancel } of this.#waiting.values()) {
      cancel();
      reject(this.#ended);
    }
    this.#waiting.clear();
  }
}
