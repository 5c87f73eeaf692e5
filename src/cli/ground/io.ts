/** All that a verb may touch of the process it runs in, so that tests run the same verbs in theirs. */
import type { Clock } from "../../base/clock.ts";
import type { Ground } from "./ground.ts";

export interface Sink {
  /** Escape sequences mean something here, and a person reads along. */
  readonly isTty: boolean;
  readonly columns: number;
  /** Resolves when the other side takes more. Once it has hung up, writing does nothing. */
  write(data: string | Uint8Array): Promise<void>;
}

export interface Io {
  readonly out: Sink;
  readonly err: Sink;
  readonly input: {
    readonly isTty: boolean;
    readonly bytes: () => AsyncIterable<Uint8Array>;
    /** Of a terminal: every key comes as it is pressed, and none is shown; the result takes that back. */
    readonly raw: () => () => void;
  };
  /** Of the terminal, in characters; that of an ordinary one where there is none. */
  size(): { readonly rows: number; readonly cols: number };
  /** Calls `handler` whenever that changes; the result takes it back. */
  onResize(handler: () => void): () => void;
  readonly clock: Clock;
  readonly ground: () => Promise<Ground>;
  /** Absolute path of the project, where its tests and benchmarks are. */
  readonly root: string;
  /** Calls `handler` at every Ctrl-C or request to end, instead of ending; the result takes it back. */
  onInterrupt(handler: (signal: string) => void): () => void;
  /** Ends the process now: the second Ctrl-C. */
  endNow(code: number): void;
}

/** A line on stdout; what a guest or a user wrote in it has to be escaped by now. */
export function print(io: Io, line: string): Promise<void> {
  return io.out.write(`${line}\n`);
}

/** A line for people, beside the output. */
export function note(io: Io, line: string): Promise<void> {
  return io.err.write(`${line}\n`);
}

export function printJson(io: Io, value: unknown): Promise<void> {
  return io.out.write(`${JSON.stringify(value, null, io.out.isTty ? 2 : 0)}\n`);
}
