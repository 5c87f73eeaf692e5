/** Server-sent events out of bytes: whatever the pieces, the blocks are the same; bounds hold. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { WarrenError } from "../../src/errors.ts";
import { type Block, BlockReader } from "../../src/sdk/sse.ts";

const LIMIT = 10_000;
const encoder = new TextEncoder();

function read(pieces: readonly Uint8Array[], limit = LIMIT): Block[] {
  const reader = new BlockReader(limit);
  return pieces.flatMap((piece) => [...reader.take(piece)]);
}

/** The bytes cut at these places, which may be the same ones. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.slice(at[i], end));
}

const line = fc.string({ unit: "grapheme", maxLength: 20 }).map((text) => text.replaceAll(/[\r\n\0]/g, "·"));
const name = line.map((text) => text.trim()).filter((text) => text !== "");
const block = fc.record({ event: fc.option(name), data: fc.array(line, { minLength: 1, maxLength: 3 }), noise: line });

function written({ event, data, noise }: { event: string | null; data: string[]; noise: string }, eol: string): string {
  const lines = [
    `: ${noise}`,
    ...(event === null ? [] : [`event: ${event}`]),
    `retry: 10`,
    ...data.map((text) => `data: ${text}`),
    `unknown:${noise}`,
  ];
  return lines.map((text) => text + eol).join("") + eol;
}

describe("BlockReader", () => {
  test("finds the same blocks however the bytes are cut, with LF and with CRLF", () => {
    fc.assert(
      fc.property(
        fc.array(block, { maxLength: 5 }),
        fc.constantFrom("\n", "\r\n"),
        fc.array(fc.nat(), { maxLength: 12 }),
        fc.boolean(),
        (blocks, eol, places, withMark) => {
          const text = (withMark ? "\ufeff" : "") + blocks.map((one) => written(one, eol)).join(`: ping${eol}${eol}`);
          const wanted = blocks.map(({ event, data }) => ({ event: event ?? "message", data: data.join("\n") }));
          expect(read(cut(encoder.encode(text), places))).toEqual(wanted);
        },
      ),
    );
  });

  test("is one byte at a time what it is at once", () => {
    const bytes = encoder.encode(
      'event: grüße 🐇\ndata: {"a":"ß"}\r\n\r\n: x\n\ndata\ndata:\ndata:  two\n\ndata: cut off\n',
    );
    const whole = read([bytes]);
    expect(read([...bytes].map((byte) => new Uint8Array([byte])))).toEqual(whole);
    expect(whole).toEqual([
      { event: "grüße 🐇", data: '{"a":"ß"}' },
      { event: "message", data: "\n\n two" },
    ]);
  });

  test("takes any bytes without failing but at its bound, and holds no more than that", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (pieces) => {
        try {
          for (const { data } of read(pieces, 500)) expect(data.length).toBeLessThanOrEqual(500);
        } catch (cause) {
          expect(cause).toBeInstanceOf(WarrenError);
        }
      }),
    );
  });

  test("refuses a block over its bound, in one line, in many, and without an end", () => {
    const long = "x".repeat(600);
    for (const text of [`data: ${long}\n\n`, `data: ${long}`, `${"data: y\n".repeat(100)}`, `event: ${long}\n`]) {
      expect(() => read([encoder.encode(text)], 500)).toThrow("more than 500 bytes");
    }
  });

  test("goes on for ever with comments and with blocks within the bound", () => {
    const reader = new BlockReader(100);
    let blocks = 0;
    for (let i = 0; i < 1000; i++) {
      for (const _ of reader.take(encoder.encode(": ping\n\n: more\ndata: 1\n\n"))) blocks += 1;
    }
    expect(blocks).toBe(1000);
  });

  test("does not look at a buffer again that its reader has been given", () => {
    const reader = new BlockReader(100);
    const bytes = encoder.encode("data: fir");
    expect([...reader.take(bytes)]).toEqual([]);
    bytes.fill(0x58);
    expect([...reader.take(encoder.encode("st\n\n"))]).toEqual([{ event: "message", data: "first" }]);
  });
});
