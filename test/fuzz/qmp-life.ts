/**
 * One life of a monitor connection: commands and waits begin between chunks, deadlines pass, the monitor hangs up or is closed.
 * Each wait has to end as the messages say: by the first that is meant for it, else by a typed error.
 */
import type { Clock } from "../../src/base/clock.ts";
import type { Link } from "../../src/driver/driver.ts";
import type { Qmp, QmpMessage } from "../../src/driver/qemu/qmp.ts";
import { isWarrenError } from "../../src/errors.ts";
import { EVENTS, shown } from "./qmp-lines.ts";
import type { Random } from "./random.ts";

/** A message and the end of its line, newline included. */
export interface Heard {
  readonly message: QmpMessage;
  readonly end: number;
}

export type Monitor = (link: Link, clock: Clock) => Pick<Qmp, "ready" | "command" | "event" | "close">;

/** Something that is waited for. */
interface Wait {
  readonly what: string;
  /** Bytes that had come when it began, and when its deadline passed. */
  readonly from: number;
  until: number;
  readonly meant: (message: QmpMessage) => boolean;
  outcome: { readonly value: unknown } | { readonly error: unknown } | null;
}

/** Promise jobs that one chunk may take to go all the way; far more than it does. */
const JOBS_PER_CHUNK = 30;

class Life {
  readonly waits: Wait[] = [];
  #at = 0;
  /** Nothing begins any more. */
  #silent = false;
  #commands = 0;
  #timers: (() => void)[] = [];
  readonly #closed = Promise.withResolvers<void>();
  readonly #monitor: ReturnType<Monitor>;
  readonly #random: Random;
  /** What writes come to: a monitor that takes no more bytes is one more way to end. */
  #writeFails = false;

  constructor(bytes: Uint8Array, ends: readonly number[], random: Random, monitor: Monitor) {
    this.#random = random;
    const clock: Clock = {
      monotonicMs: () => 0,
      wallMs: () => 0,
      sleep: () => Promise.reject(new Error("not used")),
      after: (_, job) => {
        this.#timers.push(job);
        return () => undefined;
      },
    };
    const link: Link = {
      write: () => (this.#writeFails ? Promise.reject(new Error("closed")) : Promise.resolve()),
      bytes: this.#chunks(bytes, ends),
      close: () => this.#closed.resolve(),
    };
    this.#monitor = monitor(link, clock);
    this.#wait("greeting", this.#monitor.ready(), ({ kind }) => kind === "greeting");
  }

  /** Its end: the monitor hangs up, is closed, fails to take a write, or falls silent past every deadline. */
  async *#chunks(bytes: Uint8Array, ends: readonly number[]): AsyncGenerator<Uint8Array> {
    await null; // it is asked for its first chunk while the monitor is still being made
    try {
      for (const end of ends) {
        if (this.#random.once(Math.ceil(ends.length / 4))) this.#begin();
        if (this.#random.once(20 * ends.length)) this.#expire();
        const from = this.#at;
        this.#at = end;
        yield bytes.slice(from, end);
      }
      this.#begin();
      this.#end();
    } finally {
      this.#silent = true;
    }
    await this.#closed.promise;
  }

  #end(): void {
    switch (this.#random.below(4)) {
      case 0:
        this.#closed.resolve();
        break;
      case 1:
        this.#monitor.close();
        break;
      case 2:
        this.#writeFails = true;
        this.#begin("command");
        break;
      default:
        this.#expire();
    }
  }

  #begin(what: "command" | "event" = this.#random.once(4) ? "event" : "command"): void {
    if (what === "event") {
      const name = this.#random.pick(EVENTS);
      this.#wait(name, this.#monitor.event(name, 1000), (message) => message.kind === "event" && message.name === name);
      return;
    }
    const id = ++this.#commands;
    this.#wait(
      `command ${id}`,
      this.#monitor.command("query-status"),
      (message) => "id" in message && message.id === id,
    );
  }

  #wait(what: string, ending: Promise<unknown>, meant: Wait["meant"]): void {
    const wait: Wait = { what, from: this.#at, until: Number.POSITIVE_INFINITY, meant, outcome: null };
    this.waits.push(wait);
    ending.then(
      (value) => {
        wait.outcome = { value };
      },
      (error: unknown) => {
        wait.outcome = { error };
      },
    );
  }

  /** Every deadline there is passes. */
  #expire(): void {
    for (const wait of this.waits) wait.until = Math.min(wait.until, this.#at);
    for (const job of this.#timers.splice(0)) job();
  }

  /** Lets the promises run until all that waits has ended, or should have. */
  async toItsEnd(chunks: number): Promise<void> {
    const pending = (): Wait | undefined => this.waits.find(({ outcome }) => outcome === null);
    const ended = (): boolean => this.#silent && pending() === undefined;
    for (let jobs = JOBS_PER_CHUNK * (chunks + 10); jobs > 0 && !(jobs % 10 === 0 && ended()); jobs--) await null;
    const left = pending();
    if (left !== undefined) throw new Error(`${left.what} never ends`);
    this.#monitor.close();
    const asked = this.waits.length;
    this.#begin("command");
    for (let jobs = JOBS_PER_CHUNK; jobs > 0; jobs--) await null;
    if (!("error" in (this.waits[asked]?.outcome ?? {}))) throw new Error("a closed monitor takes commands");
  }
}

function check({ what, from, until, meant, outcome }: Wait, heard: readonly Heard[]): boolean {
  const answer = heard.find(({ message, end }) => end > from && end <= until && meant(message))?.message;
  if (outcome !== null && "value" in outcome) {
    if (answer === undefined || answer.kind === "error") throw new Error(`${what} has an answer that nobody gave`);
    if (answer.kind === "return" && shown(outcome.value) !== shown(answer.value))
      throw new Error(`${what} has another's answer`);
    return true;
  }
  const error = outcome?.error;
  if (!isWarrenError(error, "driver_failed")) throw new Error(`${what} ended with ${String(error)}`);
  if (answer === undefined) return false;
  if (answer.kind !== "error" || error.message !== `the VMM refused: ${answer.says}`)
    throw new Error(`${what} was answered and still failed: ${error.message}`);
  return false;
}

/** Plays the bytes to a monitor connection. @throws {Error} what did not end as it should. */
export async function live(
  bytes: Uint8Array,
  ends: readonly number[],
  heard: readonly Heard[],
  random: Random,
  monitor: Monitor,
): Promise<{ answered: number; failed: number }> {
  const life = new Life(bytes, ends, random, monitor);
  await life.toItsEnd(ends.length);
  const answered = life.waits.filter((wait) => check(wait, heard)).length;
  return { answered, failed: life.waits.length - answered };
}
