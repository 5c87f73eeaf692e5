/**
 * The only spawner of ordinary host commands (the jail has its own way). A command gets a process group of its own, a
 * deadline and a bound on what is kept of its output; when it is aborted or late, the whole group is killed.
 */
import type { Clock } from "../base/clock.ts";
import { systemClock } from "../base/clock.ts";
import { WarrenError } from "../errors.ts";

export interface RunOptions {
  /** Milliseconds until the group is killed. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
  /** Each line of stdout and stderr as it comes, without its end; at most 64 KiB of a line. */
  readonly onLine?: (line: string, stream: "stdout" | "stderr") => void;
  /** Bytes kept of each stream: its end, which is where commands say why they failed. Default 64 KiB. */
  readonly maxOutputBytes?: number;
  readonly cwd?: string;
  /** Complete environment. Default: a fixed PATH, C.UTF-8, HOME=/root: the host's own settings change nothing. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: Uint8Array;
  readonly clock?: Clock;
}

export interface RunResult {
  /** "timeout": killed at its deadline; "missing": there is no such command on this host. */
  readonly kind: "exited" | "killed" | "timeout" | "missing";
  /** null unless it exited by itself. */
  readonly exitCode: number | null;
  readonly stdout: string;
  /** Says what is wrong, too, for a command that is missing or was late. */
  readonly stderr: string;
}

export const COMMAND_ENV: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
  HOME: "/root",
  TERM: "dumb",
};

const LINE_BYTES = 64 * 1024;
/** After a command's end, for what is still in its pipes. */
const STREAMS_MS = 1000;

/** Reads a stream to its end, keeps the end of it and cuts it into lines. */
class Tail {
  #kept = "";
  #line = "";
  readonly #max: number;
  readonly #onLine: ((line: string) => void) | undefined;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  /** Settles at the end of the stream; rejects with what `onLine` throws. */
  readonly ended: Promise<void>;

  constructor(stream: ReadableStream<Uint8Array>, max: number, onLine: ((line: string) => void) | undefined) {
    this.#max = max;
    this.#onLine = onLine;
    this.#reader = stream.getReader();
    this.ended = this.#drain();
  }

  get kept(): string {
    return this.#kept;
  }

  async cancel(): Promise<void> {
    await this.#reader.cancel();
  }

  async #drain(): Promise<void> {
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) break;
      this.#add(decoder.decode(value, { stream: true }));
    }
    if (this.#line !== "") this.#onLine?.(this.#line);
  }

  #add(text: string): void {
    this.#kept = (this.#kept + text).slice(-this.#max);
    if (this.#onLine === undefined) return;
    const lines = (this.#line + text).split("\n");
    this.#line = (lines.pop() ?? "").slice(-LINE_BYTES);
    for (const line of lines) this.#onLine(line.slice(-LINE_BYTES));
  }
}

/** A function, because the compiler takes a property it saw false for false ever after. */
function aborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted ?? false;
}

/**
 * Runs a command to its end.
 * @throws {WarrenError} `cancelled` – the signal was aborted; the group is dead
 */
export async function run(argv: readonly [string, ...string[]], options: RunOptions): Promise<RunResult> {
  const env = options.env ?? COMMAND_ENV;
  if (Bun.which(argv[0], { PATH: env["PATH"] ?? "" }) === null) {
    return { kind: "missing", exitCode: null, stdout: "", stderr: `${argv[0]}: not installed` };
  }
  if (aborted(options.signal)) throw new WarrenError("cancelled", `${argv[0]} was not started: cancelled`);
  const child = Bun.spawn([...argv], {
    stdin: options.stdin ?? "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env,
    detached: true, // a session of its own, so that its pid names the group
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let late = false;
  const killGroup = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error; // gone: what was wanted
    }
  };
  const clock = options.clock ?? systemClock;
  const cancelDeadline = clock.after(options.deadlineMs, () => {
    late = true;
    killGroup();
  });
  options.signal?.addEventListener("abort", killGroup, { once: true });
  const max = options.maxOutputBytes ?? 64 * 1024;
  const lines = (stream: "stdout" | "stderr") =>
    options.onLine === undefined ? undefined : (line: string) => options.onLine?.(line, stream);
  const over = new AbortController();
  const out = new Tail(child.stdout, max, lines("stdout"));
  const err = new Tail(child.stderr, max, lines("stderr"));
  try {
    const drained = Promise.all([out.ended, err.ended]);
    // What it started and left behind may hold its streams open: its own end is what counts.
    await Promise.race([
      Promise.all([drained, child.exited]),
      child.exited.then(() => clock.sleep(STREAMS_MS, over.signal)),
    ]);
    if (aborted(options.signal)) throw new WarrenError("cancelled", `${argv[0]} was cancelled`);
    const [stdout, stderr] = [out.kept, err.kept];
    if (late) {
      const says = `${stderr}\nstill running after ${options.deadlineMs} ms`;
      return { kind: "timeout", exitCode: null, stdout, stderr: says };
    }
    return { kind: child.signalCode === null ? "exited" : "killed", exitCode: child.exitCode, stdout, stderr };
  } finally {
    over.abort();
    cancelDeadline();
    options.signal?.removeEventListener("abort", killGroup);
    if (child.exitCode === null && child.signalCode === null) killGroup(); // a callback threw: leave nothing running
    await Promise.all([out.cancel(), err.cancel()]);
  }
}

/**
 * Runs a command that has to succeed.
 * @throws {WarrenError} `host_unsupported` – there is no such command; `internal` – it failed; `cancelled`
 */
export async function runOk(argv: readonly [string, ...string[]], options: RunOptions): Promise<string> {
  const result = await run(argv, options);
  if (result.exitCode === 0) return result.stdout;
  if (result.kind === "missing") {
    throw new WarrenError("host_unsupported", `the command ${argv[0]} is not installed; run \`warren doctor\``);
  }
  const how = result.exitCode === null ? result.kind : `exit code ${result.exitCode}`;
  throw new WarrenError("internal", `${argv[0]} failed: ${how}`, {
    cause: new Error(`${argv.join(" ")}: ${how}\n${result.stderr.slice(-4096)}`),
  });
}

/** Runs a command on this process's own streams and environment, for as long as it likes; the result is its exit code. */
export async function runInForeground(argv: readonly [string, ...string[]]): Promise<number> {
  const child = Bun.spawn([...argv], { stdio: ["inherit", "inherit", "inherit"] });
  const code = await child.exited;
  return child.signalCode === null ? code : 1;
}

/** A process that lives on when this one ends. */
export interface Apart {
  readonly pid: number;
  /** Its exit code, if it ends while this process is there to see it; 128 and more stand for a signal. */
  readonly exited: Promise<number>;
}

/**
 * Starts a program that outlives this process: in a session of its own, at the root directory, without streams, with exactly
 * this environment. It keeps nothing of this process alive.
 */
export function startApart(argv: readonly [string, ...string[]], env: Readonly<Record<string, string>>): Apart {
  const stdio: ["ignore", "ignore", "ignore"] = ["ignore", "ignore", "ignore"];
  const child = Bun.spawn([...argv], { stdio, env: { ...env }, cwd: "/", detached: true });
  child.unref();
  return { pid: child.pid, exited: child.exited };
}
