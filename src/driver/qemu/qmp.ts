/**
 * QEMU's monitor protocol: JSON lines. The reader is pure and treats a VMM as something that may have been taken over:
 * lines are bounded, anything that is not a QMP message ends the connection.
 */
import { type Clock, systemClock } from "../../base/clock.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import type { Link } from "../driver.ts";

export type QmpMessage =
  | { readonly kind: "greeting" }
  | { readonly kind: "return"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number; readonly says: string }
  | { readonly kind: "event"; readonly name: string; readonly data: unknown };

function hostile(says: string, cause?: unknown): WarrenError {
  return new WarrenError("driver_failed", `the VMM's monitor sent ${says}`, { cause });
}

function asObject(line: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw hostile("a line that is not JSON", cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw hostile("a line that is not an object");
  return value as Record<string, unknown>;
}

function idOf(message: Record<string, unknown>): number {
  const id = message["id"];
  // An error for a command that QEMU could not parse carries no id; nothing of ours is like that.
  if (typeof id !== "number" || !Number.isSafeInteger(id)) throw hostile("an answer without the command's id");
  return id;
}

/** One line → message. @throws {WarrenError} `driver_failed` – not a QMP message. */
export function parseQmpLine(line: string): QmpMessage {
  const message = asObject(line);
  if ("QMP" in message) return { kind: "greeting" };
  if ("return" in message) return { kind: "return", id: idOf(message), value: message["return"] };
  if ("error" in message) {
    const desc = (message["error"] as { desc?: unknown } | null)?.desc;
    // Only a string is made text: making one of a hostile object or of deep nesting can throw.
    return { kind: "error", id: idOf(message), says: typeof desc === "string" ? desc.slice(0, 1000) : "no reason" };
  }
  if (typeof message["event"] === "string") return { kind: "event", name: message["event"], data: message["data"] };
  throw hostile("a message of no known kind");
}

const NOTHING = new Uint8Array(0);
const FIRST_BYTES = 4096;

/**
 * Bytes → messages, whatever the cuts between chunks: each goes to `take` before the next line is looked at, so what came
 * before a violation counts wherever the bytes were cut.
 */
export class QmpReader {
  readonly #take: (message: QmpMessage) => void;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  /** One buffer, not the chunks themselves: a line that comes byte by byte would cost a hundred times its length. */
  #held: Uint8Array = NOTHING;
  #fill = 0;

  constructor(take: (message: QmpMessage) => void) {
    this.#take = take;
  }

  /** Memory that an unfinished line takes. */
  get heldBytes(): number {
    return this.#held.length;
  }

  /** @throws {WarrenError} `driver_failed` – a line over LIMITS.qmpLineBytes, not UTF-8, or not a message. */
  push(chunk: Uint8Array): void {
    let start = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, start)) {
      const line = this.#line(chunk.subarray(start, at));
      start = at + 1;
      if (line.trim() !== "") this.#take(parseQmpLine(line));
    }
    if (start < chunk.length) this.#hold(chunk.subarray(start));
  }

  #line(end: Uint8Array): string {
    let bytes = end;
    if (this.#fill === 0) this.#checked(end.length);
    else {
      this.#hold(end);
      bytes = this.#held.subarray(0, this.#fill);
      this.#held = NOTHING;
      this.#fill = 0;
    }
    try {
      return this.#decoder.decode(bytes);
    } catch (cause) {
      throw hostile("bytes that are not UTF-8", cause);
    }
  }

  #hold(bytes: Uint8Array): void {
    const fill = this.#checked(this.#fill + bytes.length);
    if (fill > this.#held.length) {
      const wider = new Uint8Array(Math.min(LIMITS.qmpLineBytes, Math.max(FIRST_BYTES, 2 * fill)));
      wider.set(this.#held.subarray(0, this.#fill));
      this.#held = wider;
    }
    this.#held.set(bytes, this.#fill);
    this.#fill = fill;
  }

  #checked(length: number): number {
    if (length > LIMITS.qmpLineBytes) throw hostile(`a line over ${LIMITS.qmpLineBytes} bytes`);
    return length;
  }
}

