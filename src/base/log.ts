/** Diagnostics for the operator, one JSON object a line on stderr; silent below the chosen level. Never guest bytes unescaped. */

export type Level = "debug" | "info" | "warn" | "error" | "silent";
const ORDER: Readonly<Record<Level, number>> = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 };

export interface Log {
  debug(says: string, facts?: Readonly<Record<string, unknown>>): void;
  info(says: string, facts?: Readonly<Record<string, unknown>>): void;
  warn(says: string, facts?: Readonly<Record<string, unknown>>): void;
  error(says: string, facts?: Readonly<Record<string, unknown>>): void;
}

/** JSON escapes C0 by itself; C1 and bidirectional controls are escaped here, so a log line is safe on any terminal. */
function line(level: Level, says: string, facts: Readonly<Record<string, unknown>>): string {
  const text = JSON.stringify({ level, says, ...facts });
  return text.replace(
    /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A log that writes lines at or above `level` through `write`. */
export function createLog(level: Level, write: (line: string) => void = (l) => process.stderr.write(`${l}\n`)): Log {
  const at =
    (own: Level) =>
    (says: string, facts: Readonly<Record<string, unknown>> = {}): void => {
      if (ORDER[own] >= ORDER[level]) write(line(own, says, facts));
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
