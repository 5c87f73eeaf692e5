/** The parsers of what programs say: every way of cutting the same bytes gives the same, and no bytes do more than be refused. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { framed, framingOf, unframed } from "../../../src/api/edge/http/body.ts";
import { HeadReader, HttpError } from "../../../src/api/edge/http/head.ts";
import { closeOf, FrameError, FrameReader, frameOf, type Message } from "../../../src/api/edge/websocket/frames.ts";

/** A server's frame: without a mask. */
function frame(opcode: number, payload: Uint8Array, isLast = true): Uint8Array {
  const { length } = payload;
  const size = length < 126 ? [length] : length < 65_536 ? [126, length >> 8, length & 255] : null;
  const wide = new Uint8Array(9);
  wide[0] = 127;
  new DataView(wide.buffer).setBigUint64(1, BigInt(length));
  return Buffer.concat([
    Uint8Array.of((isLast ? 0x80 : 0) | opcode),
    size === null ? wide : Uint8Array.from(size),
    payload,
  ]);
}

function cut(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [...new Set(cuts.map((c) => (bytes.length === 0 ? 0 : c % bytes.length)))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length)).filter((piece) => piece.length > 0);
}

const payload = fc.uint8Array({ maxLength: 300 });
const large = fc.integer({ min: 120, max: 70_000 }).map((length) => new Uint8Array(length).fill(0x61));
const cuts = fc.array(fc.nat(100_000), { maxLength: 12 });

test("FrameReader gives whole messages however they are fragmented and cut, with pings in between", () => {
  const message = fc.record({
    parts: fc.array(fc.oneof(payload, large), { minLength: 1, maxLength: 4 }),
    pings: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), cuts, (messages, at) => {
      const wire: Uint8Array[] = [];
      const expected: string[] = [];
      for (const { parts, pings } of messages) {
        parts.forEach((part, i) => {
          wire.push(frame(i === 0 ? 2 : 0, part, i === parts.length - 1));
          if (!pings) return;
          wire.push(frame(9, Uint8Array.of(i)));
          // The last fragment's message comes first.
          if (i < parts.length - 1) expected.push("ping");
        });
        expected.push(Buffer.concat(parts).toString("hex"));
        if (pings) expected.push("ping");
      }
      const reader = new FrameReader();
      const got = cut(Buffer.concat(wire), at).flatMap((piece) => reader.take(piece));
      expect(got.map((m) => (m.kind === "binary" ? Buffer.from(m.bytes).toString("hex") : m.kind))).toEqual(expected);
    }),
  );
});

test("FrameReader refuses what RFC 6455 does, and says with which status", () => {
  const code = (...frames: Uint8Array[]): number | string => {
    try {
      return new FrameReader()
        .take(Buffer.concat(frames))
        .map((m: Message) => m.kind)
        .join();
    } catch (cause) {
      return (cause as FrameError).code;
    }
  };
  const none = new Uint8Array(0);
  expect(code(frame(1, none))).toBe("text");
  expect(code(Uint8Array.of(0xc1, 0))).toBe(1002); // an extension's bit
  expect(code(Uint8Array.of(0x81, 0x80, 1, 2, 3, 4))).toBe(1002); // a mask
  expect(code(frame(3, none))).toBe(1002);
  expect(code(frame(11, none))).toBe(1002);
  expect(code(frame(0, none))).toBe(1002); // nothing to go on with
  expect(code(frame(1, none, false), frame(2, none))).toBe(1002);
  expect(code(frame(9, none, false))).toBe(1002);
  expect(code(frame(9, new Uint8Array(126)))).toBe(1002);
  expect(code(frame(1, Uint8Array.of(0xff)))).toBe(1007);
  expect(code(frame(8, Uint8Array.of(3)))).toBe(1002);
  expect(code(frame(8, Uint8Array.of(3, 237)))).toBe(1002); // 1005 is never sent
  expect(code(frame(8, Uint8Array.of(3, 232, 0xff)))).toBe(1007);
  expect(code(frame(8, none))).toBe("close");
  const endless = Uint8Array.of(0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0);
  expect(code(endless)).toBe(1009); // before a byte of it is kept
  const parts = Array.from({ length: 17 }, (_, i) => frame(i === 0 ? 2 : 0, new Uint8Array(1024 * 1024), false));
  expect(code(...parts)).toBe(1009);
});

test("FrameReader does nothing worse to any bytes than refuse them", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), cuts, (bytes, at) => {
      const reader = new FrameReader();
      try {
        for (const piece of cut(bytes, at)) reader.take(piece);
      } catch (cause) {
        expect(cause).toBeInstanceOf(FrameError);
      }
    }),
    { numRuns: 2000 },
  );
});

test("frameOf masks, and closeOf fits a control frame whatever the reason", () => {
  fc.assert(
    fc.property(fc.oneof(payload, large), (bytes) => {
      const out = frameOf(bytes);
      const size = bytes.length < 126 ? 2 : bytes.length < 65_536 ? 4 : 10;
      expect((out[1] ?? 0) & 0x80).toBe(0x80);
      const mask = out.subarray(size, size + 4);
      const plain = out.subarray(size + 4).map((byte, i) => byte ^ (mask[i % 4] ?? 0));
      expect(Buffer.from(plain).equals(Buffer.from(bytes))).toBe(true);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 5000 }), fc.string({ maxLength: 300, unit: "binary" }), (code, reason) => {
      expect((closeOf(code, reason)[1] ?? 0) & 0x7f).toBeLessThanOrEqual(125);
    }),
  );
});