/** A monitor connection that has been greeted; commands may be sent without waiting for earlier answers. */
export class Qmp {
  readonly #link: Link;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #events = new Map<string, Set<PromiseWithResolvers<void>>>();
  readonly #greeted = Promise.withResolvers<void>();
  #nextId = 1;
  #failed: WarrenError | null = null;

  constructor(link: Link, clock: Clock = systemClock) {
    this.#link = link;
    this.#clock = clock;
    this.#greeted.promise.catch(() => undefined); // a failure reaches whoever sends a command
    void this.#read();
  }

  /** Resolves at QEMU's greeting. @throws {WarrenError} `driver_failed` – closed, or silent past LIMITS.vmmStartMs. */
  ready(): Promise<void> {
    return this.#within(this.#greeted.promise, LIMITS.vmmStartMs, "greet");
  }

  /** @throws {WarrenError} `driver_failed` – refused by QEMU, closed, or no answer within `deadlineMs`. */
  command(
    name: string,
    args?: Readonly<Record<string, unknown>>,
    deadlineMs: number = LIMITS.qmpCommandMs,
  ): Promise<unknown> {
    if (this.#failed !== null) return Promise.reject(this.#failed);
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    const answered = this.#within(answer.promise, deadlineMs, name).finally(() => this.#waiting.delete(id));
    const text = JSON.stringify(args === undefined ? { execute: name, id } : { execute: name, id, arguments: args });
    void this.#write(`${text}\n`);
    return answered;
  }

  /** A connection that is closed already fails the answer that is waited for, and nothing else. */
  async #write(text: string): Promise<void> {
    try {
      await this.#link.write(new TextEncoder().encode(text));
    } catch (cause) {
      this.#fail(hostile("nothing more", cause));
    }
  }

  /** Resolves at the next event of this name. */
  event(name: string, deadlineMs: number): Promise<void> {
    if (this.#failed !== null) return Promise.reject(this.#failed);
    const seen = Promise.withResolvers<void>();
    const listeners = this.#events.get(name) ?? new Set();
    this.#events.set(name, listeners);
    listeners.add(seen);
    return this.#within(seen.promise, deadlineMs, name).finally(() => listeners.delete(seen));
  }

  close(): void {
    this.#fail(new WarrenError("driver_failed", "the VMM's monitor is closed"));
  }

  async #within<T>(promise: Promise<T>, deadlineMs: number, what: string): Promise<T> {
    const late = Promise.withResolvers<never>();
    const cancel = this.#clock.after(deadlineMs, () =>
      late.reject(new WarrenError("driver_failed", `the VMM did not answer ${what} within ${deadlineMs / 1000} s`)),
    );
    try {
      return await Promise.race([promise, late.promise]);
    } finally {
      cancel();
    }
  }

  async #read(): Promise<void> {
    const reader = new QmpReader((message) => this.#take(message));
    try {
      for await (const chunk of this.#link.bytes) reader.push(chunk);
      this.#fail(new WarrenError("driver_failed", "the VMM closed its monitor"));
    } catch (error) {
      this.#fail(error instanceof WarrenError ? error : hostile("something that broke its reader", error));
    }
  }

  #take(message: QmpMessage): void {
    if (message.kind === "greeting") this.#greeted.resolve();
    else if (message.kind === "event") for (const seen of this.#events.get(message.name) ?? []) seen.resolve();
    else if (message.kind === "return") this.#waiting.get(message.id)?.resolve(message.value);
    else this.#waiting.get(message.id)?.reject(new WarrenError("driver_failed", `the VMM refused: ${message.says}`));
  }

  #fail(error: WarrenError): void {
    this.#failed ??= error;
    this.#link.close();
    this.#greeted.reject(this.#failed);
    for (const answer of this.#waiting.values()) answer.reject(this.#failed);
    this.#waiting.clear();
    for (const listeners of this.#events.values()) for (const seen of listeners) seen.reject(this.#failed);
  }
}
