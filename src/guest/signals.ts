/** Linux signals by number and by name, as on x86-64 and arm64: the guest's, whatever the host runs. */
import { WarrenError } from "../errors.ts";

const NAMES = (
  "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT " +
  "CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split(" ");
const ALIASES: Readonly<Record<string, number>> = { SIGIOT: 6, SIGCLD: 17, SIGPOLL: 29 };

/** `SIGKILL` for 9; `SIG40` for what has no name of its own. */
export function signalName(number: number): string {
  return `SIG${NAMES[number - 1] ?? number}`;
}

/** @throws {WarrenError} `invalid_request` – no such signal. */
export function signalNumber(signal: number | string): number {
  if (typeof signal === "number") return signal;
  const known = NAMES.indexOf(signal.slice(3)) + 1;
  if (signal.startsWith("SIG") && known > 0) return known;
  const number = ALIASES[signal] ?? (/^SIG(3[2-9]|[45]\d|6[0-4])$/.test(signal) ? Number(signal.slice(3)) : 0);
  if (number === 0) throw new WarrenError("invalid_request", `signal: ${signal} is none of Linux`);
  return number;
}
