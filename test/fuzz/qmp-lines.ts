/** Random lines of a monitor, most of them good, each with what it means where that is known beforehand. */
import type { QmpMessage } from "../../src/driver/qemu/qmp.ts";
import { LIMITS } from "../../src/limits.ts";
import type { Random } from "./random.ts";

export interface Line {
  /** Without the newline. */
  readonly bytes: Uint8Array;
  /** Null: no message and no violation; undefined: only a reader can tell. */
  readonly means: QmpMessage | "violation" | null | undefined;
}

const DEPTH_SHOWN = 1000;

/** As text, for comparisons; what is too deep for that (`DEEP` alone is) counts as the same. */
export function shown(value: unknown): string {
  let depth = 0;
  for (let at = value; typeof at === "object" && at !== null; at = Object.values(at).at(-1)) {
    if (++depth > DEPTH_SHOWN) return "too deep to show";
  }
  return JSON.stringify(value);
}

/** Ids that are asked for are low: answers to them, and to ids never asked, both come. */
const IDS = 7;
export const EVENTS = ["STOP", "RESUME", "SHUTDOWN", "__proto__"];
const TEXTS = [
  "",
  "no",
  "né",
  "日本",
  "\u{1f600}",
  "\u2028",
  "a\nb",
  '"',
  "\\",
  "\u0000",
  "\ufeff",
  "QMP",
  "x".repeat(300),
];
/** JSON that no reader of ours can take for an id. */
const BAD_IDS = ["null", '"1"', "1.5", "1e999", "9007199254740992", "-9007199254740993", "[1]", "{}", "true"];
const NO_MESSAGES = [
  "x",
  "[]",
  "1",
  "{}",
  "null",
  '{"return":1}',
  '{"event":3}',
  '{"error":{}}',
  '{"id":1}',
  '{"a":1}}',
  "{",
];
/** Descriptions that are no text, or break whoever makes text of them. */
const BAD_DESCRIPTIONS = [
  "null",
  "7",
  "[]",
  '{"toString":1,"valueOf":1}',
  '{"__proto__":null}',
  `[${"[".repeat(99)}${"]".repeat(99)}]`,
];
/** Beyond the depth at which recursive code runs out of stack. */
const DEEP = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;

function line(text: string, means: Line["means"]): Line {
  return { bytes: new TextEncoder().encode(text), means };
}

function value(random: Random, depth = 0): unknown {
  switch (random.below(depth > 2 ? 4 : 6)) {
    case 0:
      return {};
    case 1:
      return random.pick(TEXTS);
    case 2:
      return random.next() - 2 ** 31;
    case 3:
      return random.pick([null, true, false]);
    case 4:
      return Array.from({ length: random.below(4) }, () => value(random, depth + 1));
    default:
      return { [random.pick(["status", "return", "id", "error"])]: value(random, depth + 1) };
  }
}

/** With the blanks that JSON allows. */
function json(random: Random, object: unknown): string {
  const text = JSON.stringify(object);
  return random.once(4) ? ` ${text}\r` : text;
}

function greeting(random: Random): Line {
  return line(json(random, { QMP: { version: value(random), capabilities: ["oob"] } }), { kind: "greeting" });
}

function event(random: Random): Line {
  const name = random.pick(EVENTS);
  const data = value(random);
  return line(json(random, { timestamp: { seconds: random.next() }, event: name, data }), {
    kind: "event",
    name,
    data,
  });
}

function answer(random: Random): Line {
  const id = random.once(12) ? random.pick([0, -1, 99, Number.MAX_SAFE_INTEGER]) : 1 + random.below(IDS);
  if (random.once(3)) {
    const says = random.pick(TEXTS);
    return line(json(random, { id, error: { class: "GenericError", desc: says } }), { kind: "error", id, says });
  }
  const given = value(random);
  return line(json(random, { return: given, id }), { kind: "return", id, value: given });
}

function good(random: Random): Line {
  switch (random.below(12)) {
    case 0:
      return greeting(random);
    case 1:
    case 2:
    case 3:
      return event(random);
    case 4:
      return line(random.pick(["", " ", "\r", "\t \r"]), null);
    case 5:
      return line(`{"error":{"desc":${random.pick(BAD_DESCRIPTIONS)}},"id":1}`, {
        kind: "error",
        id: 1,
        says: "no reason",
      });
    default:
      return answer(random);
  }
}

function bad(random: Random): Line {
  switch (random.below(4)) {
    case 0:
      return line(random.pick(NO_MESSAGES), "violation");
    case 1:
      return line(`{"${random.pick(["return", "error"])}":{},"id":${random.pick(BAD_IDS)}}`, "violation");
    case 2: {
      const bytes = new TextEncoder().encode('{"event":"S__P"}');
      bytes.set(
        random.pick([
          [0xff, 0x41],
          [0xc3, 0x28],
          [0xed, 0xa0],
          [0xc0, 0x80],
        ]),
        11,
      );
      return { bytes, means: "violation" };
    }
    default:
      return { bytes: random.mutate(good(random).bytes), means: undefined };
  }
}

/** A good event, filled up with blanks to just below, at or beyond the longest line. */
function long(random: Random): Line {
  const length = LIMITS.qmpLineBytes + random.pick([-1, 0, 0, 1, 1]);
  const bytes = new Uint8Array(random.once(8) ? 3 * length : length).fill(32);
  bytes.set(new TextEncoder().encode('{"event":"STOP"}'));
  const over = bytes.length > LIMITS.qmpLineBytes;
  return { bytes, means: over ? "violation" : { kind: "event", name: "STOP", data: undefined } };
}

/** What a monitor says in one life: greeted mostly, a few lines mostly good, once in a while a flood. */
export function conversation(random: Random): Line[] {
  const lines = random.once(8) ? [] : [greeting(random)];
  const count = random.once(100) ? 300 : random.below(9);
  for (let i = 0; i < count; i++) lines.push(random.once(count > 9 ? 2000 : 12) ? bad(random) : good(random));
  if (random.once(400)) lines.push(long(random), good(random));
  if (random.once(1000)) lines.push(line(`{"return":${DEEP},"id":1}`, undefined), good(random));
  if (random.once(1000)) lines.push(line(`{"error":{"desc":${DEEP}},"id":1}`, undefined), good(random));
  return lines;
}
