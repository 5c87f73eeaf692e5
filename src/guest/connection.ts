/**
 * One connection to an agent over a link: finds the guest's place in the byte stream, hands frames to their calls, and ends
 * for good at the first byte that breaks the protocol. Everything from the guest is hostile until a decoder has had it.
 */
import type { Clock } from "../base/clock.ts";
import { randomBytes } from "../base/id.ts";
import type { Link } from "../driver/driver.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { Call, settled } from "./call.ts";
import { encodeFrame, type Frame, FrameDecoder, violation } from "./codec.ts";
import { decodeFields, encodeFields, type Fields } from "./fields.ts";
import { HelloFinder } from "./hello.ts";
import { ASK, PROTOCOL_VERSION, RESYNC_BYTES, SAY, TAG } from "./protocol.ts";
import { Condition, type Loss, type Waiter } from "./waiting.ts";

export interface ConnectOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the agent has to have answered; default {@link LIMITS.guestHelloMs}. */
  readonly helloMs?: number;
}

export class Connection {
  readonly clock: Clock;
  /** Resolves, once, with why the connection is over. */
  readonly lost: Promise<WarrenError>;
  readonly #link: Link;
  readonly #loss: Loss = { error: null };
  readonly #resolveLost: (error: WarrenError) => void;
  readonly #calls = new Map<number, Call>();
  readonly #decoder = new FrameDecoder();
  readonly #helloChannel = 0x8000_0000 + (new DataView(randomBytes(4).buffer).getUint32(0) >>> 1);
  readonly #finder = new HelloFinder(this.#helloChannel);
  readonly #greeted: Condition;
  #hello: Fields | null = null;
  #lastId = 0;

  constructor(link: Link, clock: Clock) {
    this.#link = link;
    this.clock = clock;
    this.#greeted = new Condition(clock, this.#loss);
    const { promise, resolve } = Promise.withResolvers<WarrenError>();
    this.lost = promise;
    this.#resolveLost = resolve;
    void this.#read();
  }

  /**
   * Greets the agent; what the link still held of earlier connections is dropped, on both sides.
   * @throws {WarrenError} `guest_unresponsive`, `guest_protocol` – it speaks another version, `sandbox_lost`, `cancelled`
   */
  async greet(options: ConnectOptions): Promise<Fields> {
    const start = this.clock.monotonicMs();
    const allowedMs = options.helloMs ?? LIMITS.guestHelloMs;
    const hello = encodeFrame(ASK.HELLO, this.#helloChannel, encodeFields([[TAG.VERSION, PROTOCOL_VERSION]]));
    this.#write(hello);
    const again = this.clock.after(LIMITS.guestResyncMs, () => {
      this.#write(new Uint8Array(RESYNC_BYTES));
      this.#write(hello);
    });
    try {
      await this.#greeted.until(() => this.#hello !== null, {
        signal: options.signal,
        deadlineMs: () => start + allowedMs,
        late: () => new WarrenError("guest_unresponsive", `the guest's agent did not answer within ${allowedMs} ms`),
      });
    } finally {
      again();
    }
    if (this.#hello === null) throw violation("no greeting"); // `until` has just seen one
    return this.#hello;
  }

