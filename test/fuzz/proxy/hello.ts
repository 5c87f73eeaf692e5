/**
 * ClientHellos, right and nearly right. Holds: what was meant is read, wherever its records are cut; a beginning is never more than
 * a beginning; nothing throws; and what is accepted says the same to a reader that takes no notice of any rule.
 */
import { BOUNDS } from "../../../src/egress/proxy/bounds.ts";
import type { Hello } from "../../../src/egress/proxy/client-hello.ts";
import type { Random } from "../random.ts";

export type ParseHello = (bytes: Uint8Array) => Hello;

export interface HelloReport {
  hellos: number;
  refused: number;
  unfinished: number;
}

interface Meant {
  readonly name: string | null;
  readonly protocols: readonly string[] | null;
}

const u16 = (value: number): number[] => [value >> 8, value & 255];
const u24 = (value: number): number[] => [value >> 16, (value >> 8) & 255, value & 255];
const vector = (size: 1 | 2, bytes: ArrayLike<number>): number[] => [
  ...(size === 1 ? [bytes.length] : u16(bytes.length)),
  ...Array.from(bytes),
];
/** RFC 8701: values that mean nothing, so that servers learn to skip. */
const GREASE = [0x0a0a, 0x1a1a, 0xdada, 0xfafa];
const NAMES = ["a.test", "api.one-two.example", "xn--bcher-kva.test", "_dmarc.a.b.c.test", `${"l".repeat(63)}.test`];
const PROTOCOLS = ["h2", "http/1.1", "\x0a\x0a", "x"];

const extension = (type: number, data: ArrayLike<number>): number[] => [...u16(type), ...vector(2, data)];
const latin = (text: string): number[] => [...Buffer.from(text, "latin1")];

function body(random: Random, { name, protocols }: Meant): number[] {
  const all: number[][] = [];
  for (let i = random.below(4); i > 0; i--) all.push(extension(GREASE[i] ?? 0, random.bytes(random.below(3))));
  if (!random.once(3)) all.push(extension(51, random.bytes(random.below(random.once(5) ? 1200 : 40))));
  if (name !== null) all.push(extension(0, vector(2, [0, ...vector(2, latin(name))])));
  if (protocols !== null)
    all.push(
      extension(
        16,
        vector(
          2,
          protocols.flatMap((one) => vector(1, latin(one))),
        ),
      ),
    );
  const at = random.below(all.length + 1);
  const mixed = [...all.slice(at), ...all.slice(0, at)];
  const none = mixed.length === 0 && random.once(2);
  return [
    ...[3, 3, ...random.bytes(32)],
    ...vector(1, random.bytes(random.pick([0, 32]))),
    ...vector(2, random.bytes(2 + 2 * random.below(10))),
    ...vector(1, [0]),
    ...(none ? [] : vector(2, mixed.flat())),
  ];
}

function records(random: Random, message: readonly number[]): Uint8Array {
  const out: number[] = [];
  const most = random.pick([16_384, 16_384, 100, 48]);
  for (let at = 0; at < message.length; ) {
    const length = Math.min(message.length - at, most === 16_384 ? most : 40 + random.below(most));
    out.push(22, 3, random.pick([1, 3]), ...vector(2, message.slice(at, at + length)));
    at += length;
  }
  return Uint8Array.from(out);
}

/** Reads on regardless: takes records apart, goes through the fields by their lengths, and says what name it finds last. */
function carelessName(bytes: Uint8Array): string | null {
  const parts: number[] = [];
  for (let at = 0; at + 5 <= bytes.length; ) {
    const length = ((bytes[at + 3] ?? 0) << 8) | (bytes[at + 4] ?? 0);
    parts.push(...bytes.subarray(at + 5, at + 5 + length));
    at += 5 + length;
  }
  const byte = (i: number): number => parts[i] ?? 0;
  let at = 4 + 2 + 32;
  at += 1 + byte(at);
  at += 2 + ((byte(at) << 8) | byte(at + 1));
  at += 1 + byte(at) + 2;
  let found: string | null = null;
  while (at + 4 <= parts.length) {
    const length = (byte(at + 2) << 8) | byte(at + 3);
    if (byte(at) === 0 && byte(at + 1) === 0) found = String.fromCharCode(...parts.slice(at + 9, at + 4 + length));
    at += 4 + length;
  }
  return found;
}

function same(hello: Hello, { name, protocols }: Meant): boolean {
  const asked = protocols === null ? hello.kind === "hello" && hello.protocols === null : true;
  if (hello.kind !== "hello" || hello.name !== name || !asked) return false;
  return JSON.stringify(hello.protocols) === JSON.stringify(protocols);
}

/** One input, its beginning, and a broken one. @throws {Error} what does not hold */
export function helloRound(parse: ParseHello, random: Random, report: HelloReport): void {
  const meant: Meant = {
    name: random.once(8) ? null : random.pick(NAMES),
    protocols: random.once(3) ? null : Array.from({ length: 1 + random.below(3) }, () => random.pick(PROTOCOLS)),
  };
  const message = body(random, meant);
  const bytes = records(random, [1, ...u24(message.length), ...message]);
  if (!same(parse(bytes), meant)) throw new Error("a ClientHello is not read as it was meant");
  report.hellos++;
  const cut = random.below(bytes.length);
  const begun = parse(bytes.subarray(0, cut));
  if (begun.kind !== "more" || begun.bytes <= cut || begun.bytes > bytes.length) {
    throw new Error(`${cut} of ${bytes.length} bytes are ${JSON.stringify(begun)}`);
  }
  report.unfinished++;
  const broken = random.mutate(bytes);
  const before = broken.slice();
  const read = parse(broken);
  if (Buffer.compare(before, broken) !== 0) throw new Error("the bytes were changed");
  if (read.kind === "bad") report.refused++;
  if (read.kind === "more" && (read.bytes <= broken.length || read.bytes > BOUNDS.helloWireBytes)) {
    throw new Error(`${broken.length} bytes have to become ${read.bytes}`);
  }
  if (read.kind !== "hello") return;
  const careless = carelessName(broken)?.toLowerCase().replace(/\.$/, "") ?? null;
  if (careless !== read.name) throw new Error(`the name is ${read.name}, or ${careless}`);
}
