/** What the fields of a request say, as the fake guest takes it. */
import type { Fields } from "../../guest/fields.ts";
import { EXEC_FLAG, TAG } from "../../guest/protocol.ts";
import { key } from "./files.ts";
import type { ProcessStart } from "./process.ts";
import type { FakeTerminalSize } from "./terminal.ts";

export function startOf(fields: Fields, flags: number): ProcessStart {
  const terminal = fields.has(TAG.ROWS) ? sizeOf(fields) : null;
  const defaults = terminal === null ? {} : { TERM: "xterm-256color" };
  return {
    argv: fields.all(TAG.ARG).map((arg) => new TextDecoder().decode(arg)),
    env: { ...defaults, ...Object.fromEntries(fields.all(TAG.ENV).map(entry)) },
    cwd: fields.has(TAG.CWD) ? fields.text(TAG.CWD) : "/root",
    user: fields.has(TAG.USER) ? fields.text(TAG.USER) : "root",
    timeoutMs: fields.has(TAG.TIMEOUT_MS) ? fields.number(TAG.TIMEOUT_MS) : null,
    outputLimitBytes: fields.has(TAG.OUTPUT_LIMIT) ? fields.number(TAG.OUTPUT_LIMIT) : Number.POSITIVE_INFINITY,
    background: (flags & EXEC_FLAG.BACKGROUND) !== 0,
    terminal,
  };
}

export function sizeOf(fields: Fields): FakeTerminalSize {
  return { rows: fields.number(TAG.ROWS), cols: fields.number(TAG.COLS) };
}

export function path(fields: Fields): string {
  return key(fields.bytes(TAG.PATH));
}

function entry(bytes: Uint8Array): readonly [string, string] {
  const text = new TextDecoder().decode(bytes);
  const at = text.indexOf("=");
  return [text.slice(0, at), text.slice(at + 1)];
}
