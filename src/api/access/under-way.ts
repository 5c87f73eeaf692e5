/** Requests that are being answered: what a server that ends waits for, and then cuts off. */
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import type { UnderWay } from "../parts.ts";

export class Requests {
  readonly #open = new Map<object, AbortController>();
  readonly #opened: (kind: string) => () => void;
  #closing = false;
  #empty = Promise.withResolvers<void>();

  /** `opened` is told of what goes on after its handler, and its result of the end. */
  constructor(opened: (kind: string) => () => void = () => () => undefined) {
    this.#opened = opened;
  }

  get closing(): boolean {
    return this.#closing;
  }

  get size(): number {
    return this.#open.size;
  }

  /** One more, and what ends it. `gone` aborts when its client is gone. */
  begin(gone: AbortSignal): { readonly under: UnderWay; readonly end: () => void } {
    const ending = new AbortController();
    const keep = () => {
      const token = {};
      this.#open.set(token, ending);
      return () => {
        if (this.#open.delete(token) && this.#open.size === 0) this.#empty.resolve();
      };
    };
    const hold = (kind?: string) => {
      const [release, closed] = [keep(), kind === undefined ? () => undefined : this.#opened(kind)];
      return () => {
        closed();
        release();
      };
    };
    const left = () => ending.abort(new WarrenError("cancelled", "the client is gone"));
    if (gone.aborted) left();
    else gone.addEventListener("abort", left, { once: true });
    const abort = (why: unknown) => ending.abort(why);
    return { under: { signal: ending.signal, abort, hold }, end: keep() };
  }

  /** Refuses new ones, waits for those under way, and after `drainMs` aborts them. */
  async close(clock: Clock, drainMs: number): Promise<void> {
    this.#closing = true;
    if (this.#open.size === 0) return;
    const late = () => {
      for (const ending of [...this.#open.values()])
        ending.abort(new WarrenError("shutting_down", "the server is ending"));
      this.#empty.resolve();
    };
    const cancel = clock.after(drainMs, late);
    this.#empty = Promise.withResolvers<void>();
    await this.#empty.promise;
    cancel();
  }
}
