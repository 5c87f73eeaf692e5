/**
 * One channel of a connection: a request until its last answer. Counts the credit it has given the guest and refuses what
 * comes beyond it, so what waits here unread is bounded whatever the guest sends.
 */
import { LIMITS } from "../limits.ts";
import { type Frame, NO_BYTES, violation } from "./codec.ts";
import { decodeFields, encodeFields, type Fields } from "./fields.ts";
import { PIECE_BYTES, type Piece, Pieces } from "./pieces.ts";
import { ASK, SAY, TAG } from "./protocol.ts";
import type { Condition, Waiter } from "./waiting.ts";

/** What a call's reader comes to next. `last` is the end: DONE, ERROR, EXIT or PONG. */
export type Answer =
  | { readonly kind: "data"; readonly type: number; readonly bytes: Uint8Array }
  | { readonly kind: "gap"; readonly bytes: number }
  | { readonly kind: "started"; readonly fields: Fields }
  /** No more data comes: the peer of a DIAL has ended its direction. */
  | { readonly kind: "shut" }
  | { readonly kind: "last"; readonly type: number; readonly payload: Uint8Array };

/** Where a call's frames go. */
export interface Sender {
  send(type: number, channel: number, payload: Uint8Array): Promise<void>;
}

/** Consumed bytes are granted again in steps, so that a stream costs few CREDIT frames. */
const GRANT_STEP_BYTES = LIMITS.streamWindowBytes / 4;
/** More than any honest guest grants; keeps the count an exact integer. */
const CREDIT_MAX = 1024 * LIMITS.streamWindowBytes;
const DATA: ReadonlySet<number> = new Set([SAY.OUT, SAY.ERR, SAY.CHUNK]);
const LAST: ReadonlySet<number> = new Set([SAY.DONE, SAY.ERROR, SAY.EXIT, SAY.PONG]);

/** A gap's count is kept as a piece of its own type. */
function small({ type, bytes }: Piece): Answer {
  if (type !== SAY.GAP) return { kind: "data", type, bytes };
  return { kind: "gap", bytes: new DataView(bytes.buffer).getFloat64(0) };
}

export class Call {
  readonly id: number;
  readonly #sender: Sender;
  readonly #changed: Condition;
  readonly #answers: (Answer | Pieces)[] = [];
  /** Bytes that the guest may still send. */
  #window: number = LIMITS.streamWindowBytes;
  #consumed = 0;
  /** Bytes that the guest still takes. */
  #credit = 0;
  #started = false;
  #shut = false;
  #ended = false;
  #abandoned = false;

  constructor(id: number, sender: Sender, changed: Condition) {
    this.id = id;
    this.#sender = sender;
    this.#changed = changed;
  }

  /** True once the last answer has come; nothing may come after it. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True when no answer waits to be read: whoever waits, waits for the guest. */
  get idle(): boolean {
    return this.#answers.length === 0;
  }

  send(type: number, payload: Uint8Array = NO_BYTES): Promise<void> {
    return this.#sender.send(type, this.id, payload);
  }

  /** Lets whoever waits on this call look again: a frame has come, or the connection is lost. */
  wake(): void {
    this.#changed.wake();
  }

