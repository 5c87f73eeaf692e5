/** One command of the fake guest: its output (direct, or through a bounded ring), its stdin, its end. */
import type { Clock } from "../../base/clock.ts";
import type { ProcessRecord } from "../../guest/records.ts";
import { LIMITS } from "../../limits.ts";
import type { FakeFiles } from "./files.ts";
import type { FakePorts } from "./ports.ts";
import { Killed, runArgv } from "./shell.ts";
import { FakeTerminal, type FakeTerminalSize } from "./terminal.ts";

export type Stream = "stdout" | "stderr";
/** Takes output; the pause is the backpressure. */
export type Sink = (stream: Stream, bytes: Uint8Array) => Promise<void>;

export interface ProcessStart {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string;
  /** Null: none. */
  readonly timeoutMs: number | null;
  readonly outputLimitBytes: number;
  readonly background: boolean;
  /** Null: pipes. */
  readonly terminal: FakeTerminalSize | null;
}

/** What all commands of a guest share. */
export interface Surroundings {
  readonly files: FakeFiles;
  readonly ports: FakePorts;
  readonly clock: Clock;
}

export interface ProcessEnd {
  readonly exitCode: number;
  readonly signal: number;
  readonly timedOut: boolean;
  readonly cut: Readonly<Record<Stream, boolean>>;
  readonly bytes: Readonly<Record<Stream, number>>;
  readonly durationUs: number;
}

interface Piece {
  readonly stream: Stream;
  readonly bytes: Uint8Array;
}

const SIGKILL = 9;

export class FakeProcess {
  readonly process: number;
  readonly start: ProcessStart;
  readonly ended: Promise<ProcessEnd>;
  readonly terminal: FakeTerminal | null;
  end: ProcessEnd | null = null;
  readonly #clock: Clock;
  readonly #sink: Sink | null;
  readonly #killed = new AbortController();
  readonly #bytes = { stdout: 0, stderr: 0 };
  readonly #ring: Piece[] = [];
  #ringBytes = 0;
  /** Bytes that left the ring at its old end. */
  #forgotten = 0;
  readonly #stdin: Uint8Array[] = [];
  #stdinClosed = false;
  #changed = Promise.withResolvers<void>();
  #timedOut = false;

  /** Starts at once. Without a sink, output is kept in the ring only. */
  constructor(process: number, start: ProcessStart, guest: Surroundings, sink: Sink | null) {
    this.process = process;
    this.start = start;
    this.#clock = guest.clock;
    this.#sink = sink;
    this.terminal = start.terminal === null ? null : this.#open(start.terminal);
    this.ended = this.#run(guest);
  }

  get pid(): number {
    return 100 + this.process;
  }

  get record(): ProcessRecord {
    return {
      process: this.process,
      pid: this.pid,
      background: this.start.background,
      running: this.end === null,
      exitCode: this.end?.exitCode ?? 0,
      signal: this.end?.signal ?? 0,
      command: new TextEncoder().encode(this.start.argv.join(" ")),
    };
  }

  kill(signal: number): void {
    this.#killed.abort(new Killed(signal));
  }

  feed(bytes: Uint8Array): void {
    if (this.terminal === null) this.#stdin.push(bytes);
    else this.terminal.type(bytes);
    this.#wake();
  }

  closeStdin(): void {
    if (this.terminal === null) this.#stdinClosed = true;
    else this.terminal.end();
    this.#wake();
  }