test("HeadReader reads the same head however it is cut, and leaves what is behind it", () => {
  const head =
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\nLink: x\n\nHTTP/1.0 404 Not\xe4 Found\r\nA: b\r\nSet-Cookie:c\r\nset-cookie: d \r\n\r\nrest\n\n";
  fc.assert(
    fc.property(cuts, (at) => {
      const reader = new HeadReader();
      let rest = "";
      let got: unknown = null;
      for (const piece of cut(Buffer.from(head, "latin1"), at)) {
        if (got !== null) rest += Buffer.from(piece).toString("latin1");
        else {
          const whole = reader.take(piece);
          if (whole === null) continue;
          got = whole.head;
          rest += Buffer.from(whole.rest).toString("latin1");
        }
      }
      const headers = [
        ["a", "b"],
        ["set-cookie", "c"],
        ["set-cookie", "d"],
      ];
      expect(got).toEqual({ status: 404, headers });
      expect(rest).toBe("rest\n\n");
    }),
  );
});

test("HeadReader refuses what could be read in two ways, and heads without an end", () => {
  const refuses = (text: string): boolean => {
    try {
      return new HeadReader().take(Buffer.from(text, "latin1")) === null;
    } catch (cause) {
      expect(cause).toBeInstanceOf(HttpError);
      return true;
    }
  };
  const ok = "HTTP/1.1 200 OK\r\n";
  expect(refuses(`${ok}\r\n`)).toBe(false);
  for (const bad of ["A : b", " A: b", "A", ": b", "A: b\rC: d", "A: \0", "A: b\r\n folded", "Ä: b", "A: \x1b[2J"])
    expect({ bad, refused: refuses(`${ok}${bad}\r\n\r\n`) }).toEqual({ bad, refused: true });
  for (const bad of ["HTTP/2 200", "HTTP/1.1 20", "HTTP/1.1  200 OK", "HTTP/1.1 600 X", "http/1.1 200 OK", ""])
    expect({ bad, refused: refuses(`${bad}\r\n\r\n`) }).toEqual({ bad, refused: true });
  expect(() => new HeadReader().take(Buffer.alloc(70_000, 0x41))).toThrow(HttpError);
  const waits = new HeadReader();
  const wait = Buffer.from("HTTP/1.1 100 Continue\r\n\r\n".repeat(100));
  expect(() => {
    for (let i = 0; i < 1000; i++) waits.take(wait);
  }).toThrow(HttpError);
});

async function* each(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}
async function whole(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of bytes) parts.push(part.slice());
  return Buffer.concat(parts).toString("latin1");
}

test("A body in chunks comes out as it went in, however it is cut", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(payload, { maxLength: 8 }), cuts, async (parts, at) => {
      const wire = Buffer.from(await whole(framed(each(parts), null)), "latin1");
      const body = await whole(unframed({ kind: "chunks" }, each(cut(wire, at))));
      expect(body).toBe(Buffer.concat(parts).toString("latin1"));
      const { length } = Buffer.concat(parts);
      expect(await whole(unframed({ kind: "length", bytes: length }, each([...cut(Buffer.concat(parts), at)])))).toBe(
        body,
      );
      expect(await whole(framed(each(parts), length))).toBe(body);
      await expect(whole(framed(each(parts), length + 1))).rejects.toThrow(HttpError);
      if (length > 0) await expect(whole(framed(each(parts), length - 1))).rejects.toThrow(HttpError);
    }),
  );
});

test("A body that breaks off, or whose chunks are none, is an error and never a shorter body", async () => {
  const chunks = (text: string) => whole(unframed({ kind: "chunks" }, each([Buffer.from(text, "latin1")])));
  expect(await chunks("3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n")).toBe("abc");
  for (const bad of [
    "",
    "3\r\nabc",
    "3\r\nab",
    "3\r\nabcd\r\n0\r\n\r\n",
    "-1\r\n",
    "0x3\r\nabc\r\n0\r\n\r\n",
    "\r\n",
    "g\r\n",
    "fffffffffffff\r\n",
    "3\r\nabc\r\n0\r\n",
    `3${" ".repeat(2000)}\r\nabc\r\n0\r\n\r\n`,
    `0\r\n${"A: b\r\n".repeat(100)}\r\n`,
  ])
    await expect(chunks(bad)).rejects.toThrow(HttpError);
  await expect(whole(unframed({ kind: "length", bytes: 4 }, each([Buffer.from("abc")])))).rejects.toThrow(HttpError);
});

test("framingOf decides as RFC 9112 does, and refuses two lengths", () => {
  const of = (method: string, status: number, ...headers: [string, string][]) =>
    framingOf(method, { status, headers }).kind;
  expect(of("HEAD", 200, ["content-length", "5"])).toBe("none");
  expect(of("GET", 204, ["content-length", "5"])).toBe("none");
  expect(of("GET", 304, ["transfer-encoding", "chunked"])).toBe("none");
  expect(of("GET", 200, ["content-length", "5"], ["content-length", "5"])).toBe("length");
  expect(of("GET", 200, ["transfer-encoding", "Chunked"], ["content-length", "5"])).toBe("chunks");
  expect(of("GET", 200)).toBe("rest");
  for (const headers of [
    [["content-length", "5, 6"]],
    [["content-length", "+5"]],
    [["content-length", "5e3"]],
    [["transfer-encoding", "gzip, chunked"]],
    [
      ["transfer-encoding", "chunked"],
      ["transfer-encoding", "chunked"],
    ],
    [["transfer-encoding", "identity"]],
  ] as [string, string][][])
    expect(() => of("GET", 200, ...headers)).toThrow(HttpError);
});
