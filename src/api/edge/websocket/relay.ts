/**
 * A client's WebSocket and one to a program in a sandbox, made one. A program that says more than its client reads has to wait;
 * a client that says more than its program reads is closed, as nothing could make it wait.
 */
import type { Clock } from "../../../base/clock.ts";
import { randomBytes } from "../../../base/id.ts";
import { isWarrenError, WarrenError } from "../../../errors.ts";
import { hostOf } from "../../../sandbox/ports/address.ts";
import { dialPort, type PortTarget } from "../../../sandbox/ports/splice.ts";
import type { ApiSocket, SocketEnd } from "../../parts.ts";
import type { Charge } from "../../streams/budget.ts";
import { BOUNDS } from "../bounds.ts";
import { headOf } from "../http/exchange.ts";
import { HttpError } from "../http/head.ts";
import { closeOf, FrameError, FrameReader, frameOf, isCloseCode, type Message, pongOf } from "./frames.ts";
import { agreed, openingRequest } from "./handshake.ts";

export interface RelayAsk {
  readonly target: PortTarget;
  /** Path and query for the program. */
  readonly path: string;
  readonly headers: Headers;
  readonly protocols: readonly string[];
  readonly clock: Clock;
  /** Ends it also before the client's side is open. */
  readonly signal: AbortSignal;
  /** For one more thing in which bytes wait. */
  readonly charge: () => Charge;
  /** Runs once, when all of it is over. */
  readonly over: () => void;
}

/** What goes to the program: a queue that ends. */
class Outgoing implements AsyncIterable<Uint8Array> {
  readonly #queue: Uint8Array[] = [];
  readonly #charge: Charge;
  #isOver = false;
  #wake: () => void = () => undefined;
  bytes = 0;
  /** There was no room for something that has come. */
  isFull = false;

  constructor(charge: Charge) {
    this.#charge = charge;
  }

