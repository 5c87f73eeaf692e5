/** Requests that are being answered: what a server that ends waits for, and then cuts off. */
import type { Clock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import type { UnderWay } from "../parts.ts";

export class Requests {
  readonly #open = new Map<object, AbortController>();
  #closing = false;
  #empty = Promise.withResolvers<void>();

  get closing(): boolean {
    return this.#closing;
  }

  get size(): number {
    return this.#open.size;
  }

  /** One more, and what ends it. `gone` aborts when its client is gone. */
  begin(gone: AbortSignal): { readonly under: UnderWay; readonly end: () => void } {
    const controller = new AbortController();
    const hold = () => {
      const token = {};
      this.#open.set(token, controller);
      return () => {
        if (this.#open.delete(token) && this.#open.size === 0) this.#empty.resolve();
      };
    };
    const left = () => controller.abort(new WarrenError("cancelled", "the client is gone"));
    if (gone.aborted) left();
    else gone.addEventListener("abort", left, { once: true });
    const abort = (why: unknown) => controller.abort(why);
    return { under: { signal: controller.signal, abort, hold }, end: hold() };
  }

  /** Refuses new ones, waits for those under way, and after `drainMs` aborts them. */
  async close(clock: Clock, drainMs: number): Promise<void> {
    this.#closing = true;
    if (this.#open.size === 0) return;
    const late = () => {
      for (const controller of [...this.#open.values()])
        controller.abort(new WarrenError("shutting_down", "the server is ending"));
      this.#empty.resolve();
    };
    const cancel = clock.after(drainMs, late);
    this.#empty = Promise.withResolvers<void>();
    await this.#empty.promise;
    cancel();
  }
}
