/** Frames, fields and records: round trips, every cut, bounds before allocation. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isWarrenError } from "../../src/errors.ts";
import { encodeFrame, type Frame, FrameDecoder } from "../../src/guest/codec.ts";
import { decodeFields, encodeFields, type Field } from "../../src/guest/fields.ts";
import { TAG } from "../../src/guest/protocol.ts";
import {
  CHANGES,
  decodeChangeRecords,
  decodeFileRecords,
  decodeProcessRecords,
  encodeChangeRecord,
  encodeFileRecord,
  encodeProcessRecord,
  FILE_TYPES,
} from "../../src/guest/records.ts";
import { LIMITS } from "../../src/limits.ts";

function violates(job: () => unknown): void {
  let caught: unknown;
  try {
    job();
  } catch (error) {
    caught = error;
  }
  expect(isWarrenError(caught, "guest_protocol")).toBe(true);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

const frames = fc.array(
  fc.record({ type: fc.nat(255), channel: fc.nat(0xffffffff), payload: fc.uint8Array({ maxLength: 300 }) }),
  { maxLength: 8 },
);

describe("FrameDecoder", () => {
  test("FrameDecoder gives back what was encoded, whatever the cuts", () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(1 << 20), { maxLength: 12 }), (sent, cuts) => {
        const bytes = join(sent.map((f) => encodeFrame(f.type, f.channel, f.payload)));
        const at = [0, ...cuts.map((c) => c % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
        const decoder = new FrameDecoder();
        const got: Frame[] = [];
        for (let i = 1; i < at.length; i++) got.push(...decoder.push(bytes.subarray(at[i - 1], at[i])));
        expect(got).toEqual(sent);
        expect(decoder.pendingBytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("FrameDecoder accepts a cut at every single byte", () => {
    const sent = [
      encodeFrame(1, 7, Uint8Array.of(1, 2, 3)),
      encodeFrame(2, 0),
      encodeFrame(255, 0xffffffff, Uint8Array.of(9)),
    ];
    const bytes = join(sent);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const decoder = new FrameDecoder();
      const got = [...decoder.push(bytes.subarray(0, cut)), ...decoder.push(bytes.subarray(cut))];
      expect(got.map((f) => f.type)).toEqual([1, 2, 255]);
      expect(join(got.map((f) => encodeFrame(f.type, f.channel, f.payload)))).toEqual(bytes);
    }
  });

  test("FrameDecoder takes the largest frame and refuses one byte more, from its header alone", () => {
    const largest = encodeFrame(0x91, 1, new Uint8Array(LIMITS.frameBytes));
    expect(new FrameDecoder().push(largest)).toHaveLength(1);
    expect(() => encodeFrame(0x91, 1, new Uint8Array(LIMITS.frameBytes + 1))).toThrow("fits its frame");
    const header = largest.slice(0, 12);
    new DataView(header.buffer).setUint32(0, LIMITS.frameBytes + 1, true);
    violates(() => new FrameDecoder().push(header));
  });

  test("FrameDecoder stays broken after a violation", () => {
    const decoder = new FrameDecoder();
    violates(() => decoder.push(new Uint8Array(12).fill(0xff)));
    violates(() => decoder.push(encodeFrame(1, 1)));
  });

  test("FrameDecoder refuses stray bits in a header", () => {
    for (const at of [5, 6, 7]) {
      const bytes = encodeFrame(1, 1);
      bytes[at] = 1;
      violates(() => new FrameDecoder().push(bytes));
    }
  });

  test("FrameDecoder yields payloads that do not change with the pushed buffer", () => {
    const bytes = encodeFrame(1, 1, Uint8Array.of(5));
    const [frame] = new FrameDecoder().push(bytes);
    bytes.fill(0);
    expect(frame?.payload).toEqual(Uint8Array.of(5));
  });
});

describe("Fields", () => {
  test("Fields give back integers, text, bytes and repeated values", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
        fc.string({ unit: "grapheme" }),
        fc.array(fc.uint8Array({ maxLength: 40 })),
        (u, i, text, args) => {
          const list: Field[] = [
            [TAG.WALL_NS, u],
            [TAG.CODE, i],
            [TAG.TEXT, text],
            ...args.map((a): Field => [TAG.ARG, a]),
          ];
          const fields = decodeFields(encodeFields(list));
          expect(fields.u64(TAG.WALL_NS)).toBe(u);
          expect(fields.i64(TAG.CODE)).toBe(i);
          expect(fields.text(TAG.TEXT)).toBe(text);
          expect(fields.all(TAG.ARG)).toEqual(args);
          expect(fields.has(TAG.PID)).toBe(false);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("Fields skip unknown tags and refuse a known one twice", () => {
    expect(
      decodeFields(
        encodeFields([
          [200, 1],
          [200, 2],
          [TAG.PID, 3],
        ]),
      ).number(TAG.PID),
    ).toBe(3);
    violates(() =>
      decodeFields(
        encodeFields([
          [TAG.PID, 1],
          [TAG.PID, 2],
        ]),
      ),
    );
  });

  test("Fields refuse every truncation", () => {
    const bytes = encodeFields([
      [TAG.PID, 1],
      [TAG.TEXT, "hello"],
    ]);
    for (let cut = 1; cut < bytes.length; cut++) {
      if (cut === 13) continue; // exactly one whole field
      violates(() => decodeFields(bytes.subarray(0, cut)));
    }
  });

  test("Fields refuse integers of the wrong width or beyond a double", () => {
    violates(() => decodeFields(encodeFields([[TAG.PID, Uint8Array.of(1)]])).number(TAG.PID));
    violates(() => decodeFields(encodeFields([[TAG.PID, 2n ** 60n]])).number(TAG.PID));
    violates(() => decodeFields(encodeFields([])).number(TAG.PID));
  });
});

describe("Records", () => {
  const name = fc.uint8Array({ maxLength: 255 });
  test("Records of files and processes survive the round trip", () => {
    const file = fc.record({
      type: fc.constantFrom(...FILE_TYPES),
      mode: fc.nat(0o7777),
      uid: fc.nat(0xffffffff),
      gid: fc.nat(0xffffffff),
      sizeBytes: fc.maxSafeNat(),
      mtimeNs: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      name,
      target: name,
    });
    const process = fc.record({
      process: fc.maxSafeNat(),
      pid: fc.nat(0xffffffff),
      background: fc.boolean(),
      running: fc.boolean(),
      exitCode: fc.integer(),
      signal: fc.nat(255),
      command: name,
    });
    fc.assert(
      fc.property(fc.array(file, { maxLength: 5 }), fc.array(process, { maxLength: 5 }), (files, processes) => {
        expect(decodeFileRecords(join(files.map(encodeFileRecord)))).toEqual(files);
        expect(decodeProcessRecords(join(processes.map(encodeProcessRecord)))).toEqual(processes);
      }),
      { numRuns: 100 },
    );
  });

  test("Records refuse every truncation", () => {
    const bytes = encodeFileRecord({
      type: "symlink",
      mode: 0o777,
      uid: 0,
      gid: 0,
      sizeBytes: 3,
      mtimeNs: 1n,
      name: Uint8Array.of(97),
      target: Uint8Array.of(98, 99),
    });
    for (let cut = 1; cut < bytes.length; cut++) {
      violates(() => decodeFileRecords(bytes.subarray(0, cut)));
      const relabelled = bytes.slice(0, cut);
      if (cut < 4) continue;
      new DataView(relabelled.buffer).setUint32(0, cut - 4, true);
      violates(() => decodeFileRecords(relabelled));
    }
  });

  test("Records of changes survive the round trip, and refuse every truncation", () => {
    const change = fc.record({ kind: fc.constantFrom(...CHANGES), directory: fc.boolean(), path: name });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 5 }), (changes) => {
        expect(decodeChangeRecords(join(changes.map(encodeChangeRecord)))).toEqual(changes);
      }),
      { numRuns: 100 },
    );
    const bytes = encodeChangeRecord({ kind: "removed", directory: true, path: Uint8Array.of(97, 98) });
    for (let cut = 1; cut < bytes.length; cut++) violates(() => decodeChangeRecords(bytes.subarray(0, cut)));
    for (const kind of [0, CHANGES.length + 1, 255]) violates(() => decodeChangeRecords(bytes.with(4, kind)));
  });
});
