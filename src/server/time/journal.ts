/**
 * What the database has not taken yet, in a file of the home, so that a server that is killed loses nothing that it knew:
 * `HOME/server/moves.ndjson`, a line a row, emptied whenever all of them are written. A line is a write to the kernel (10 µs), and no
 * more: after a power failure the last proofs of life count.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { Value } from "@sinclair/typebox/value";
import type { Log } from "../../base/log.ts";
import { Move } from "../../contract/move.ts";
import { Stored } from "../../contract/stored.ts";

export interface Rows {
  readonly moves: readonly Move[];
  readonly stored: readonly Stored[];
}

export interface Journal extends Disposable {
  /** What an earlier server could not write, in its order. */
  read(): Rows;
  moved(move: Move): void;
  stored(row: Stored): void;
  /** All is written. */
  empty(): void;
}

/** Lines of which nothing more is known than that somebody wrote them; a torn one is what a crash leaves at the end. */
export function parseJournal(text: string): Rows & { readonly torn: number } {
  const [moves, stored]: [Move[], Stored[]] = [[], []];
  let torn = 0;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const row = rowOf(line);
    if (Value.Check(Move, row)) moves.push(row);
    else if (Value.Check(Stored, row)) stored.push(row);
    else torn += 1;
  }
  return { moves, stored, torn };
}

function rowOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null; // torn
  }
}

/** Opened by one server at a time. */
export function openJournal(path: string, log: Log): Journal {
  const fd = openSync(path, "a+", 0o600);
  let lines = -1; // unknown
  const append = (row: Move | Stored): void => {
    // In front of it what a crash tore, if anything: it must not tear this one too.
    const line = `${lines < 0 ? "\n" : ""}${JSON.stringify(row)}\n`;
    try {
      writeSync(fd, line);
      lines = Math.max(0, lines) + 1;
    } catch (cause) {
      log.error("a row could not be kept in the home: it is lost if this server is killed", { cause: String(cause) });
    }
  };
  return {
    read() {
      const { moves, stored, torn } = parseJournal(readFileSync(path, "utf8"));
      if (torn > 0) log.warn("lines that a crash tore are left out", { path, torn });
      if (moves.length + stored.length > 0) {
        log.info("rows that an earlier server could not write", { moves: moves.length, stored: stored.length });
      }
      return { moves, stored };
    },
    moved: append,
    stored: append,
    empty() {
      if (lines === 0) return;
      ftruncateSync(fd, 0);
      lines = 0;
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

/** For servers without a home. */
export const NO_JOURNAL: Journal = {
  read: () => ({ moves: [], stored: [] }),
  moved: () => undefined,
  stored: () => undefined,
  empty: () => undefined,
  [Symbol.dispose]: () => undefined,
};
