/** Whether a server can do its work, and why not: put together from what its pieces say of themselves. */
import type { Health } from "../api/parts.ts";

export class HealthBoard {
  #baking: Health["baking"] | undefined;
  #baked = false;
  #draining = false;
  /** Of what is wrong: about whom → what. Not ready while there is one. */
  readonly #troubles = new Map<string, string>();
  /** What works with a reservation. */
  readonly #notes = new Map<string, string>();

  get(): Health {
    const reasons = [
      ...(this.#draining ? ["it is shutting down"] : []),
      ...(this.#baked ? [] : ["templates are being looked at, and baked where they are missing"]),
      ...this.#troubles.values(),
      ...this.#notes.values(),
    ];
    const ready = this.#baked && !this.#draining && this.#troubles.size === 0;
    return { ready, reasons, ...(this.#baking === undefined ? {} : { baking: this.#baking }) };
  }

  baking(step: NonNullable<Health["baking"]>): void {
    this.#baking = step;
  }

  baked(): void {
    this.#baking = undefined;
    this.#baked = true;
  }

  draining(): void {
    this.#draining = true;
  }

  /** Null: all is well with it again. */
  trouble(about: string, says: string | null): void {
    if (says === null) this.#troubles.delete(about);
    else this.#troubles.set(about, says);
  }

  /** Null: without it again. */
  note(about: string, says: string | null): void {
    if (says === null) this.#notes.delete(about);
    else this.#notes.set(about, says);
  }
}
