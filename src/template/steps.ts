/** A bake's progress as a person reads it: numbered steps, and within a step what its parts are doing. */
import type { Clock } from "../base/clock.ts";
import type { BakeEvent } from "../contract/routes/templates.ts";

export class Steps {
  readonly #steps: number;
  readonly #clock: Clock;
  readonly #report: (event: BakeEvent) => void;
  readonly #startMs: number;
  #step = 0;

  constructor(steps: number, clock: Clock, report: (event: BakeEvent) => void) {
    this.#steps = steps;
    this.#clock = clock;
    this.#report = report;
    this.#startMs = clock.monotonicMs();
  }

  /** The next step begins. */
  next(says: string): void {
    this.#step = Math.min(this.#step + 1, this.#steps);
    this.say(says);
  }

  /** More of the step under way. */
  say(says: string): void {
    const elapsedMs = this.#clock.monotonicMs() - this.#startMs;
    this.#report({ step: Math.max(1, this.#step), steps: this.#steps, says, elapsedMs });
  }

  /** For one of several parts that run at once. */
  part(name: string): (says: string) => void {
    return (says) => this.say(`${name}: ${says}`);
  }
}
