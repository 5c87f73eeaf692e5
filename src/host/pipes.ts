/** What comes out of a jail over pipes: init's status records and the end of the VMM's stderr. Both are hostile input. */
import { closeFd } from "../../ffi/files.ts";
import type { Clock } from "../base/clock.ts";
import { LIMITS } from "../limits.ts";

export type Status =
  | { readonly kind: "running"; readonly sealed: boolean }
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
  if (at(0) === 1) return { kind: "running", sealed: at(1) === 1 };
  if (at(0) === 2) return { kind: "not_started", says: `${INIT_STEPS[at(1) - 1] ?? "unknown step"}: errno ${at(2)}` };
  if (at(0) === 3) return { kind: "ended", reason: at(1), code: at(2), signal: at(3) };
  return null;
}

/** Reads the pipe to its end and closes it. `first` and `last` are null when no record came. */
export function readStatus(fd: number): {
  readonly first: Promise<Status | null>;
  readonly last: Promise<Status | null>;
} {
  const first = Promise.withResolvers<Status | null>();
  const last = (async () => {
    let record: Status | null = null;
    let rest = new Uint8Array(0);
    for await (const chunk of Bun.file(fd).stream()) {
      const bytes = new Uint8Array(rest.length + chunk.length);
      bytes.set(rest);
      bytes.set(chunk, rest.length);
      let at = 0;
      for (; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
        record = parseStatus(bytes.subarray(at, at + RECORD_BYTES)) ?? record;
        if (record !== null) first.resolve(record);
      }
      rest = bytes.slice(at);
    }
    closeFd(fd);
    first.resolve(null);
    return record;
  })();
  return { first: first.promise, last };
}

/**
 * Reads the pipe and keeps its last `keepBytes`. Reads so much per 100 ms and no more: a VMM that floods it stops itself.
 * `end()` gives what was kept, closes the pipe, and does not wait for writers that may be left.
 */
export function keepTail(fd: number, keepBytes: number, clock: Clock): { end(): Promise<string> } {
  const reader = Bun.file(fd).stream().getReader();
  let kept = new Uint8Array(0);
  let ending = false;
  const take = (chunk: Uint8Array): void => {
    const all = new Uint8Array(kept.length + chunk.length);
    all.set(kept);
    all.set(chunk, kept.length);
    kept = all.slice(-keepBytes);
  };
  const pump = (async () => {
    let budget: number = LIMITS.vmmStderrReadBytes;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      take(value);
      budget -= value.length;
      if (budget > 0 || ending) continue;
      await clock.sleep(100);
      budget = LIMITS.vmmStderrReadBytes;
    }
  })();
  return {
    async end() {
      ending = true;
      // All of the jail is dead, so the pipe holds at most its 64 KiB and then ends; a descriptor that was passed on
      // to some other process may keep it open, and is not waited for.
      const waited = Promise.withResolvers<void>();
      const cancel = clock.after(100, () => waited.resolve());
      await Promise.race([pump, waited.promise]);
      cancel();
      await reader.cancel();
      closeFd(fd);
      return new TextDecoder().decode(kept);
    },
  };
}
