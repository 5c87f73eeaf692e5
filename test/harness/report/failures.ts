/**
 * The failed tests of a group, gathered from what `bun test` writes as it writes it, each with the end of what came before
 * its line (its error, as a rule). Bounded: a group that fails all over, or that floods its output, costs a known amount.
 */

const EXCERPT_LINES = 40;
const LINE_CHARS = 400;
/** Failures of one group that are told with what came before them; of further ones the name. */
const WITH_EXCERPT = 30;

const COLOURS = /\u001b\[[0-9;]*m/g;
/** As the runner marks a result without colours, and with them. */
const RESULT = /^(?:\((?:pass|fail|skip|todo)\)|[✓✗»✎]) /;
const FAILED = /^(?:\(fail\)|✗) (.*)/;
/** From here on a long run repeats its results. */
const AGAIN = /^\d+ tests? (?:failed|skipped|todo):$/;
const BETWEEN = "# Unhandled error between tests";

interface Failure {
  readonly name: string;
  /** The file's heading, when it was seen. */
  readonly file: string;
  readonly excerpt: string[];
}

export class Failures {
  readonly #failed: Failure[] = [];
  #file = "";
  #partial = "";
  /** Since the last result, at most as many as an excerpt has. */
  #lines: string[] = [];
  /** Rules still to come of an error that belongs to no test. */
  #rules = 0;
  #again = false;

  /** What the runner has written next, cut anywhere. */
  push(text: string): void {
    const lines = (this.#partial + text).split("\n");
    this.#partial = (lines.pop() ?? "").slice(0, 64 * LINE_CHARS);
    for (const line of lines) this.#line(line.replace(COLOURS, "").trimEnd().slice(0, LINE_CHARS));
  }

  /** The group ended in another way than by failed tests: what it wrote last is all there is to see. */
  ended(how: string): void {
    this.#add(how);
  }

  /** One line for each, in order, and below it, when asked for, what came before it; empty when nothing failed. */
  report(group: string, excerpts: boolean): string {
    return this.#failed
      .map(({ name, file, excerpt }) => {
        const head = `(fail) ${[group, file, name].filter((part) => part !== "").join(": ")}\n`;
        return excerpts ? head + excerpt.map((line) => `    ${line}\n`).join("") : head;
      })
      .join("");
  }

  #line(line: string): void {
    this.#again ||= AGAIN.test(line);
    if (this.#again) return;
    if (/^\S+\.test\.ts:$/.test(line)) {
      this.#file = line.slice(0, -1);
      this.#lines = [];
    } else if (this.#rules > 0 && /^-+$/.test(line)) {
      this.#rules--;
      if (this.#rules === 0) this.#add("an error outside of any test");
    } else if (line === BETWEEN) {
      this.#rules = 2;
    } else if (RESULT.test(line)) {
      const name = FAILED.exec(line)?.[1];
      if (name === undefined) this.#lines = [];
      else this.#add(name);
    } else if (line.startsWith("  ^ ") && this.#lines.length === 0) {
      this.#failed.at(-1)?.excerpt.push(line); // the runner's own remark on the failure above
    } else {
      this.#lines.push(line);
      if (this.#lines.length > EXCERPT_LINES) this.#lines.shift();
    }
  }

  #add(name: string): void {
    const excerpt = this.#failed.length < WITH_EXCERPT ? this.#lines.filter((line) => line !== "") : [];
    this.#failed.push({ name, file: this.#file, excerpt });
    this.#lines = [];
  }
}
