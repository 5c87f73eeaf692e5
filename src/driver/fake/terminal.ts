/** A terminal of the fake guest: what is typed is shown, edited and handed on by lines; what is printed gets its returns. */

export interface FakeTerminalSize {
  readonly rows: number;
  readonly cols: number;
}

/** Where it all goes. */
interface Ends {
  readonly show: (bytes: Uint8Array) => void;
  /** A line, or an empty one for the end. */
  readonly line: (bytes: Uint8Array) => void;
  readonly interrupt: (signal: number) => void;
}

const SIGINT = 2;
const [END, INTERRUPT, ERASE, LINE, RETURN] = [0x04, 0x03, 0x7f, 0x0a, 0x0d];

export class FakeTerminal {
  size: FakeTerminalSize;
  readonly #ends: Ends;
  #line: number[] = [];
  #interrupt: (signal: number) => void;

  constructor(size: FakeTerminalSize, ends: Ends) {
    this.size = size;
    this.#ends = ends;
    this.#interrupt = ends.interrupt;
  }

  /** Who is interrupted from now on, until the result is called. */
  foreground(interrupt: (signal: number) => void): () => void {
    this.#interrupt = interrupt;
    return () => {
      this.#interrupt = this.#ends.interrupt;
    };
  }

  type(bytes: Uint8Array): void {
    for (const byte of bytes) this.#key(byte);
  }

  /** The keyboard goes: half a line is handed on first. */
  end(): void {
    if (this.#line.length > 0) this.#key(END);
    this.#key(END);
  }

  /** What a program prints, as it is shown. */
  printed(bytes: Uint8Array): Uint8Array {
    if (!bytes.includes(LINE)) return bytes;
    return new Uint8Array(Buffer.from(Buffer.from(bytes).toString("latin1").replaceAll("\n", "\r\n"), "latin1"));
  }

  #key(byte: number): void {
    if (byte === INTERRUPT) {
      this.#line = [];
      this.#show("^C");
      this.#interrupt(SIGINT);
    } else if (byte === ERASE) {
      if (this.#line.pop() !== undefined) this.#show("\b \b");
    } else if (byte === END) this.#hand();
    else if (byte === LINE || byte === RETURN) {
      this.#line.push(LINE);
      this.#show("\r\n");
      this.#hand();
    } else {
      this.#line.push(byte);
      this.#ends.show(Uint8Array.of(byte));
    }
  }

  #hand(): void {
    this.#ends.line(Uint8Array.from(this.#line));
    this.#line = [];
  }

  #show(text: string): void {
    this.#ends.show(new TextEncoder().encode(text));
  }
}
