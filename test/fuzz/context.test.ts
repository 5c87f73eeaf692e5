/** The reader of a context's answers: whatever comes, in whatever turns, it yields a sound event or a violation, in bounds. */
import { describe, expect, test } from "bun:test";
import { isWarrenError } from "../../src/errors.ts";
import { CellReader, type Said } from "../../src/guest/contexts/reader.ts";
import { piecesOf } from "../../src/guest/contexts/run.ts";
import { LIMITS } from "../../src/limits.ts";
import { Random } from "./random.ts";

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const line = (cell: string, kind: string, rest: object = {}): string =>
  `${JSON.stringify({ c: cell, k: kind, ...rest })}\n`;

/** A cell of two prints and a value in pieces, between two others. */
const CELL = [
  line("b", "begin", { n: 1 }) + line("b", "end", { status: "ok", n: 1, ms: 1, cut: false }),
  line("a", "begin", { n: 2 }),
  line("a", "out", { s: 1, d: "eins\n" }),
  line("a", "out", { s: 2, d: "zwei ü\n" }),
  line("a", "mime", { t: "text/plain", o: 0, d: "abc" }),
  line("b", "state", { busy: true, n: 2 }),
  line("a", "mime", { t: "text/plain", o: 3, d: "def" }),
  line("a", "show", { r: true, z: { "text/plain": 6 } }),
  line("a", "end", { status: "ok", n: 2, ms: 3, cut: false }),
  line("c", "begin", { n: 3 }) + line("c", "out", { s: 1, d: "no" }),
];
const WHOLE = encode(CELL.join(""));
const EVENTS: Said[] = [
  { kind: "begin" },
  { kind: "stdout", text: "eins\n" },
  { kind: "stderr", text: "zwei ü\n" },
  { kind: "result", data: { "text/plain": "abcdef" } },
  { kind: "ended", end: { status: "ok", executionCount: 2, durationMs: 3, truncated: false } },
];

function read(reader: CellReader, bytes: Uint8Array, random: Random): Said[] {
  const said: Said[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + random.below(64);
    said.push(...reader.push(bytes.subarray(at, end)));
    at = end;
  }
  return said;
}

describe("CellReader", () => {
  test("yields its own cell's events from any cut of the bytes", () => {
    for (let seed = 1; seed <= 500; seed++) {
      expect(read(new CellReader("a"), WHOLE, new Random(seed))).toEqual(EVENTS);
    }
  });

  test("has all of an answer in one line, though a cell begins right behind it", () => {
    const others = encode(CELL.join(""));
    for (const [kind, rest, said] of [
      ["state", { busy: true, n: 1 }, { kind: "state", busy: true }],
      ["refused", {}, { kind: "refused" }],
    ] as const) {
      const bytes = new Uint8Array(Buffer.concat([encode(line("q", kind, rest)), others]));
      expect(new CellReader("q").push(bytes)).toEqual([said]);
      for (let seed = 1; seed <= 100; seed++)
        expect(read(new CellReader("q"), bytes, new Random(seed))).toEqual([said]);
    }
  });

  test("skips whatever was there before its cell", () => {
    const random = new Random(7);
    for (let i = 0; i < 200; i++) {
      const before = random.bytes(random.below(600)).map((byte) => (byte === 10 ? 11 : byte));
      const bytes = new Uint8Array(Buffer.concat([before, encode("\n"), WHOLE]));
      expect(read(new CellReader("a"), bytes, random)).toEqual(EVENTS);
    }
  });

  test("a gap never makes a wrong result: what is shown is whole, and the loss is told", () => {
    const random = new Random(11);
    for (let i = 0; i < 3000; i++) {
      const reader = new CellReader("a");
      const from = random.below(WHOLE.length);
      const to = from + 1 + random.below(WHOLE.length - from);
      const said = read(reader, WHOLE.subarray(0, from), random);
      reader.gap();
      try {
        said.push(...read(reader, WHOLE.subarray(to), random));
      } catch (cause) {
        // Only when the end itself was lost: the next cell has begun.
        expect(isWarrenError(cause, "guest_protocol")).toBe(true);
      }
      for (const event of said) {
        if (event.kind !== "ended") expect(EVENTS).toContainEqual(event);
        else if (said.length < EVENTS.length) expect(event.end.truncated || said[0]?.kind !== "begin").toBe(true);
      }
    }
  });

  test("bytes that were changed are an event of a known shape or a violation, never anything else", () => {
    const random = new Random(3);
    let violations = 0;
    for (let i = 0; i < 20_000; i++) {
      const reader = new CellReader("a");
      try {
        for (const event of read(reader, random.mutate(WHOLE), random)) expect(typeof event.kind).toBe("string");
      } catch (cause) {
        if (!isWarrenError(cause, "guest_protocol")) throw cause;
        violations++;
      }
    }
    expect(violations).toBeGreaterThan(1000);
  });

  test("a line without an end is not kept, and within the cell not endured", () => {
    const flood = new Uint8Array(LIMITS.contextLineBytes).fill(120);
    const before = new CellReader("a");
    for (let i = 0; i < 20; i++) expect(before.push(flood)).toEqual([]);
    expect(before.push(encode(`\n${CELL.slice(1).join("")}`))).toEqual(EVENTS);
    const within = new CellReader("a");
    within.push(encode(CELL[1] ?? ""));
    expect(() => [within.push(flood), within.push(flood)]).toThrow("too long");
  });

  test("values that are not whole, and cells without an end, are violations", () => {
    const begin = line("a", "begin", { n: 1 });
    const bad = [
      line("a", "mime", { t: "text/plain", o: 1, d: "x" }),
      line("a", "mime", { t: "text/plain", o: 0, d: "x" }) + line("a", "show", { r: true, z: { "text/plain": 2 } }),
      line("a", "show", { r: true, z: { "image/png": 5 } }),
      line("a", "end", { status: "great", n: 1, ms: 1, cut: false }),
      line("a", "end", { status: "ok", n: -1, ms: 1, cut: false }),
      line("a", "out", { s: 3, d: "" }),
      line("b", "begin", { n: 2 }),
      "null\n",
      "[]\n",
      `${"[".repeat(100_000)}\n`,
    ];
    for (const text of bad) expect(() => new CellReader("a").push(encode(begin + text))).toThrow("broke the protocol");
  });
});

test("Source goes in pieces that no character is cut by, and none is lost", () => {
  const random = new Random(5);
  for (let i = 0; i < 200; i++) {
    const code = Array.from({ length: random.below(20_000) }, () => random.pick(["a", "é", "😀", "\ud800", "\n"])).join(
      "",
    );
    const pieces = [...piecesOf(code)];
    expect(pieces.join("")).toBe(code);
    const cuts = pieces.slice(1).map((piece, n) => `${pieces[n]?.at(-1)}${piece[0]}`);
    for (const cut of cuts) expect(/[\uD800-\uDBFF][\uDC00-\uDFFF]/.test(cut)).toBe(false);
  }
});
