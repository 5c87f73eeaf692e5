/** What goes to a WebSocket, no faster than it is taken: whoever sends waits while too much is in the buffer. */
import { BOUNDS } from "../bounds.ts";
import type { ApiSocket } from "../parts.ts";
import type { Charge } from "../streams/budget.ts";

/** The socket is gone: there is nobody to send to. */
export class SocketGone extends Error {
  override readonly name = "SocketGone";
}

export class Outbox {
  readonly #charge: Charge;
  #socket: ApiSocket | null = null;
  #isGone = false;
  readonly #opened = Promise.withResolvers<void>();
  #drained = Promise.withResolvers<void>();

  constructor(charge: Charge) {
    this.#charge = charge;
  }

  opened(socket: ApiSocket): void {
    this.#socket = socket;
    this.#opened.resolve();
  }

  drained(): void {
    if (!this.#isGone) this.#charge.level(this.#socket?.getBufferedAmount() ?? 0);
    this.#drained.resolve();
    this.#drained = Promise.withResolvers();
  }

  gone(): void {
    this.#isGone = true;
    this.#charge.close();
    this.#opened.resolve();
    this.drained();
  }

  /** Resolves when more may be sent. @throws {SocketGone} */
  async send(data: string | Uint8Array): Promise<void> {
    await this.#opened.promise;
    const socket = this.#socket;
    if (this.#isGone || socket === null) throw new SocketGone();
    const sent = typeof data === "string" ? socket.sendText(data) : socket.sendBinary(data);
    if (sent === 0 && !this.#isGone) throw new SocketGone();
    if (!this.#isGone && !this.#charge.level(socket.getBufferedAmount())) {
      socket.terminate(); // it reads too slowly for a word to reach it, and all its account's sockets together wait for too much
      throw new SocketGone();
    }
    while (!this.#isGone && socket.getBufferedAmount() > BOUNDS.socketBufferBytes) await this.#drained.promise;
  }

  /** After all that was sent. */
  close(code: number, reason: string): void {
    if (!this.#isGone) this.#socket?.close(code, reason);
  }
}
