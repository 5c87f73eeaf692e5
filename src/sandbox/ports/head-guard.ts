/** Bounds the head of an HTTP answer, interim ones included: clients keep all of it in memory until it ends. */
import { WarrenError } from "../../errors.ts";

const HEAD_BYTES = 64 * 1024;
const LF = 0x0a;
const CR = 0x0d;
/** `HTTP/1.1 1`: an interim answer, after which another head comes. Of 101 only the head is HTTP. */
const INTERIM = /^HTTP\/1\.[01] 1(?!01)/;
const STATUS_BYTES = 12;

export class HeadGuard {
  readonly #port: number;
  #seen = 0;
  #status = "";
  /** The line so far is empty. */
  #isEmptyLine = false;
  #isOver = false;

  constructor(port: number) {
    this.#port = port;
  }

  /** @throws {WarrenError} `guest_protocol` – the head is too long */
  take(piece: Uint8Array): void {
    for (let i = 0; i < piece.length && !this.#isOver; i++) this.#byte(piece[i] ?? 0);
  }

  #byte(byte: number): void {
    this.#seen += 1;
    if (this.#seen > HEAD_BYTES) {
      const says = `the program behind port ${this.#port} of the sandbox answered with more than ${HEAD_BYTES} bytes of HTTP head`;
      throw new WarrenError("guest_protocol", says, { details: { port: this.#port } });
    }
    if (this.#status.length < STATUS_BYTES) this.#status += String.fromCharCode(byte);
    if (byte === LF && this.#isEmptyLine) {
      this.#isOver = !INTERIM.test(this.#status);
      this.#status = "";
      this.#isEmptyLine = false;
    } else if (byte === LF) this.#isEmptyLine = true;
    else if (byte !== CR) this.#isEmptyLine = false;
  }
}
