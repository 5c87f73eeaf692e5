/** The process that a command line really runs in: its streams, its signals, its end. */
import { join } from "node:path";
import type { ReadStream, WriteStream } from "node:tty";
import { systemClock } from "../../base/clock.ts";
import { EXIT } from "../exits.ts";
import type { Io, Sink } from "./io.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

function sink(stream: WriteStream): Sink {
  let isOpen = true;
  // A reader that has seen enough, such as `head`: what is left to say has no listener, which is no error.
  stream.on("error", () => {
    isOpen = false;
  });
  return {
    get isTty() {
      return stream.isTTY === true;
    },
    get columns() {
      return stream.columns ?? 80;
    },
    write: (data) =>
      new Promise((resolve) => {
        if (!isOpen || data.length === 0) resolve();
        else stream.write(data, () => resolve());
      }),
  };
}

async function* bytesOf(stream: ReadStream): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) yield chunk as Uint8Array;
}

function interrupts(): Io["onInterrupt"] {
  const handlers: ((signal: string) => void)[] = [];
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      const handler = handlers.at(-1);
      if (handler === undefined) process.exit(EXIT.interrupted);
      handler(signal);
    });
  }
  return (handler) => {
    handlers.push(handler);
    return () => {
      const at = handlers.lastIndexOf(handler);
      if (at >= 0) handlers.splice(at, 1);
    };
  };
}

/** As the guest takes it. */
function sideOf(value: number | undefined, fallback: number): number {
  return value === undefined || value < 1 ? fallback : Math.min(value, 1000);
}

export function processIo(ground: Io["ground"]): Io {
  return {
    out: sink(process.stdout),
    err: sink(process.stderr),
    input: {
      isTty: process.stdin.isTTY === true,
      bytes: () => bytesOf(process.stdin),
      raw: () => {
        process.stdin.setRawMode(true);
        return () => process.stdin.setRawMode(false);
      },
    },
    size: () => ({ rows: sideOf(process.stdout.rows, 24), cols: sideOf(process.stdout.columns, 80) }),
    onResize: (handler) => {
      process.stdout.on("resize", handler);
      return () => process.stdout.off("resize", handler);
    },
    clock: systemClock,
    ground,
    root: join(import.meta.dir, "../../.."),
    onInterrupt: interrupts(),
    endNow: (code) => process.exit(code),
  };
}
