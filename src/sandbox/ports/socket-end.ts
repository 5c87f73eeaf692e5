/**
 * This host's end of a local connection that is spliced to a port of a sandbox: bounded both ways, each direction with an end of
 * its own, as TCP has it.
 */
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";

/** Unread bytes held here before the socket is paused. */
const PAUSE_BYTES = LIMITS.streamWindowBytes;

/** What came from the local program, in order; its end is that program's. One that breaks off throws `cancelled`. */
export class SocketEnd implements AsyncIterable<Uint8Array> {
  /** Resolves when there is no connection any more: `broken` off before the local program had ended its direction, or not. */
  readonly closed: Promise<"ended" | "broken">;
  readonly #socket: Bun.Socket<SocketEnd>;
  readonly #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #isPaused = false;
  /** The local program says no more. */
  #isOver = false;
  /** It has been told that the sandbox says no more. */
  #isShut = false;
  /** There is no connection any more. */
  #isGone = false;
  #wake: () => void = () => undefined;
  #drained: () => void = () => undefined;
  readonly #resolveClosed: (how: "ended" | "broken") => void;

  constructor(socket: Bun.Socket<SocketEnd>) {
    this.#socket = socket;
    const { promise, resolve } = Promise.withResolvers<"ended" | "broken">();
    this.closed = promise;
    this.#resolveClosed = resolve;
  }

  /** Bytes that wait to be read. */
  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** All that waits to be read, put back as what `change` makes of it. */
  rewrite(change: (bytes: Uint8Array) => Uint8Array): void {
    const changed = change(Buffer.concat(this.#unread.splice(0)));
    this.#unread.push(changed);
    this.#unreadBytes = changed.length;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const next = this.#unread.shift();
      if (next !== undefined) {
        this.#took(next.length);
        yield next;
      } else if (this.#isOver) return;
      else if (this.#isGone) throw new WarrenError("cancelled", "the local end of the connection has gone");
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Resolves when the socket has taken all of it. @throws {WarrenError} `cancelled` – the local program has gone */
  async write(bytes: Uint8Array): Promise<void> {
    let left = bytes;
    while (left.length > 0) {
      if (this.#isGone) throw new WarrenError("cancelled", "the local end of the connection has gone");
      const drained = new Promise<void>((resolve) => (this.#drained = resolve));
      left = left.subarray(Math.max(0, this.#socket.write(left)));
      if (left.length > 0) await drained;
    }
  }

  /** No more comes from the sandbox; the local program may go on. */
  end(): void {
    this.#isShut = true;
    if (this.#isGone) return;
    // With both directions over there is nothing left of it, which the runtime does not see by itself in this order.
    if (this.#isOver) this.#socket.end();
    else this.#socket.shutdown();
  }

  /** Resets it. */
  terminate(): void {
    if (!this.#isGone) this.#socket.terminate();
  }

  /** For the socket's events. */
  readonly events = {
    data: (chunk: Uint8Array): void => {
      // The runtime uses the buffer again after the callback, so the bytes are copied out of it.
      this.#unread.push(chunk.slice());
      this.#unreadBytes += chunk.length;
      if (this.#unreadBytes > PAUSE_BYTES && !this.#isPaused) {
        this.#isPaused = true;
        this.#socket.pause();
      }
      this.#wake();
    },
    drain: (): void => this.#drained(),
    end: (): void => {
      this.#isOver = true;
      this.#wake();
    },
    close: (error?: Error): void => {
      this.#isGone = true;
      // Of a connection whose other direction was over the end is not told before: it is closed at once.
      if (this.#isShut && error === undefined) this.#isOver = true;
      this.#wake();
      this.#drained();
      this.#resolveClosed(this.#isOver ? "ended" : "broken");
    },
  };

  #took(length: number): void {
    this.#unreadBytes -= length;
    if (!this.#isPaused || this.#unreadBytes > PAUSE_BYTES / 2) return;
    this.#isPaused = false;
    if (!this.#isGone) this.#socket.resume();
  }
}

/** Handlers of a listener whose connections are `SocketEnd`s; `changed` runs after each piece that comes. */
export function handlersOf(
  open: (end: SocketEnd) => void,
  changed: (end: SocketEnd) => void = () => undefined,
): Bun.SocketHandler<SocketEnd> {
  return {
    open: (socket) => {
      socket.data = new SocketEnd(socket);
      open(socket.data);
    },
    data: (socket, chunk) => {
      socket.data.events.data(chunk);
      changed(socket.data);
    },
    drain: (socket) => socket.data.events.drain(),
    end: (socket) => socket.data.events.end(),
    error: (socket, error) => socket.data.events.close(error),
    close: (socket, error) => socket.data.events.close(error),
  };
}
