/** One thread with the embedded database: asked and answered by number, with deadlines; over when it has ended. */
import type { Clock } from "../../base/clock.ts";
import type { WarrenError } from "../../errors.ts";
import { toldOf } from "../failure.ts";
import type { Answer, Ask } from "./messages.ts";

/** Where `bun build --compile --root . … src/db/pglite/worker.ts` puts it. */
const COMPILED = "/$bunfs/root/src/db/pglite/worker.js";
/** A thread that does not end holds files that another one must not open. */
const END_MS = 5_000;

interface Waiting {
  readonly resolve: (rows: unknown[][]) => void;
  readonly reject: (error: WarrenError) => void;
  readonly cancel: () => void;
}

export class Thread {
  readonly #clock: Clock;
  readonly #worker: Worker;
  readonly #closed: Promise<void>;
  readonly #waiting = new Map<number, Waiting>();
  #number = 0;
  /** Why nothing more is answered. */
  #ended: WarrenError | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#worker = new Worker(isCompiled() ? COMPILED : new URL("./worker.ts", import.meta.url).href);
    this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => this.#answered(data);
    this.#worker.onerror = (event) => this.#over(event.message);
    this.#closed = new Promise((resolve) => {
      this.#worker.addEventListener("close", () => {
        this.#over("its thread has ended");
        resolve();
      });
    });
  }

  get isOver(): boolean {
    return this.#ended !== null;
  }

  /**
   * Rows of a `query`, none of others.
   * @throws {WarrenError} `store_unavailable`, `internal`
   */
  ask(ask: Ask, deadlineMs: number): Promise<unknown[][]> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    this.#number += 1;
    const number = this.#number;
    return new Promise((resolve, reject) => {
      // It answers in order: what is late stands in front of all that follows.
      const late = () => this.#over(`no answer within ${deadlineMs} ms`);
      const cancel = this.#clock.after(deadlineMs, late, { background: true });
      this.#waiting.set(number, { resolve, reject, cancel });
      this.#worker.postMessage({ ...ask, number });
    });
  }

  /** Resolves when it is gone. @throws {WarrenError} `store_unavailable` – it does not end */
  async end(): Promise<void> {
    this.#over("it was closed");
    this.#worker.terminate();
    await new Promise<void>((resolve, reject) => {
      const late = () => reject(toldOf({ code: "ended", message: "the embedded database's thread does not end" }));
      const cancel = this.#clock.after(END_MS, late, { background: true });
      void this.#closed.then(() => {
        cancel();
        resolve();
      });
    });
  }

  #answered(answer: Answer): void {
    const waiting = this.#waiting.get(answer.number);
    if (waiting === undefined) return; // its thread was given up
    this.#waiting.delete(answer.number);
    waiting.cancel();
    if (answer.kind === "rows") waiting.resolve(answer.rows);
    else waiting.reject(toldOf(answer));
    // A failure without SQLSTATE is none of a statement's: the database itself has stopped in the middle of it.
    if (answer.kind === "failed" && !/^[0-9A-Z]{5}$/.test(answer.code)) this.#over(`it has failed: ${answer.message}`);
  }

  #over(message: string): void {
    this.#ended ??= toldOf({ code: "ended", message });
    for (const { reject, cancel } of this.#waiting.values()) {
      cancel();
      reject(this.#ended);
    }
    this.#waiting.clear();
  }
}

export function isCompiled(): boolean {
  return Bun.main.includes("/$bunfs/");
}
