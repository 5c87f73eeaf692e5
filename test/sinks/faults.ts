/** A network that fails: a proxy in front of a receiver, each connection one request, which is spoilt before it or behind it. */

import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";

/** `before`: nothing of it arrived. `after`: all of it did, and the answer is lost. */
export type Fault =
  | {
      readonly kind: "status";
      readonly status: number;
      readonly when: "before" | "after";
      readonly retryAfter?: string;
    }
  | { readonly kind: "reset"; readonly when: "before" | "after" }
  | { readonly kind: "silence"; readonly when: "before" | "after" };

export class Faults implements AsyncDisposable {
  /** The next one first; none: the request goes through. */
  readonly next: (Fault | null)[] = [];
  /** Connections that were spoilt. */
  spoilt = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: number) {
    this.#server = createServer((socket) => this.#serve(socket, target));
  }

  static async before(target: number): Promise<Faults> {
    const faults = new Faults(target);
    await new Promise<void>((resolve) => faults.#server.listen(0, "127.0.0.1", resolve));
    return faults;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #held(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => this.#sockets.delete(socket));
    return socket;
  }

  #serve(socket: Socket, target: number): void {
    this.#held(socket);
    const fault = this.next.shift() ?? null;
    if (fault !== null) this.spoilt += 1;
    if (fault?.when === "before") {
      socket.once("data", () => spoil(socket, fault));
      return;
    }
    const through = this.#held(connect({ host: "127.0.0.1", port: target }));
    socket.pipe(through);
    if (fault === null) through.pipe(socket);
    else through.once("data", () => spoil(socket, fault));
  }
}

function spoil(socket: Socket, fault: Fault): void {
  if (fault.kind === "reset") socket.resetAndDestroy();
  if (fault.kind !== "status") return;
  const wait = fault.retryAfter === undefined ? "" : `Retry-After: ${fault.retryAfter}\r\n`;
  socket.end(`HTTP/1.1 ${fault.status} X\r\n${wait}Content-Type: text/plain\r\nContent-Length: 12\r\n\r\nout of order`);
}
