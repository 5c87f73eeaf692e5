/** A short run of the proxy's fuzzer, and readers broken on purpose, which it has to catch; `proxy.fuzz.ts` says how to run it for long. */
import { describe, expect, test } from "bun:test";
import { fuzzProxy, type ProxySubject, REAL } from "./proxy.fuzz.ts";

test("The proxy's readers hold under right, nearly right and hostile bytes", () => {
  const report = fuzzProxy(4000, 7);
  // All sides of the matter have been met.
  expect(report.hellos).toBe(4000);
  expect(report.requests).toBeGreaterThan(500);
  expect(report.refused).toBeGreaterThan(2000);
  expect(report.broken).toBeGreaterThan(500);
}, 60_000);

const latin = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));

/** What is broken, and what the fuzzer has to say of it. */
const BROKEN: Readonly<Record<string, readonly [Partial<ProxySubject>, string]>> = {
  "finds a name by looking for it": [
    {
      hello: (bytes) => {
        const name = /[a-z0-9_-]+(?:\.[a-z0-9_-]+)+/.exec(latin(bytes))?.[0] ?? null;
        return { kind: "hello", name, protocols: null };
      },
    },
    "not read as it was meant",
  ],
  "believes a beginning": [
    {
      hello: (bytes) => {
        const read = REAL.hello(bytes);
        return read.kind === "more" ? { kind: "hello", name: null, protocols: null } : read;
      },
    },
    "bytes are",
  ],
  "asks for less than it has": [
    {
      hello: (bytes) => {
        const read = REAL.hello(bytes);
        return read.kind === "more" ? { kind: "more", bytes: bytes.length } : read;
      },
    },
    "bytes are",
  ],
  "takes line feeds for ends of lines": [
    {
      end: (bytes) => {
        const found = /\r?\n\r?\n/.exec(latin(bytes));
        return found === null ? { kind: "more" } : { kind: "end", bytes: found.index + found[0].length };
      },
      understand: (bytes, speech) => REAL.understand(bytesOf(latin(bytes).replaceAll(/\r?\n/g, "\r\n")), speech),
    },
    "half of a line's end",
  ],
  "takes the first Host": [
    {
      understand: (bytes, speech) => {
        let seen = 0;
        const once = latin(bytes).replaceAll(/\r\nhost:[^\r]*/gi, (line) => (seen++ === 0 ? line : ""));
        return REAL.understand(bytesOf(once), speech);
      },
    },
    " or ",
  ],
  "takes the first of two lengths": [
    {
      understand: (bytes, speech) => {
        let seen = 0;
        const once = latin(bytes).replaceAll(/\r\ncontent-length:[^\r]*/gi, (line) => (seen++ === 0 ? line : ""));
        return REAL.understand(bytesOf(once), speech);
      },
    },
    "framed as",
  ],
  "takes any coding for chunked": [
    {
      understand: (bytes, speech) =>
        REAL.understand(bytesOf(latin(bytes).replace("chunked, identity", "chunked")), speech),
    },
    "framed as",
  ],
  "looks for a head's end in the last piece only": [
    { end: (bytes, from = 0) => REAL.end(bytes.subarray(from)) },
    "cuts change where",
  ],
  "decodes each piece of a body alone": [
    { chunks: () => ({ push: (bytes) => REAL.chunks().push(bytes) }) },
    "not read as it was meant",
  ],
};

describe("The proxy's fuzzer catches one that", () => {
  for (const [fault, [broken, says]] of Object.entries(BROKEN)) {
    test(fault, () => {
      expect(() => fuzzProxy(4000, 7, { subject: { ...REAL, ...broken } })).toThrow(says);
    }, 60_000);
  }
});
