/** Who changed what, written behind the answers: rows wait for the database, and when too many do the oldest are dropped, loudly. */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { AuditEntry } from "../../contract/routes/api/accounts.ts";
import { BOUNDS } from "../bounds.ts";
import type { Store } from "../store.ts";

export class Audit implements AsyncDisposable {
  readonly #store: Pick<Store, "audit">;
  readonly #clock: Clock;
  readonly #log: Log;
  #waiting: AuditEntry[] = [];
  #cancelFlush: (() => void) | null = null;
  #writing: Promise<void> | null = null;
  #closed = false;

  constructor(store: Pick<Store, "audit">, clock: Clock, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  add(entry: AuditEntry): void {
    this.#waiting.push(entry);
    const over = this.#waiting.length - BOUNDS.behindRows;
    if (over > 0) {
      this.#waiting.splice(0, over);
      this.#log.error("rows of the audit were dropped: the database takes none", { rows: over });
    }
    this.#later();
  }

  /** Writes what waits; true when nothing does any more. */
  async flush(): Promise<boolean> {
    this.#cancelFlush?.();
    this.#cancelFlush = null;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
    await this.#writing;
    return this.#waiting.length === 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    if (!(await this.flush())) this.#log.error("rows of the audit were not written", { rows: this.#waiting.length });
  }

  #later(): void {
    if (this.#closed) return;
    this.#cancelFlush ??= this.#clock.after(BOUNDS.behindMs, () => void this.flush(), { background: true });
  }

  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, BOUNDS.behindBatch);
      try {
        await this.#store.audit(batch);
      } catch (cause) {
        this.#log.warn("the audit waits for the database", { rows: this.#waiting.length, why: String(cause) });
        this.#later();
        return;
      }
      const written = new Set(batch); // the oldest may have been dropped meanwhile
      this.#waiting = this.#waiting.filter((row) => !written.has(row));
    }
  }
}
