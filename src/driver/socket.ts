/**
 * A unix-socket connection as a `Link`: bounded both ways. Unread bytes beyond a bound pause the socket, so a chatty guest
 * stops in its own virtio queue; unwritten bytes make `write` wait.
 */
import { closeSync, constants, openSync } from "node:fs";
import type { FdSocketOptions, Socket, UnixSocketOptions } from "bun";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import type { Link } from "./driver.ts";

/** Unread bytes held here before the socket is paused: two windows of one busy stream. */
const PAUSE_BYTES = 2 * LIMITS.streamWindowBytes;

class SocketLink implements Link, AsyncIterable<Uint8Array> {
  readonly #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #paused = false;
  #closed = false;
  #wake: (() => void) | null = null;
  #drained: PromiseWithResolvers<void> | null = null;
  /** The end of the last write that had to wait, and how many do. */
  #writing: Promise<void> = Promise.resolve();
  #waiting = 0;
  #socket: Socket | null = null;

  readonly handlers = {
    data: (_socket: Socket, chunk: Uint8Array): void => {
      // Bun reuses the buffer after the callback, so the bytes are copied out of it.
      this.#unread.push(chunk.slice());
      this.#unreadBytes += chunk.length;
      if (this.#unreadBytes > PAUSE_BYTES && !this.#paused) {
        this.#paused = true;
        this.#socket?.pause();
      }
      this.#wake?.();
    },
    drain: (): void => this.#drained?.resolve(),
    close: (): void => this.#end(),
    error: (): void => this.#end(),
    end: (): void => this.#end(),
  };

  start(socket: Socket): void {
    this.#socket = socket;
  }

  get bytes(): AsyncIterable<Uint8Array> {
    return this;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const next = this.#unread.shift();
      if (next !== undefined) {
        this.#took(next.length);
        yield next;
      } else if (this.#closed) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    let left = bytes;
    // The quick path needs no promise chain. It is open only when nobody waits: a frame that goes out in parts must have no
    // other's bytes in between, nor overtake one that was written before.
    if (this.#waiting === 0 && !this.#closed) {
      try {
        left = bytes.subarray(this.#send(bytes));
      } catch (cause) {
        return Promise.reject(cause); // whoever writes looks for failures in one place
      }
      if (left.length === 0) return Promise.resolve();
      this.#drained = Promise.withResolvers();
    }
    this.#waiting += 1;
    const mine = this.#writing
      .then(() => this.#rest(left))
      .finally(() => {
        this.#waiting -= 1;
      });
    this.#writing = mine.catch(() => undefined); // the caller has `mine`; the next write only needs its end
    return mine;
  }

  close(): void {
    this.#end();
    this.#socket?.end();
    this.#socket?.terminate();
  }

  #took(length: number): void {
    this.#unreadBytes -= length;
    if (this.#paused && this.#unreadBytes <= PAUSE_BYTES / 2) {
      this.#paused = false;
      this.#socket?.resume();
    }
  }

  #send(bytes: Uint8Array): number {
    const written = this.#socket?.write(bytes) ?? -1;
    if (written < 0) throw new WarrenError("sandbox_lost", "the connection to the guest is closed");
    return written;
  }

  async #rest(bytes: Uint8Array): Promise<void> {
    let left = bytes;
    while (left.length > 0) {
      await this.#drained?.promise;
      if (this.#closed) throw new WarrenError("sandbox_lost", "the connection to the guest closed while writing");
      this.#drained = Promise.withResolvers(); // before the socket can say that it has room again
      left = left.subarray(this.#send(left));
    }
    this.#drained = null;
  }

  #end(): void {
    this.#closed = true;
    this.#wake?.();
    this.#drained?.resolve();
  }
}

/**
 * Connects to the socket `name` in `dir`, whatever the length of the path: sun_path holds 108 bytes, so the name is looked up
 * from a descriptor of the directory.
 * @throws {WarrenError} `driver_failed` – nothing listens there.
 */
export async function connectUnix(dir: string, name: string): Promise<Link> {
  const dirFd = openSync(dir, constants.O_DIRECTORY | constants.O_RDONLY);
  try {
    const link = new SocketLink();
    const socket = await Bun.connect({ unix: `/proc/self/fd/${dirFd}/${name}`, socket: link.handlers });
    // A program is kept alive by what it waits for, not by a guest that idles.
    socket.unref();
    link.start(socket);
    return link;
  } catch (cause) {
    throw new WarrenError("driver_failed", `the VMM does not listen on its socket ${name}`, { cause });
  } finally {
    closeSync(dirFd);
  }
}

/** A connected socket's descriptor as a `Link`, which closes it. @throws {WarrenError} `driver_failed` */
export async function connectedLink(fd: number): Promise<Link> {
  const link = new SocketLink();
  try {
    // The runtime's types have these options, and lack the overload that takes them.
    const options: FdSocketOptions = { fd, socket: link.handlers };
    link.start(await Bun.connect(options as unknown as UnixSocketOptions));
    return link;
  } catch (cause) {
    closeSync(fd);
    throw new WarrenError("driver_failed", "the VMM has hung up", { cause });
  }
}