  /** What is typed becomes lines on stdin. */
  #open(size: FakeTerminalSize): FakeTerminal {
    return new FakeTerminal(size, {
      show: (bytes) => void this.#write("stdout", bytes).catch(() => undefined), // it has been killed meanwhile
      line: (bytes) => void this.#stdin.push(bytes),
      interrupt: (signal) => this.kill(signal),
    });
  }

  /** Replays what the ring holds, then follows to the end. `gap` hears of what was lost before and between. */
  async follow(gap: (bytes: number) => Promise<void>, sink: Sink): Promise<ProcessEnd> {
    let at = 0;
    for (;;) {
      if (at < this.#forgotten) {
        await gap(this.#forgotten - at);
        at = this.#forgotten;
      }
      const piece = this.#pieceAt(at);
      if (piece !== undefined) {
        at += piece.bytes.length;
        await sink(piece.stream, piece.bytes);
      } else if (this.end !== null) return this.end;
      else await this.#changed.promise;
    }
  }

  #pieceAt(offset: number): Piece | undefined {
    let at = this.#forgotten;
    for (const piece of this.#ring) {
      if (at >= offset) return piece;
      at += piece.bytes.length;
    }
    return undefined;
  }

  async #run(guest: Surroundings): Promise<ProcessEnd> {
    const startedMs = this.#clock.monotonicMs();
    const { timeoutMs } = this.start;
    const late = () => {
      this.#timedOut = true;
      this.kill(SIGKILL);
    };
    const cancel = timeoutMs === null ? null : this.#clock.after(timeoutMs, late, { background: true });
    const result = await this.#execute(guest);
    cancel?.();
    const limit = this.start.outputLimitBytes;
    this.end = {
      ...result,
      timedOut: this.#timedOut,
      cut: { stdout: this.#bytes.stdout > limit, stderr: this.#bytes.stderr > limit },
      bytes: this.#bytes,
      durationUs: Math.round((this.#clock.monotonicMs() - startedMs) * 1000),
    };
    this.#wake();
    return this.end;
  }

  async #execute({ files, ports }: Surroundings): Promise<{ exitCode: number; signal: number }> {
    const { argv, env, cwd, user } = this.start;
    const shell = {
      ...{ files, ports, env, cwd, user, clock: this.#clock, pid: this.pid, killed: this.#killed.signal },
      read: () => this.#read(),
      out: (bytes: Uint8Array) => this.#print("stdout", bytes),
      err: (bytes: Uint8Array) => this.#print("stderr", bytes),
      terminal: this.terminal,
      raise: (signal: number) => this.kill(signal),
    };
    try {
      await Promise.resolve(); // the caller has to have the process before it says anything
      return { exitCode: await runArgv(shell, argv), signal: 0 };
    } catch (cause) {
      if (!(cause instanceof Killed)) throw cause;
      return { exitCode: -1, signal: cause.signal };
    }
  }

  async #read(): Promise<Uint8Array | null> {
    for (;;) {
      this.#killed.signal.throwIfAborted();
      const chunk = this.#stdin.shift();
      if (chunk !== undefined) return this.terminal !== null && chunk.length === 0 ? null : chunk;
      if (this.#stdinClosed) return null;
      await this.#orKilled(this.#changed.promise);
    }
  }

  #print(stream: Stream, bytes: Uint8Array): Promise<void> {
    return this.terminal === null ? this.#write(stream, bytes) : this.#write("stdout", this.terminal.printed(bytes));
  }

  async #write(stream: Stream, bytes: Uint8Array): Promise<void> {
    this.#killed.signal.throwIfAborted();
    const room = Math.max(0, this.start.outputLimitBytes - this.#bytes[stream]);
    this.#bytes[stream] += bytes.length;
    const kept = bytes.subarray(0, room);
    if (kept.length === 0) return;
    if (this.#sink !== null) return this.#orKilled(this.#sink(stream, kept));
    this.#ring.push({ stream, bytes: kept.slice() });
    this.#ringBytes += kept.length;
    while (this.#ringBytes > LIMITS.ringBytes) {
      const lost = this.#ring.shift()?.bytes.length ?? 0;
      this.#ringBytes -= lost;
      this.#forgotten += lost;
    }
    this.#wake();
  }

  async #orKilled(promise: Promise<void>): Promise<void> {
    const { signal } = this.#killed;
    const { promise: killed, reject } = Promise.withResolvers<never>();
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    try {
      await Promise.race([promise, killed]);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
