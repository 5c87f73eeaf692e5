/** Nothing that a guest or a user wrote can do anything to a terminal. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { EscapedStream, escapeLine, escapeText } from "../../src/base/escape.ts";

/** C0 without the allowed, DEL, C1, bidirectional and invisible format characters, separators, lone surrogates. */
const DANGEROUS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0001}-\u{e007f}]/u;
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

const nasty = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({
    unit: fc.constantFrom(
      "\x1b",
      "[",
      "2",
      "J",
      "\x9b",
      "\u202e",
      "\r",
      "\n",
      "\t",
      "a",
      "\ud800",
      "\udc00",
      "\u{e0041}",
      "\u200d",
      "\x7f",
    ),
  }),
);

describe("escapeLine", () => {
  test("escapeLine leaves no control of any kind, whatever comes in", () => {
    fc.assert(
      fc.property(nasty, (text) => {
        const safe = escapeLine(text);
        expect(safe).not.toMatch(DANGEROUS);
        expect(safe).not.toMatch(/[\n\t]/);
        expect(safe).not.toMatch(LONE_SURROGATE);
      }),
      { numRuns: 2000 },
    );
  });

  test("escapeLine shows what was there", () => {
    expect(escapeLine("a\x1b[2Jb\nc\td\u202ee\x9bf")).toBe("a\\x1b[2Jb\\nc\\td\\u{202e}e\\x9bf");
  });

  test("escapeLine leaves ordinary text of all scripts alone", () => {
    for (const text of ["naïve café", "日本語", "עברית", "नमस्ते", "👩‍👩‍👧 ok", "a\\b"])
      expect(escapeLine(text)).toBe(text);
  });
});

describe("escapeText", () => {
  test("escapeText keeps newlines and tabs and nothing else that controls", () => {
    fc.assert(
      fc.property(nasty, (text) => {
        const safe = escapeText(text);
        expect(safe).not.toMatch(DANGEROUS);
        expect(safe).not.toMatch(LONE_SURROGATE);
      }),
      { numRuns: 2000 },
    );
    expect(escapeText("a\r\nb\rc\td\n")).toBe("a\nb\\rc\td\n");
  });
});

describe("EscapedStream", () => {
  test("EscapedStream gives the same text however the bytes are cut", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.array(fc.nat(60), { maxLength: 6 }), (bytes, cuts) => {
        const stream = new EscapedStream();
        let text = "";
        let at = 0;
        for (const cut of [...cuts.sort((a, b) => a - b), bytes.length]) {
          text += stream.next(bytes.subarray(at, Math.min(cut, bytes.length)));
          at = Math.max(at, Math.min(cut, bytes.length));
        }
        text += stream.end();
        const whole = escapeText(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
        // A carriage return at the very end has no newline to wait for any more.
        expect(text).toBe(whole);
        expect(text).not.toMatch(DANGEROUS);
      }),
      { numRuns: 2000 },
    );
  });
});