  push(bytes: Uint8Array): void {
    if (this.#isOver) return;
    this.isFull ||= !this.#charge.take(bytes.length);
    this.#queue.push(bytes);
    this.bytes += bytes.length;
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** It ends, and what may still be in it counts no more. */
  drop(): void {
    this.#charge.close();
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) {
        yield next;
        this.bytes -= next.length;
        this.#charge.release(next.length);
      } else if (this.#isOver) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

export interface OpenRelay {
  /** For `server.upgrade`. */
  readonly end: SocketEnd;
  readonly protocol: string | null;
  /** Ends it without a client. */
  abandon(): void;
}

/** @throws {WarrenError} `guest_protocol` – the program opens no WebSocket; as the contract's `dial` says */
export async function openRelay(ask: RelayAsk): Promise<OpenRelay> {
  const { target, clock, signal } = ask;
  const abort = new AbortController();
  const outgoing = new Outgoing(ask.charge());
  const key = Buffer.from(randomBytes(16)).toString("base64");
  const opening = { ...ask, key, host: hostOf(target.port) };
  outgoing.push(openingRequest(opening));
  const late = (): void => abort.abort(new HttpError("it did not answer in time"));
  const cancel = clock.after(BOUNDS.handshakeMs, late, { background: true });
  try {
    const stream = await dialPort(target, outgoing, AbortSignal.any([abort.signal, signal]));
    const pieces = stream[Symbol.asyncIterator]();
    const { head, rest } = await headOf(pieces);
    const protocol = agreed(head, opening);
    const relay = new Relay(ask, pieces, rest, outgoing, () => abort.abort(new WarrenError("cancelled", "it is over")));
    return { end: relay, protocol, abandon: () => relay.finish() };
  } catch (cause) {
    abort.abort(new WarrenError("cancelled", "it was not opened"));
    outgoing.drop();
    ask.over();
    throw explained(cause, abort.signal, target.port);
  } finally {
    cancel();
  }
}

function explained(cause: unknown, abort: AbortSignal, port: number): unknown {
  const why = abort.reason instanceof HttpError ? abort.reason : cause;
  if (!(why instanceof HttpError) && !isWarrenError(why, "guest_protocol")) return cause;
  const says = `the program behind port ${port} of the sandbox opened no WebSocket: ${why.message}`;
  return new WarrenError("guest_protocol", says, { details: { port }, cause });
}

class Relay implements SocketEnd {
  readonly #ask: RelayAsk;
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #first: Uint8Array;
  readonly #outgoing: Outgoing;
  readonly #leave: () => void;
  readonly #reader = new FrameReader();
  /** Of a message of the program's that is not whole yet, and of what its client has not taken. */
  readonly #partly: Charge;
  readonly #unsent: Charge;
  #drained: () => void = () => undefined;
  /** The client's side is closed or closing. */
  #isShut = false;
  /** The program was told of the end. */
  #isTold = false;
  #isFinished = false;

  constructor(
    ask: RelayAsk,
    pieces: AsyncIterator<Uint8Array>,
    first: Uint8Array,
    outgoing: Outgoing,
    leave: () => void,
  ) {
    this.#ask = ask;
    this.#pieces = pieces;
    this.#first = first;
    this.#outgoing = outgoing;
    this.#leave = leave;
    [this.#partly, this.#unsent] = [ask.charge(), ask.charge()];
  }

  open(socket: ApiSocket): void {
    void this.#pour(socket).catch((cause: unknown) => this.#broken(socket, cause));
  }

  message(socket: ApiSocket, message: string | Uint8Array): void {
    if (this.#isTold) return;
    this.#outgoing.push(frameOf(message));
    this.#checkUnread(socket);
  }

  drain(socket: ApiSocket): void {
    if (!this.#isShut) this.#unsent.level(socket.getBufferedAmount());
    this.#drained();
  }

  close(_: ApiSocket, code: number, reason: string): void {
    this.#isShut = true;
    this.#unsent.close();
    this.#drained();
    if (this.#isFinished) return;
    this.#tell(code, reason);
    this.#ask.clock.after(BOUNDS.closeMs, () => this.finish(), { background: true });
  }

  finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#outgoing.drop();
    for (const charge of [this.#partly, this.#unsent]) charge.close();
    this.#leave();
    this.#drained();
    // Nobody may be reading, and then the abort alone would not end the connection.
    void Promise.try(async () => this.#pieces.return?.()).catch(() => undefined);
    this.#ask.over();
  }

  async #pour(socket: ApiSocket): Promise<void> {
    for (let piece = this.#first; ; ) {
      for (const message of this.#reader.take(piece)) {
        if (message.kind === "close") return this.#closed(socket, message);
        await this.#pass(socket, message);
      }
      if (!this.#partly.level(this.#reader.cost)) throw new FrameError(1013, "too much waits for this account");
      const next = await this.#pieces.next();
      if (next.done === true) throw new FrameError(1011, "the program hung up");
      piece = next.value;
    }
  }

  async #pass(socket: ApiSocket, message: Message): Promise<void> {
    if (message.kind === "ping") {
      this.#outgoing.push(pongOf(message.bytes));
      this.#checkUnread(socket);
    }
    if (this.#isShut || (message.kind !== "text" && message.kind !== "binary")) return;
    const bytes = socket.send(message.kind === "text" ? message.text : message.bytes);
    const isEmpty = (message.kind === "text" ? message.text : message.bytes).length === 0;
    if (bytes === 0 && !isEmpty) throw new FrameError(1011, "a message could not be passed on");
    if (!this.#isShut && !this.#unsent.level(socket.getBufferedAmount())) {
      socket.terminate(); // it reads too slowly for a word to reach it
      throw new FrameError(1013, "the client reads too slowly");
    }
    while (!this.#isShut && !this.#isFinished && socket.getBufferedAmount() > BOUNDS.unsentBytes) {
      await new Promise<void>((resolve) => (this.#drained = resolve));
    }
  }

  #closed(socket: ApiSocket, { code, reason }: { readonly code: number; readonly reason: string }): void {
    this.#tell(code, reason);
    if (!this.#isShut) {
      this.#isShut = true;
      socket.close(isCloseCode(code) ? code : 1000, reason);
    }
    // The program closes its connection when it has read the answer.
    const cancel = this.#ask.clock.after(BOUNDS.closeMs, () => this.finish(), { background: true });
    const rest = async (): Promise<void> => {
      while ((await this.#pieces.next()).done !== true);
    };
    void rest()
      .catch(() => undefined) // it broke off instead
      .then(() => {
        cancel();
        this.finish();
      });
  }

  #broken(socket: ApiSocket, cause: unknown): void {
    const [code, reason] =
      cause instanceof FrameError
        ? [cause.code, cause.message]
        : [1011, isWarrenError(cause) ? cause.message : "the connection broke"];
    this.#tell(code, reason);
    if (!this.#isShut) {
      this.#isShut = true;
      socket.close(code, reason.slice(0, 120).replace(/[^\x20-\x7e]/g, "?"));
    }
    this.finish();
  }

  #checkUnread(socket: ApiSocket): void {
    const isTooMuch = this.#outgoing.isFull || this.#outgoing.bytes > BOUNDS.unreadBytes;
    if (!isTooMuch || this.#isShut) return;
    this.#isShut = true;
    socket.close(1013, "the program in the sandbox reads too slowly");
    this.finish();
  }

  #tell(code: number, reason: string): void {
    if (this.#isTold) return;
    this.#isTold = true;
    this.#outgoing.push(closeOf(code, reason));
    this.#outgoing.end();
  }
}
