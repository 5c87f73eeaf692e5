/** Tapes of all sandboxes: made when something is printed or read, kept a while after their sandbox's end, bounded together. */
import type { Clock } from "../../../base/clock.ts";
import { BOUNDS } from "../bounds.ts";
import { type Channel, type Source, Tape } from "./tape.ts";

interface Held {
  readonly tape: Tape;
  /** Bytes of each background command that were recorded: of several that attach, each byte is written down once. */
  readonly attached: Map<number, number>;
}

export class Tapes {
  /** The one that was silent longest comes first. */
  readonly #held = new Map<string, Held>();
  readonly #clock: Clock;
  #cost = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#held.size;
  }

  get cost(): number {
    return this.#cost;
  }

  /** Null when nothing is kept of it. */
  find(account: string, sandbox: string): Tape | null {
    return this.#held.get(keyOf(account, sandbox))?.tape ?? null;
  }

  open(account: string, sandbox: string): Tape {
    return this.#open(keyOf(account, sandbox)).tape;
  }

  #open(key: string): Held {
    const known = this.#held.get(key);
    if (known !== undefined) return known;
    const held = { tape: new Tape(), attached: new Map() };
    this.#held.set(key, held);
    return held;
  }

  /** Somebody who writes down what one command says. */
  recorder(account: string, sandbox: string): Recorder {
    return new Recorder((job) => {
      const key = keyOf(account, sandbox);
      const held = this.#open(key);
      const before = held.tape.cost;
      job(held);
      this.#held.delete(key);
      this.#held.set(key, held);
      this.#cost += held.tape.cost - before;
      while (this.#cost > BOUNDS.tapesBytes) this.#forgetOldest();
    });
  }

  /** The sandbox has ended. */
  finish(account: string, sandbox: string): void {
    const key = keyOf(account, sandbox);
    const held = this.#held.get(key);
    if (held === undefined) return;
    held.tape.finish();
    const forget = (): void => {
      if (this.#held.get(key) === held) this.#forget(key, held);
    };
    this.#clock.after(BOUNDS.tapeKeepMs, forget, { background: true });
  }

  #forgetOldest(): void {
    const [oldest] = this.#held;
    if (oldest !== undefined) this.#forget(...oldest);
  }

  #forget(key: string, held: Held): void {
    this.#held.delete(key);
    this.#cost -= held.tape.cost;
    held.tape.finish();
  }
}

function keyOf(account: string, sandbox: string): string {
  return `${account}\0${sandbox}`;
}

/** Both streams of one command. */
export class Recorder {
  readonly #write: (job: (held: Held) => void) => void;
  #sources: { readonly tape: Tape; readonly of: Record<Channel, Source> } | null = null;
  /** Of the command's output, gaps included: how far this one is. */
  #at = 0;

  constructor(write: (job: (held: Held) => void) => void) {
    this.#write = write;
  }

  take(channel: Channel, bytes: Uint8Array): void {
    this.#write(({ tape }) => tape.append(this.#source(tape, channel), bytes));
  }

  /** The same of a background command that others may be attached to. */
  takeOf(process: number, channel: Channel, bytes: Uint8Array): void {
    this.#write(({ tape, attached }) => {
      const known = attached.get(process) ?? 0;
      const fresh = bytes.subarray(Math.min(bytes.length, Math.max(0, known - this.#at)));
      this.#at += bytes.length;
      attached.set(process, Math.max(known, this.#at));
      tape.append(this.#source(tape, channel), fresh);
    });
  }

  skip(bytes: number): void {
    this.#at += bytes;
  }

  end(): void {
    const sources = this.#sources;
    if (sources === null) return;
    this.#write(({ tape }) => {
      if (tape !== sources.tape) return;
      tape.end(sources.of.stdout);
      tape.end(sources.of.stderr);
    });
  }

  #source(tape: Tape, channel: Channel): Source {
    // Its tape may have been forgotten, and another one begun.
    if (this.#sources?.tape !== tape) {
      this.#sources = { tape, of: { stdout: tape.source("stdout"), stderr: tape.source("stderr") } };
    }
    return this.#sources.of[channel];
  }
}
