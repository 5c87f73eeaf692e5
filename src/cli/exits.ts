/**
 * Exit codes. 0 done; 1 a doctor's row or `--fail-on-error` says so; 2 the caller's mistake; 130 Ctrl-C; else by whose fault
 * an error is, in the range of sysexits.h that programs hardly use. `run` and `exec` pass the program's own code on,
 * 128 + n for signal n and 124 for a timeout.
 */
import { constants } from "node:os";
import { type Fault, WarrenError } from "../errors.ts";

export const EXIT = { ok: 0, verdict: 1, usage: 2, timeout: 124, interrupted: 130 } as const;

export const EXIT_BY_FAULT: Readonly<Record<Fault, number>> = {
  caller: EXIT.usage,
  state: 69,
  ours: 70,
  host: 71,
  capacity: 75,
  guest: 76,
};

/** What the help says about them. */
export const EXIT_HELP = `Exit codes:
  0    done                          69   not possible in its present state
  1    a check or --fail-on-error    70   a fault of Warren's own
  2    a mistake in the call         71   this host: rights, space, what it lacks
  124  the program timed out         75   no room; later it may work
  130  Ctrl-C                        76   the sandbox broke
run and exec end with the program's own code, or 128 + n when signal n ended it.`;

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof WarrenError)) return EXIT_BY_FAULT.ours;
  return error.code === "cancelled" ? EXIT.interrupted : EXIT_BY_FAULT[error.fault];
}

/** The code of a program that ended, as a shell would tell it. */
export function exitCodeOfProgram(exit: {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly timedOut: boolean;
}): number {
  if (exit.timedOut) return EXIT.timeout;
  if (exit.exitCode !== null) return exit.exitCode & 0xff;
  const number = (constants.signals as Readonly<Record<string, number>>)[exit.signal ?? ""];
  return 128 + (number ?? 0);
}