  /** @throws {WarrenError} the loss, or `capacity_exhausted` – too many calls at once on this connection. */
  open(): Call {
    if (this.#loss.error !== null) throw this.#loss.error;
    if (this.#calls.size >= LIMITS.channels) {
      throw new WarrenError("capacity_exhausted", `${LIMITS.channels} calls to one sandbox are under way`);
    }
    this.#lastId = (this.#lastId % 0x7fff_ffff) + 1;
    while (this.#calls.has(this.#lastId)) this.#lastId = (this.#lastId % 0x7fff_ffff) + 1;
    const call = new Call(this.#lastId, this, new Condition(this.clock, this.#loss));
    this.#calls.set(call.id, call);
    return call;
  }

  /**
   * A request with one answer, beside data that `onData` takes.
   * @throws {GuestRefusal} the guest's ERROR.
   * @throws {WarrenError} `guest_unresponsive` – no answer in time; the loss; the signal's reason
   */
  async request(
    type: number,
    payload: Uint8Array,
    ask: {
      readonly signal?: AbortSignal | undefined;
      readonly withinMs?: number;
      readonly wanted?: number;
      readonly onData?: (bytes: Uint8Array) => void;
      /** Default: `guest_unresponsive`. */
      readonly late?: () => WarrenError;
    } = {},
  ): Promise<Fields> {
    const call = this.open();
    const within = this.within(ask.withinMs ?? LIMITS.guestRequestMs, ask.signal);
    const waiter = { ...within, late: ask.late ?? within.late };
    try {
      await call.send(type, payload);
      for (;;) {
        const answer = await call.next(waiter);
        if (answer.kind !== "data") return settled(answer, ask.wanted ?? SAY.DONE);
        if (answer.type !== SAY.CHUNK || ask.onData === undefined) throw this.fail(violation("data out of turn"));
        ask.onData(answer.bytes);
      }
    } finally {
      call.cancel();
    }
  }

  /** Waits at most so long in all. */
  within(ms: number, signal?: AbortSignal): Waiter {
    const start = this.clock.monotonicMs();
    const late = () => new WarrenError("guest_unresponsive", `the guest did not answer within ${ms} ms`);
    return { signal, deadlineMs: () => start + ms, late };
  }

  /** For {@link Call}. */
  send(type: number, channel: number, payload: Uint8Array): Promise<void> {
    if (this.#loss.error !== null) return Promise.reject(this.#loss.error);
    return this.#link.write(encodeFrame(type, channel, payload)).catch((cause) => {
      throw this.fail(new WarrenError("sandbox_lost", "the connection to the guest broke", { cause }));
    });
  }

  /** Ends the connection; the first reason counts and is returned. */
  fail(error: WarrenError): WarrenError {
    if (this.#loss.error === null) {
      this.#loss.error = error;
      this.#link.close();
      this.#resolveLost(error);
      this.#greeted.wake();
      for (const call of this.#calls.values()) call.wake();
      this.#calls.clear();
    }
    return this.#loss.error;
  }

  #write(bytes: Uint8Array): void {
    this.#link.write(bytes).catch((cause) => {
      this.fail(new WarrenError("sandbox_lost", "the connection to the guest broke", { cause }));
    });
  }

  async #read(): Promise<void> {
    try {
      for await (const chunk of this.#link.bytes) {
        if (this.#loss.error !== null) return;
        for (const frame of this.#decoder.push(this.#finder.take(chunk))) this.#dispatch(frame);
      }
      this.fail(new WarrenError("sandbox_lost", "the guest hung up"));
    } catch (cause) {
      const ours = cause instanceof WarrenError;
      this.fail(ours ? cause : new WarrenError("sandbox_lost", "the connection to the guest broke", { cause }));
    }
  }

  #dispatch(frame: Frame): void {
    if (frame.channel === this.#helloChannel) {
      this.#greeting(frame);
      return;
    }
    const call = this.#calls.get(frame.channel);
    if (call === undefined) throw violation("an answer to no request");
    call.take(frame);
    if (call.ended) this.#calls.delete(frame.channel);
  }

  /** The second one answers our second HELLO, and says nothing new. */
  #greeting(frame: Frame): void {
    if (frame.type === SAY.ERROR) {
      const says = `the guest's agent speaks another version of the protocol than ${PROTOCOL_VERSION}`;
      throw new WarrenError("guest_protocol", `${says}: bake the template again`);
    }
    if (frame.type !== SAY.HELLO) throw violation("a greeting of another kind");
    const fields = decodeFields(frame.payload);
    if (fields.number(TAG.VERSION) !== PROTOCOL_VERSION) throw violation("a greeting of another version");
    this.#hello ??= fields;
    this.#greeted.wake();
  }
}