  /**
   * Takes a frame from the guest.
   * @throws {WarrenError} `guest_protocol` – it is beyond the credit, or makes no sense here.
   */
  take({ type, payload }: Frame): void {
    if (this.#ended) throw violation("an answer after the last one");
    if (DATA.has(type)) this.#takeData(type, payload);
    else if (LAST.has(type)) {
      this.#ended = true;
      this.#answers.push({ kind: "last", type, payload });
    } else if (type === SAY.STARTED && !this.#started) {
      this.#started = true;
      this.#answers.push({ kind: "started", fields: decodeFields(payload) });
    } else if (type === SAY.SHUT && !this.#shut) {
      this.#shut = true;
      this.#answers.push({ kind: "shut" });
    } else if (type === SAY.GAP) this.#takeGap(decodeFields(payload).number(TAG.BYTES));
    else if (type === SAY.CREDIT) {
      this.#credit = Math.min(CREDIT_MAX, this.#credit + decodeFields(payload).number(TAG.BYTES));
    } else throw violation(`frame type ${type} in an answer`);
    if (this.#abandoned) this.#answers.length = 0;
    this.wake();
  }

  #takeData(type: number, payload: Uint8Array): void {
    if (payload.length === 0) throw violation("an empty piece of output");
    if (this.#shut) throw violation("output after its end");
    this.#window -= payload.length;
    if (this.#window < 0) throw violation("more output than was asked for");
    if (payload.length <= PIECE_BYTES) this.#put(type, payload, true);
    else this.#answers.push({ kind: "data", type, bytes: payload });
  }

  #takeGap(bytes: number): void {
    const tail = this.#answers.at(-1);
    const before = tail instanceof Pieces ? tail.newest(SAY.GAP) : null;
    if (before !== null) {
      before.setFloat64(0, before.getFloat64(0) + bytes);
      return;
    }
    const count = new Uint8Array(8);
    new DataView(count.buffer).setFloat64(0, bytes);
    this.#put(SAY.GAP, count, false);
  }

  #put(type: number, bytes: Uint8Array, join: boolean): void {
    const tail = this.#answers.at(-1);
    if (tail instanceof Pieces && tail.put(type, bytes, join)) return;
    const fresh = new Pieces();
    fresh.put(type, bytes, join);
    this.#answers.push(fresh);
  }

  /**
   * The next answer. Data is granted again once it has been taken here.
   * @throws {WarrenError} the connection's loss, the abort's reason, or what `late` makes of a deadline.
   */
  async next(waiter: Waiter): Promise<Answer> {
    await this.#changed.until(() => this.#answers.length > 0, waiter);
    const answer = this.#answers[0];
    if (answer === undefined) throw violation("no answer"); // `until` has just seen one
    const read = answer instanceof Pieces ? small(answer.take()) : answer;
    if (!(answer instanceof Pieces) || answer.empty) this.#answers.shift();
    if (read.kind === "data") this.#grant(read.bytes.length);
    return read;
  }

  #grant(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < GRANT_STEP_BYTES || this.#ended) return;
    this.#window += this.#consumed;
    const payload = encodeFields([[TAG.BYTES, this.#consumed]]);
    this.#consumed = 0;
    void this.send(ASK.CREDIT, payload).catch(() => undefined); // a broken link ends the connection, and so this call
  }

  /** Sends content as the guest takes it; false when the call ended first. The empty piece that ends it is not sent here. */
  async pour(bytes: Uint8Array, waiter: Waiter): Promise<boolean> {
    let at = 0;
    while (at < bytes.length) {
      await this.#changed.until(() => this.#credit > 0 || this.#ended, waiter);
      if (this.#ended) return false;
      const count = Math.min(bytes.length - at, this.#credit, LIMITS.frameBytes);
      this.#credit -= count;
      await this.send(ASK.DATA, bytes.subarray(at, at + count));
      at += count;
    }
    return !this.#ended;
  }

  /** Ends it from our side. What still comes is dropped unread. */
  cancel(): void {
    if (this.#ended || this.#abandoned) return;
    this.#abandoned = true;
    this.#answers.length = 0;
    void this.send(ASK.CANCEL).catch(() => undefined); // as above
  }
}

/** The guest's refusal of a request. */
export class GuestRefusal extends Error {
  override readonly name = "GuestRefusal";
  readonly errno: number;

  constructor(errno: number, text: string) {
    super(text);
    this.errno = errno;
  }
}

/**
 * The fields of a last answer.
 * @throws {GuestRefusal} it is ERROR. @throws {WarrenError} `guest_protocol` – it is not `wanted`.
 */
export function settled(answer: Answer, wanted: number): Fields {
  if (answer.kind !== "last") throw violation("an answer out of turn");
  const fields = decodeFields(answer.payload);
  if (answer.type === SAY.ERROR) throw new GuestRefusal(fields.number(TAG.ERRNO), fields.text(TAG.TEXT));
  if (answer.type !== wanted) throw violation(`frame type ${answer.type} as the last answer`);
  return fields;
}
