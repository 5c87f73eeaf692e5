/** The bounds of the reader of DNS messages, each at its edge. */
import { describe, expect, test } from "bun:test";
import { DNS } from "../../../src/egress/dns/bounds.ts";
import { DnsFault, decodeMessage } from "../../../src/egress/dns/message.ts";
import { wire } from "../wire.ts";

/** A question whose name is these bytes, behind a header; records after it as they are. */
function withName(name: readonly number[], records: readonly number[] = [], count = 0): Uint8Array {
  return Uint8Array.from([0, 1, 1, 0, 0, 1, 0, count, 0, 0, 0, 0, ...name, 0, 1, 0, 1, ...records]);
}

const label = (length: number) => [length, ...Array<number>(length).fill(0x61)];
const TAIL = [0, 16, 0, 1, 0, 0, 0, 0, 0, 0]; // TXT, empty
const pointer = (to: number) => [0xc0 | (to >> 8), to & 255];

/** Records that are each named by a pointer to the one before. */
function chain(length: number): Uint8Array {
  const records: number[] = [];
  let last = 12;
  for (let i = 0; i < length; i++) {
    const at = 12 + 7 + records.length;
    records.push(...pointer(last), ...TAIL);
    last = at;
  }
  return withName([1, 0x61, 0], records, length);
}

describe("decodeMessage", () => {
  test("reads names of 255 bytes, and none of 256", () => {
    const fits = [...label(63), ...label(63), ...label(63), ...label(61), 0];
    expect(fits).toHaveLength(255);
    expect(decodeMessage(withName(fits)).questions[0]!.name).toHaveLength(253);
    expect(() => decodeMessage(withName([...label(63), ...label(63), ...label(63), ...label(62), 0]))).toThrow(
      "too long",
    );
  });

  test("holds a name with pointers to the same length", () => {
    const half = [...label(63), ...label(60), 0]; // 126 bytes
    const named = (...labels: readonly (readonly number[])[]) =>
      withName(half, [...labels.flat(), ...pointer(12), ...TAIL], 1);
    expect(decodeMessage(named(label(63), label(63))).answers[0]!.name).toHaveLength(252);
    expect(decodeMessage(named(label(63), label(61), label(1))).answers[0]!.name).toHaveLength(252);
    expect(() => decodeMessage(named(label(63), label(63), label(1)))).toThrow("too long");
  });

  test("follows 128 pointers of a name, and no more", () => {
    expect(decodeMessage(chain(DNS.hops)).answers.at(-1)!.name).toBe("a");
    expect(() => decodeMessage(chain(DNS.hops + 1))).toThrow("too many pointers");
  });

  test("follows pointers backwards only", () => {
    const backwards = (...name: readonly number[]) => expect(() => decodeMessage(withName(name))).toThrow("backwards");
    backwards(...pointer(12)); // to itself
    backwards(...pointer(16));
    backwards(...pointer(4)); // into the header
    backwards(...pointer(0x3fff));
    backwards(1, 0x61, ...pointer(12)); // to the label before it
  });

  test("has labels of 63 bytes at most, and of no other kind", () => {
    for (const first of [64, 0x80, 0xbf])
      expect(() => decodeMessage(withName([first, ...label(63)]))).toThrow(DnsFault);
  });

  test("reads as many records as are counted, and at most 256", () => {
    const records = (count: number) => Array.from({ length: count }, () => ({ name: "", type: 16, data: [] }));
    expect(decodeMessage(wire({ answers: records(DNS.records) })).answers).toHaveLength(DNS.records);
    expect(() => decodeMessage(wire({ answers: records(DNS.records + 1) }))).toThrow("too many records");
    const lies = wire({ answers: records(3) });
    lies[7] = 4;
    expect(() => decodeMessage(lies)).toThrow("ends in the middle");
    lies[7] = 2;
    expect(() => decodeMessage(lies)).toThrow("bytes come behind");
  });

  test("takes a time to live with its top bit for none", () => {
    const bytes = wire({ answers: [{ name: "a", type: 1, ttl: 0x8000_0001, data: [1, 2, 3, 4] }] });
    expect(decodeMessage(bytes).answers[0]).toMatchObject({ ttlSeconds: 0 });
  });

  test("spends little on a message that is all pointers", () => {
    const bytes = chain(DNS.hops);
    const before = performance.now();
    for (let i = 0; i < 100; i++) decodeMessage(bytes);
    expect((performance.now() - before) / 100).toBeLessThan(20); // 8000 hops: far below a millisecond
  });
});
