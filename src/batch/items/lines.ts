/**
 * Bytes → lines → items. A line that cannot be used is told with its number and skipped; the rest is not affected. No more
 * than one line is held, and no more of it than the limit.
 */
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { type Job, jobOf } from "./item.ts";
import { rawMember } from "./raw-json.ts";

/** One line of an items file; numbers count from 1. */
export type Line =
  | { readonly kind: "job"; readonly number: number; readonly job: Job }
  | { readonly kind: "bad"; readonly number: number; readonly says: string };

/** A line's bytes without its newline, or null when it is longer than the limit. */
type RawLine = Uint8Array | null;

const NEWLINE = 10;

/** Splits at newlines; the bytes behind the last one are a line too, unless there are none. */
export async function* splitLines(
  chunks: AsyncIterable<Uint8Array>,
  lineBytes: number = LIMITS.batchLineBytes,
): AsyncGenerator<RawLine> {
  let parts: Uint8Array[] = [];
  let held = 0;
  const add = (part: Uint8Array) => {
    held += part.length;
    if (held > lineBytes) parts = [];
    else parts.push(part);
  };
  const take = (): RawLine => {
    const line = held > lineBytes ? null : Buffer.concat(parts);
    parts = [];
    held = 0;
    return line;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end < 0) break;
      add(chunk.subarray(start, end));
      yield take();
      start = end + 1;
    }
    // A copy: a stream may reuse its buffer for the next chunk.
    if (start < chunk.length) add(chunk.slice(start));
  }
  if (held > 0) yield take();
}

function isBlank(line: Uint8Array): boolean {
  return line.every((byte) => byte === 32 || byte === 9 || byte === 13);
}

/** @throws {WarrenError} `invalid_request` – not UTF-8, not JSON, or not an item. */
function parseLine(line: Uint8Array): Job {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(line);
  } catch (cause) {
    throw new WarrenError("invalid_request", "is not UTF-8", { cause });
  }
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WarrenError("invalid_request", `is not JSON: ${why}`, { cause });
  }
  return jobOf(value, rawMember(text, "input") ?? undefined);
}

/** The items of a JSONL file, in order; blank lines are nothing, an id that was there before is a bad line naming both. */
export async function* readJobs(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  const seen = new Map<string, number>();
  let number = 0;
  for await (const raw of splitLines(chunks)) {
    number += 1;
    if (raw === null) {
      yield { kind: "bad", number, says: `is longer than ${LIMITS.batchLineBytes} bytes` };
      continue;
    }
    if (isBlank(raw)) continue;
    try {
      const job = parseLine(raw);
      const before = seen.get(job.key);
      if (before !== undefined) {
        yield { kind: "bad", number, says: `repeats the id ${JSON.stringify(job.key)} of line ${before}` };
        continue;
      }
      seen.set(job.key, number);
      yield { kind: "job", number, job };
    } catch (cause) {
      if (!(cause instanceof WarrenError)) throw cause;
      yield { kind: "bad", number, says: cause.message };
    }
  }
}
