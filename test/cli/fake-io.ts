/** A process for command lines that is none: what is written is kept, signals are sent by hand, the ground is a stub's. */
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import type { Finding, Ground, Opened } from "../../src/cli/ground/ground.ts";
import type { Io, Sink } from "../../src/cli/ground/io.ts";
import { runCli } from "../../src/cli/program.ts";
import { tryLockFile } from "../../src/host/home/lock.ts";
import { StubHost } from "../batch/stub-host.ts";

export interface FakeIoOptions {
  readonly isTty?: boolean;
  readonly stdin?: string;
  readonly stub?: StubHost;
  readonly ground?: Partial<Ground>;
  readonly findings?: readonly Finding[];
  /** Keys as they are pressed, in place of `stdin`. */
  readonly keys?: AsyncIterable<Uint8Array>;
}

export class FakeIo implements Io {
  readonly stub: StubHost;
  readonly chunks = { out: [] as Uint8Array[], err: [] as Uint8Array[] };
  readonly out: Sink;
  readonly err: Sink;
  readonly input: Io["input"];
  readonly clock = systemClock;
  readonly root = join(import.meta.dir, "../..");
  readonly ended: number[] = [];
  /** How often the terminal was made to show no keys. */
  unseen = 0;
  /** Called after each write to stdout or stderr. */
  onWrite: () => void = () => undefined;
  readonly #handlers: ((signal: string) => void)[] = [];
  readonly #ground: Ground;

  constructor(options: FakeIoOptions = {}) {
    this.stub = options.stub ?? new StubHost();
    const isTty = options.isTty ?? false;
    this.out = this.#sink("out", isTty);
    this.err = this.#sink("err", isTty);
    this.input = {
      isTty,
      raw: () => {
        this.unseen += 1;
        return () => undefined;
      },
      bytes: async function* () {
        if (options.keys !== undefined) yield* options.keys;
        if (options.stdin !== undefined) yield new TextEncoder().encode(options.stdin);
      },
    };
    const opened: Opened = {
      host: this.stub.host,
      moves: this.stub.moves,
      cores: 2,
      memoryMib: () => 100,
      [Symbol.asyncDispose]: async () => undefined,
    };
    this.#ground = {
      home: "/fake/home",
      open: async () => opened,
      examine: async () => options.findings ?? [],
      clean: async () => ({ killed: 0, home: "/fake/home" }),
      runScript: async () => 0,
      lock: tryLockFile,
      target: async ({ host }) => (host === undefined ? null : { url: host, key: "k" }),
      connect: () => Promise.reject(new Error("this ground has no server")),
      keepLogin: async () => "/fake/login",
      ...options.ground,
    };
  }

  readonly ground = async (): Promise<Ground> => this.#ground;

  #sink(name: "out" | "err", isTty: boolean): Sink {
    return {
      isTty,
      columns: 100,
      write: async (data) => {
        this.chunks[name].push(typeof data === "string" ? new TextEncoder().encode(data) : data.slice());
        this.onWrite();
      },
    };
  }

  /** What the terminal's size is, and who hears of a change. */
  sides = { rows: 24, cols: 100 };
  readonly resized = new Set<() => void>();

  size(): { readonly rows: number; readonly cols: number } {
    return this.sides;
  }

  onResize(handler: () => void): () => void {
    this.resized.add(handler);
    return () => this.resized.delete(handler);
  }

  onInterrupt(handler: (signal: string) => void): () => void {
    this.#handlers.push(handler);
    return () => this.#handlers.splice(this.#handlers.lastIndexOf(handler), 1);
  }

  endNow(code: number): void {
    this.ended.push(code);
  }

  /** Ctrl-C. */
  interrupt(): void {
    this.#handlers.at(-1)?.("SIGINT");
  }

  bytes(name: "out" | "err"): Uint8Array {
    return Buffer.concat(this.chunks[name]);
  }

  text(name: "out" | "err"): string {
    return new TextDecoder().decode(this.bytes(name));
  }

  /** One command line in this process; the result is its exit code. */
  run(...args: string[]): Promise<number> {
    return runCli(args, this);
  }
}
