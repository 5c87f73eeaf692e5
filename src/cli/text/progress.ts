/**
 * Keeps a person informed: on a terminal one line that is drawn again and again, elsewhere a plain line when nothing was
 * said for two seconds. Permanent lines pass through here, so that they do not collide with the drawn one.
 */
import { LIMITS } from "../../limits.ts";
import type { Io, Sink } from "../ground/io.ts";
import { clip } from "./format.ts";

const DRAW_MS = 200;
const CLEAR = "\r\x1b[K";

export class Progress implements AsyncDisposable {
  readonly #io: Io;
  readonly #status: () => string;
  readonly #isBar: boolean;
  #saidMs: number;
  #drawn = false;
  #cancel: () => void = () => undefined;
  #writing: Promise<void> = Promise.resolve();

  /** `status` is asked for the line when it is needed; it holds only escaped text. */
  constructor(io: Io, status: () => string) {
    this.#io = io;
    this.#status = status;
    this.#isBar = io.err.isTty;
    this.#saidMs = io.clock.monotonicMs();
    this.#again();
  }

  /** A line that stays, on stdout. */
  line(text: string): Promise<void> {
    return this.#say(this.#io.out, text);
  }

  /** A line that stays, on stderr. */
  note(text: string): Promise<void> {
    return this.#say(this.#io.err, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancel();
    await this.#do(() => this.#wipe());
  }

  #say(sink: Sink, text: string): Promise<void> {
    this.#saidMs = this.#io.clock.monotonicMs();
    return this.#do(async () => {
      await this.#wipe();
      await sink.write(`${text}\n`);
    });
  }

  /** Writes follow each other, whichever stream they go to. */
  #do(job: () => Promise<void>): Promise<void> {
    this.#writing = this.#writing.then(job);
    return this.#writing;
  }

  async #wipe(): Promise<void> {
    if (!this.#drawn) return;
    this.#drawn = false;
    await this.#io.err.write(CLEAR);
  }

  #again(): void {
    this.#cancel = this.#io.clock.after(this.#isBar ? DRAW_MS : LIMITS.progressMs / 4, () => {
      this.#tell();
      this.#again();
    });
  }

  #tell(): void {
    if (this.#isBar) {
      void this.#do(async () => {
        this.#drawn = true;
        await this.#io.err.write(CLEAR + clip(this.#status(), Math.max(20, this.#io.err.columns - 1)));
      });
      return;
    }
    // The next look is half a second away: what is due by then is due now.
    const silentMs = this.#io.clock.monotonicMs() - this.#saidMs;
    if (silentMs + LIMITS.progressMs / 4 > LIMITS.progressMs) void this.note(this.#status());
  }
}

/** How fast something goes, over the last half minute. */
export class Rate {
  readonly #marks: { readonly atMs: number; readonly done: number }[] = [];
  readonly #windowMs: number;

  constructor(windowMs = 30_000) {
    this.#windowMs = windowMs;
  }

  add(atMs: number, done: number): void {
    this.#marks.push({ atMs, done });
    while (this.#marks.length > 2 && (this.#marks[1]?.atMs ?? 0) < atMs - this.#windowMs) this.#marks.shift();
    // Thousands a second need no mark each.
    if (this.#marks.length > 1000) this.#marks.splice(1, this.#marks.length - 500);
  }

  /** Per second; 0 before there is anything to tell. */
  perSecond(nowMs: number): number {
    const first = this.#marks[0];
    const last = this.#marks.at(-1);
    if (first === undefined || last === undefined || last.done === first.done) return 0;
    return ((last.done - first.done) * 1000) / Math.max(1, nowMs - first.atMs);
  }
}

/** `####....` for a share from 0 to 1. */
export function bar(share: number, cells: number): string {
  const full = Math.max(0, Math.min(cells, Math.round(share * cells)));
  return "#".repeat(full) + ".".repeat(cells - full);
}
