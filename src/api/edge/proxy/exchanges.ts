/** How many exchanges with the programs of each sandbox are under way: one visitor must not take them all from its maker. */
import { WarrenError } from "../../../errors.ts";
import { BOUNDS } from "../bounds.ts";

export class Exchanges {
  readonly #open = new Map<string, number>();

  readonly #opened: () => () => void;

  /** `opened` is told of each, and its result of the end. */
  constructor(opened: () => () => void = () => () => undefined) {
    this.#opened = opened;
  }

  /** The result ends it; twice is fine. @throws {WarrenError} `rate_limited` – there are too many */
  begin(account: string, sandbox: string): () => void {
    // Whoever names another's sandbox takes nothing from it.
    const key = `${account}\0${sandbox}`;
    const count = this.#open.get(key) ?? 0;
    if (count >= BOUNDS.exchangesPerSandbox) {
      const says = `sandbox ${sandbox} has ${count} connections through this server already, as many as it may`;
      throw new WarrenError("rate_limited", says, { details: { limit: BOUNDS.exchangesPerSandbox } });
    }
    this.#open.set(key, count + 1);
    const over = this.#opened();
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      over();
      const left = (this.#open.get(key) ?? 1) - 1;
      if (left === 0) this.#open.delete(key);
      else this.#open.set(key, left);
    };
  }
}
