/**
 * One side of a connection, plain or TLS, read and written with backpressure: what nobody reads stays with the kernel, and who
 * writes waits until the other side takes it. Every failure of a socket ends here as a rejection; none is thrown in the air.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.ts";

export class Wire {
  readonly #stream: Duplex;
  #unread: Uint8Array | null = null;
  #ended = false;
  #over: Error | null = null;
  #wakeReader: (() => void) | null = null;
  #interrupted = false;
  #drained: PromiseWithResolvers<void> | null = null;
  #onEnd: (() => void) | null = null;

  constructor(stream: Duplex) {
    this.#stream = stream;
    // One piece at a time, and the next only when it is wanted: a stream that reads ahead by itself holds twice as much.
    stream.pause();
    stream.on("data", this.#onData);
    stream.on("end", this.#onStreamEnd);
    stream.on("drain", this.#onDrain);
    stream.on("error", this.#onOver);
    stream.on("close", this.#onOver);
  }

  /** The other side has said that it will send no more, or the connection is gone. */
  get ended(): boolean {
    return this.#ended || this.#over !== null;
  }

  /** Nothing can be read or written any more. */
  get broken(): boolean {
    return this.#over !== null;
  }

  /** True when it is open and nothing unread has come. */
  get quiet(): boolean {
    return !this.ended && this.#unread === null && this.#stream.readableLength === 0;
  }

  /** `told` runs when the other side ends or is gone, at once if it has; one at a time. */
  whenEnded(told: (() => void) | null): void {
    this.#onEnd = told;
    if (this.ended) told?.();
    else if (told !== null) this.lookAhead();
  }

  /** Takes the next piece before it is asked for, so that an end is seen at once. */
  lookAhead(): void {
    if (this.#unread === null && !this.ended) this.#stream.resume();
  }

  /** The next bytes, or null at the end. One reader at a time. @throws {Error} when the connection broke */
  async read(): Promise<Uint8Array | null> {
    for (;;) {
      if (this.#unread !== null) {
        const bytes = this.#unread;
        this.#unread = null;
        return bytes;
      }
      if (this.#ended) return null;
      if (this.#over !== null) throw this.#over;
      this.#stream.resume();
      await new Promise<void>((resolve) => (this.#wakeReader = resolve));
      if (this.#interrupted) {
        this.#interrupted = false;
        throw new Error("nobody wants what is read any more");
      }
    }
  }

  /** The read that waits, if one does, is rejected; the next one is like all others. */
  interrupt(): void {
    this.#interrupted = this.#wakeReader !== null;
    this.#wake();
  }

  /** Gives back what was read too much; the next read begins with it. */
  unread(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#unread = this.#unread === null ? bytes : Buffer.concat([bytes, this.#unread]);
  }

  /** Resolves when more may be written. @throws {Error} when the connection broke */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#over !== null) throw this.#over;
    if (bytes.length === 0 || this.#stream.write(bytes)) return;
    this.#drained ??= Promise.withResolvers();
    await this.#drained.promise;
  }

  /** No more will be written; resolves when what was has been given to the kernel, or the connection broke. */
  async end(): Promise<void> {
    if (this.#over !== null) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stream.once("close", resolve);
    this.#stream.end(resolve);
    await promise;
  }

  destroy(): void {
    this.#onOver();
    this.#stream.destroy();
  }

  /** The stream, for another reader; what was read and given back comes out of it again. This wire is over. */
  release(): Duplex {
    const stream = this.#stream;
    stream.off("data", this.#onData);
    stream.off("end", this.#onStreamEnd);
    stream.off("drain", this.#onDrain);
    stream.off("close", this.#onOver);
    stream.pause();
    if (this.#unread !== null) stream.unshift(this.#unread);
    this.#unread = null;
    this.#over = new Error("released");
    return stream; // `error` stays heard: one that nobody hears ends the process
  }

  readonly #onData = (bytes: Uint8Array): void => {
    this.#stream.pause();
    this.#unread = this.#unread === null ? bytes : Buffer.concat([this.#unread, bytes]);
    this.#wake();
  };

  readonly #onStreamEnd = (): void => {
    this.#ended = true;
    this.#wake();
    this.#onEnd?.();
  };

  readonly #onDrain = (): void => {
    this.#drained?.resolve();
    this.#drained = null;
  };

  readonly #onOver = (cause?: unknown): void => {
    if (this.#over !== null) return;
    this.#over = new Error("the connection is closed", cause instanceof Error ? { cause } : {});
    this.#drained?.promise.catch(() => undefined); // its writer hears of it; without one nobody has to
    this.#drained?.reject(this.#over);
    this.#drained = null;
    this.#wake();
    this.#onEnd?.();
  };

  #wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = null;
  }
}

/** Runs `late` when its time is over; of a connection, one after another. */
export class Deadline {
  readonly #clock: Clock;
  readonly #late: () => void;
  #cancel: (() => void) | null = null;
  #spanMs = 0;
  #fromMs = 0;

  constructor(clock: Clock, late: () => void) {
    this.#clock = clock;
    this.#late = late;
  }

  /** From now, in place of what was set before. */
  set(spanMs: number): void {
    this.#cancel?.();
    this.#spanMs = spanMs;
    this.#fromMs = this.#clock.monotonicMs();
    this.#arm(spanMs);
  }

  /** Something moved: the same time again from now. Cheap; the timer is looked at only when it fires. */
  touch(): void {
    this.#fromMs = this.#clock.monotonicMs();
  }

  clear(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  #arm(delayMs: number): void {
    this.#cancel = this.#clock.after(
      delayMs,
      () => {
        const leftMs = this.#fromMs + this.#spanMs - this.#clock.monotonicMs();
        if (leftMs > 0) this.#arm(leftMs);
        else {
          this.#cancel = null;
          this.#late();
        }
      },
      { background: true },
    );
  }
}

async function pump(from: Wire, to: Wire, moved: () => void): Promise<void> {
  for (;;) {
    const bytes = await from.read();
    moved();
    if (bytes === null) return await to.end();
    await to.write(bytes);
    moved();
  }
}

/** Carries bytes both ways until both sides have ended. @throws {Error} when either broke; both are then closed */
export async function splice(a: Wire, b: Wire, moved: () => void): Promise<void> {
  try {
    await Promise.all([pump(a, b, moved), pump(b, a, moved)]);
  } catch (error) {
    a.destroy();
    b.destroy();
    throw error;
  }
}
