/** What comes out of a jail over socket pairs: init's status records and the end of the VMM's stderr. Both are hostile input. */
import type { FdSocketOptions, UnixSocketOptions } from "bun";
import { closeFd } from "../../../ffi/files.ts";
import type { Clock } from "../../base/clock.ts";
import { LIMITS } from "../../limits.ts";

export type Status =
  | {
      readonly kind: "running";
      readonly sealed: boolean;
      /** Why the kernel writes down no ends, an errno; 0: it does. */
      readonly exitsErrno: number;
      /** `CLOCK_MONOTONIC` in nanoseconds right before the VMM's process was made. */
      readonly startNs: bigint;
    }
  | { readonly kind: "not_started"; readonly says: string }
  | { readonly kind: "ended"; readonly reason: number; readonly code: number; readonly signal: number };

/** The enum in ffi/init/init.h, in order, from 1. */
export const INIT_STEPS = [
  "plan",
  "fork",
  "thp",
  "caps",
  "ids",
  "privileges",
  "filter",
  "exec_path",
  "exec",
  "timer",
] as const;

const RECORD_BYTES = 16;

/** One record of init.c; null for what it never writes. */
export function parseStatus(bytes: Uint8Array): Status | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_BYTES);
  const at = (index: number): number => view.getInt32(4 * index, true);
  if (at(0) === 1) {
    const startNs = view.getBigInt64(8, true);
    return { kind: "running", sealed: (at(1) & 1) === 1, exitsErrno: at(1) >>> 8, startNs };
  }
  if (at(0) === 2) return { kind: "not_started", says: `${INIT_STEPS[at(1) - 1] ?? "unknown step"}: errno ${at(2)}` };
  if (at(0) === 3) return { kind: "ended", reason: at(1), code: at(2), signal: at(3) };
  return null;
}

interface Reader {
  /** Whether waiting for more keeps this process alive. */
  hold(yes: boolean): void;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Reads our end of a pair to its end and closes it. The bytes are the callback's only while it runs. */
function read(fd: number, take: (chunk: Uint8Array) => void, ended: () => void): Promise<Reader | null> {
  const socket = {
    data: (_: unknown, chunk: Uint8Array) => take(chunk),
    close: ended,
    error: ended,
  };
  // The runtime's types have these options, and lack the overload that takes them.
  const options: FdSocketOptions = { fd, socket };
  return Bun.connect(options as unknown as UnixSocketOptions).then(
    (open) => ({
      hold: (yes) => (yes ? open.ref() : open.unref()),
      pause: () => void open.pause(),
      resume: () => void open.resume(),
      close: () => open.terminate(),
    }),
    () => {
      closeFd(fd);
      ended(); // the end of its jail is then all that can be heard of it
      return null;
    },
  );
}

/**
 * Reads the status records to their end. `first` and `last` are null when no record came. A program that waits for `first`
 * is kept alive by it; a VMM that runs keeps nobody alive.
 */
export function readStatus(fd: number): {
  readonly first: Promise<Status | null>;
  readonly last: Promise<Status | null>;
} {
  const first = Promise.withResolvers<Status | null>();
  const last = Promise.withResolvers<Status | null>();
  let record: Status | null = null;
  let rest = new Uint8Array(0);
  const take = (chunk: Uint8Array): void => {
    const bytes = joined(rest, chunk);
    let at = 0;
    for (; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
      record = parseStatus(bytes.subarray(at, at + RECORD_BYTES)) ?? record;
      if (record !== null) first.resolve(record);
    }
    rest = bytes.slice(at);
  };
  const reader = read(fd, take, () => {
    first.resolve(null);
    last.resolve(record);
  });
  void Promise.all([reader, first.promise]).then(([open]) => open?.hold(false));
  return { first: first.promise, last: last.promise };
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

/**
 * Reads the end of a VMM's stderr and keeps its last `keepBytes`. Reads so much per 100 ms and no more: a VMM that floods
 * it stops itself. `end()` gives what was kept, closes it, and does not wait for writers that may be left.
 */
export function keepTail(fd: number, keepBytes: number, clock: Clock): { end(): Promise<string> } {
  const over = Promise.withResolvers<void>();
  let kept = new Uint8Array(0);
  let ending = false;
  let budget: number = LIMITS.vmmStderrReadBytes;
  const take = (chunk: Uint8Array): void => {
    kept = joined(kept, chunk).slice(-keepBytes);
    budget -= chunk.length;
    if (budget <= 0 && !ending) void reader.then(rest);
  };
  const rest = (open: Reader | null): void => {
    open?.pause();
    const goOn = () => {
      budget = LIMITS.vmmStderrReadBytes;
      open?.resume();
    };
    clock.after(100, goOn, { background: true });
  };
  const reader = read(fd, take, () => over.resolve());
  void reader.then((open) => open?.hold(false));
  return {
    async end() {
      ending = true;
      const open = await reader;
      open?.resume();
      // All of the jail is dead, so the socket holds no more than its buffer and then ends; a descriptor that was passed
      // on to some other process may keep it open, and is not waited for.
      const cancel = clock.after(100, () => over.resolve());
      await over.promise;
      cancel();
      open?.close();
      return new TextDecoder().decode(kept);
    },
  };
}
