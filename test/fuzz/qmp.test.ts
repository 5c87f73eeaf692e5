/** A short run of the QMP fuzzer, and readers broken on purpose, which it has to catch; `qmp.fuzz.ts` says how to run it for long. */
import { describe, expect, test } from "bun:test";
import type { Link } from "../../src/driver/driver.ts";
import { parseQmpLine, Qmp, type QmpMessage, QmpReader } from "../../src/driver/qemu/qmp.ts";
import { WarrenError } from "../../src/errors.ts";
import { fuzzQmp, REAL, type Subject } from "./qmp.fuzz.ts";

test("The QMP reader and its connection hold under right, nearly right and hostile conversations", async () => {
  const report = await fuzzQmp(4000, 7);
  // All sides of the matter have been met: messages, violations, waits that were answered and waits that failed.
  expect(report.messages).toBeGreaterThan(10_000);
  expect(report.refused).toBeGreaterThan(400);
  expect(report.answered).toBeGreaterThan(1000);
  expect(report.failed).toBeGreaterThan(1000);
}, 60_000);

type Reader = ReturnType<Subject["reader"]>;
type Take = (message: QmpMessage) => void;

const decoded = (bytes: Uint8Array): string => new TextDecoder("utf-8", { fatal: true }).decode(bytes);

/** Right but for its bound, which it has not, and for what `parse` does. */
function plainReader(parse: (line: Uint8Array) => void): Reader {
  let held: Uint8Array = new Uint8Array(0);
  return {
    heldBytes: 0,
    push(chunk) {
      held = Buffer.concat([held, chunk]);
      for (let end = held.indexOf(10); end >= 0; end = held.indexOf(10)) {
        const line = held.subarray(0, end);
        held = held.subarray(end + 1);
        parse(line);
      }
    },
  };
}

function parseTyped(line: Uint8Array, take: Take): void {
  let text: string;
  try {
    text = decoded(line);
  } catch (cause) {
    throw new WarrenError("driver_failed", "not UTF-8", { cause });
  }
  if (text.trim() !== "") take(parseQmpLine(text));
}

/** Makes text of each chunk before it looks for lines. */
function textReader(take: Take): Reader {
  const decoder = new TextDecoder();
  const inner = new QmpReader(take);
  return {
    heldBytes: 0,
    push: (chunk) => inner.push(new TextEncoder().encode(decoder.decode(chunk))),
  };
}

/** Gives what a chunk held only when all of it was good. */
function lateReader(take: Take): Reader {
  const seen: QmpMessage[] = [];
  const inner = new QmpReader((message) => seen.push(message));
  return {
    get heldBytes() {
      return inner.heldBytes;
    },
    push(chunk) {
      inner.push(chunk);
      for (const message of seen.splice(0)) take(message);
    },
  };
}

/** Holds what it was given for ever. */
function hoardingReader(take: Take): Reader {
  const inner = new QmpReader(take);
  const reader = {
    heldBytes: 0,
    push(chunk: Uint8Array) {
      inner.push(chunk);
      reader.heldBytes += chunk.length;
    },
  };
  return reader;
}

/** A connection whose bytes come through `change`. */
function through(change: (link: Link) => AsyncIterable<Uint8Array>): Subject["monitor"] {
  return (link, clock) => new Qmp({ ...link, bytes: change(link) }, clock);
}

async function* neverEnding(link: Link): AsyncGenerator<Uint8Array> {
  yield* link.bytes;
  await new Promise(() => undefined);
}

async function* swapped(link: Link): AsyncGenerator<Uint8Array> {
  for await (const chunk of link.bytes)
    yield Buffer.from(Buffer.from(chunk).toString("latin1").replace('"id":2', '"id":1'), "latin1");
}

async function* forgetful(link: Link): AsyncGenerator<Uint8Array> {
  let count = 0;
  for await (const chunk of link.bytes) if (++count % 5 !== 0) yield chunk;
}

/** What is broken, and what the fuzzer has to say of it. */
const BROKEN: Readonly<Record<string, readonly [Partial<Subject>, string]>> = {
  "throws what is no typed error": [
    { reader: (take) => plainReader((line) => JSON.parse(decoded(line)) && parseTyped(line, take)) },
    "SyntaxError",
  ],
  "has no bound": [{ reader: (take) => plainReader((line) => parseTyped(line, take)) }, "cuts decide what is refused"],
  "decodes each chunk alone": [{ reader: textReader }, "cuts change what is read"],
  "loses answers that share a chunk with a violation": [{ reader: lateReader }, "cuts change what is read"],
  "holds more than the line": [{ reader: hoardingReader }, "bytes are held of a line of"],
  "leaves its waits when the monitor hangs up": [{ monitor: through(neverEnding) }, "never ends"],
  "gives a command another's answer": [{ monitor: through(swapped) }, "answer"],
  "loses bytes": [{ monitor: through(forgetful) }, "was answered and still failed"],
};

describe("The QMP fuzzer catches one that", () => {
  for (const [fault, [broken, says]] of Object.entries(BROKEN)) {
    test(fault, async () => {
      await expect(fuzzQmp(4000, 7, { subject: { ...REAL, ...broken } })).rejects.toThrow(says);
    }, 60_000);
  }
});
