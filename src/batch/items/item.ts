/**
 * One item of a batch: the form a caller writes, and the job it means. Pure. An item is a program (`code`, Python from the
 * warm interpreter, or `cmd`, through sh) in `/work`, what goes in, and what has to come out.
 * `input` reaches the program twice, as the same text: on stdin and as `/work/input.json`. A string is that text itself,
 * any other JSON value is its JSON.
 */
import { posix } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { parse } from "../../contract/parse.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";

const GuestPath = Type.String({ pattern: "^[^\\u0000]+$", maxLength: LIMITS.pathBytes });

export const FileSource = Type.Union([
  Type.String(),
  Type.Object({ base64: Type.String() }, { additionalProperties: false }),
  /** Relative to the directory given with `--files`. */
  Type.Object({ local: Type.String({ minLength: 1 }) }, { additionalProperties: false }),
]);

export const Item = Type.Object(
  {
    /** Names the row; any text without control characters, or an integer. */
    id: Type.Union([
      Type.String({ pattern: "^[^\\u0000-\\u001f\\u007f]+$", maxLength: LIMITS.batchIdChars }),
      Type.Integer(),
    ]),
    code: Type.Optional(Type.String()),
    cmd: Type.Optional(Type.String({ pattern: "^[^\\u0000]*$" })),
    input: Type.Optional(Type.Unknown()),
    /** Guest path, absolute or relative to `/work` → content. */
    files: Type.Optional(Type.Record(Type.String(), FileSource, { maxProperties: LIMITS.batchItemFiles })),
    /** Files to bring back, or directories to bring back whole. */
    output_paths: Type.Optional(Type.Array(GuestPath, { maxItems: LIMITS.batchOutputPaths })),
    timeout_seconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.timeoutSecondsMax })),
  },
  { additionalProperties: false },
);
export type Item = Static<typeof Item>;

/** Where a file of a job comes from: bytes at hand, or a file of this host named by the caller. */
export type JobFile =
  | { readonly path: string; readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly path: string; readonly kind: "local"; readonly local: string };

/** An item, checked, with every default that does not depend on the batch. */
export interface Job {
  readonly id: string | number;
  /** The id as text: unique in a batch. */
  readonly key: string;
  readonly program: { readonly kind: "code" | "cmd"; readonly text: string };
  readonly input: string | null;
  readonly files: readonly JobFile[];
  /** Absolute guest paths. */
  readonly outputPaths: readonly string[];
  readonly timeoutSeconds: number | null;
}

export const WORK = "/work";
export const INPUT_PATH = "/work/input.json";

function bad(field: string, says: string): WarrenError {
  return new WarrenError("invalid_request", `${field}: ${says}`, { details: { field } });
}

function guestPath(field: string, path: string): string {
  const whole = posix.resolve(WORK, path);
  if (path === "" || path.includes("\0")) throw bad(field, "is no path");
  if (Buffer.byteLength(whole) > LIMITS.pathBytes) throw bad(field, `is longer than ${LIMITS.pathBytes} bytes`);
  return whole;
}

function fileOf(name: string, source: Static<typeof FileSource>): JobFile {
  const field = `files.${name}`;
  const path = guestPath(field, name);
  if (typeof source === "string") return { path, kind: "bytes", bytes: new TextEncoder().encode(source) };
  if ("local" in source) return { path, kind: "local", local: source.local };
  const bytes = Buffer.from(source.base64, "base64");
  // Buffer skips what is not base64; an answer that does not encode back was not all base64.
  const same = bytes.toString("base64").replace(/=+$/, "") === source.base64.replace(/=+$/, "");
  if (!same) throw bad(field, "base64 is not valid base64");
  return { path, kind: "bytes", bytes };
}

/**
 * The job that an item means. `inputText` is the exact text of `input` as it stood in a file, so that numbers beyond a
 * double's precision arrive as they were written.
 * @throws {WarrenError} `invalid_request` – naming the field.
 */
export function jobOf(value: unknown, inputText?: string): Job {
  const item = parse(Item, value);
  const { id, code, cmd, input } = item;
  if ((code === undefined) === (cmd === undefined)) throw bad("code", "an item has exactly one of code and cmd");
  const text = typeof input === "string" ? input : (inputText ?? JSON.stringify(input));
  const files = Object.entries(item.files ?? {}).map(([name, source]) => fileOf(name, source));
  const paths = new Set<string>(input === undefined ? [] : [INPUT_PATH]);
  for (const { path } of files) {
    if (paths.has(path)) throw bad("files", `${path} is given twice`);
    paths.add(path);
  }
  return {
    id,
    key: String(id),
    program: code !== undefined ? { kind: "code", text: code } : { kind: "cmd", text: cmd ?? "" },
    input: input === undefined ? null : text,
    files,
    outputPaths: [...new Set((item.output_paths ?? []).map((path) => guestPath("output_paths", path)))],
    timeoutSeconds: item.timeout_seconds ?? null,
  };
}
