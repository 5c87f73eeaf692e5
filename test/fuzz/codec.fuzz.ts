/**
 * The host's decoder of guest frames under random and nearly right bytes. Run by hand for long:
 * `bun test/fuzz/codec.fuzz.ts --runs 1000000 --seed 1 [--record]`; a short run is part of the tests.
 *
 * Holds: nothing but `guest_protocol` is ever thrown; what comes out is what the protocol's text says, wherever the bytes were
 * cut; after a violation nothing is believed; what is held of an unfinished frame is bounded; what one call holds unread is
 * bounded by its window.
 */
import { systemClock } from "../../src/base/clock.ts";
import { isWarrenError } from "../../src/errors.ts";
import { Call, GuestRefusal, settled } from "../../src/guest/call.ts";
import { encodeFrame, type Frame, FrameDecoder } from "../../src/guest/codec.ts";
import { decodeFields, encodeFields, type Field } from "../../src/guest/fields.ts";
import { HelloFinder } from "../../src/guest/hello.ts";
import { HEADER_BYTES, SAY, TAG } from "../../src/guest/protocol.ts";
import {
  CHANGES,
  decodeChangeRecords,
  decodeFileRecords,
  decodeProcessRecords,
  encodeChangeRecord,
  encodeFileRecord,
  encodeProcessRecord,
} from "../../src/guest/records.ts";
import { Condition } from "../../src/guest/waiting.ts";
import { LIMITS } from "../../src/limits.ts";
import { campaign, rounds } from "./campaign.ts";
import { Random } from "./random.ts";

export interface FuzzReport {
  runs: number;
  bytes: number;
  frames: number;
  refused: number;
}

const TYPES = Object.values(SAY);
const TAGS = Object.values(TAG);

function payload(random: Random): Uint8Array {
  switch (random.below(6)) {
    case 0:
      return random.bytes(random.below(40));
    case 1:
      return encodeFileRecord({
        type: random.pick(["file", "symlink"]),
        mode: random.below(0o10000),
        uid: random.next(),
        gid: 0,
        sizeBytes: random.next(),
        mtimeNs: BigInt(random.next()),
        name: random.bytes(random.below(20)),
        target: random.bytes(random.below(4)),
      });
    case 3:
      return encodeChangeRecord({
        kind: random.pick(CHANGES),
        directory: random.once(2),
        path: random.bytes(random.below(20)),
      });
    case 2:
      return encodeProcessRecord({
        process: random.next(),
        pid: random.next(),
        background: true,
        running: random.once(2),
        exitCode: random.below(300) - 20,
        signal: random.below(256),
        command: random.bytes(random.below(20)),
      });
    default: {
      const fields = Array.from({ length: random.below(7) }, (): Field => {
        const tag = random.once(9) ? random.below(256) : random.pick(TAGS);
        return [tag, random.once(3) ? random.bytes(random.below(20)) : BigInt(random.next()) * BigInt(random.below(5))];
      });
      return encodeFields(fields);
    }
  }
}

/** A stream of a few frames, mostly intact. */
export function stream(random: Random): Uint8Array {
  const parts = Array.from({ length: 1 + random.below(4) }, () => {
    const type = random.once(12) ? random.below(256) : random.pick(TYPES);
    const frame = encodeFrame(type, random.below(3), payload(random));
    return random.once(3) ? random.mutate(frame) : frame;
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** Runs a job that may only fail as a violation; true when it did. */
function refuses(job: () => void): boolean {
  try {
    job();
    return false;
  } catch (error) {
    if (isWarrenError(error, "guest_protocol") || error instanceof GuestRefusal) return true;
    throw error;
  }
}

/** The plain way, straight from the protocol's text: what every decoder has to agree with. */
function plainFrames(bytes: Uint8Array): { frames: Frame[]; refused: boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frames: Frame[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, true);
    const stray = bytes.subarray(at + 5, at + 8).some((byte) => byte !== 0);
    if (length > LIMITS.frameBytes || stray) return { frames, refused: true };
    const payload = bytes.slice(at + HEADER_BYTES, at + HEADER_BYTES + length);
    if (payload.length < length) break;
    frames.push({ type: bytes[at + 4]!, channel: view.getUint32(at + 8, true), payload });
    at += HEADER_BYTES + length;
  }
  return { frames, refused: false };
}

function decode(bytes: Uint8Array, random: Random | null): { frames: Frame[]; refused: boolean } {
  const decoder = new FrameDecoder();
  const frames: Frame[] = [];
  const refused = refuses(() => {
    for (let at = 0; at < bytes.length; ) {
      const end = random === null ? bytes.length : Math.min(bytes.length, at + 1 + random.below(40));
      frames.push(...decoder.push(bytes.subarray(at, end)));
      if (decoder.pendingBytes > LIMITS.frameBytes + HEADER_BYTES)
        throw new Error("an unfinished frame is not bounded");
      at = end;
    }
  });
  if (refused && !refuses(() => void decoder.push(encodeFrame(SAY.PONG, 0)))) throw new Error("believed once more");
  return { frames, refused };
}

const digest = (frames: readonly Frame[]): bigint | number => Bun.hash(JSON.stringify(frames));

function readAll(frame: Frame): void {
  refuses(() => {
    const fields = decodeFields(frame.payload);
    for (const tag of TAGS) {
      for (const read of ["text", "number", "signed", "u64", "bytes"] as const) refuses(() => void fields[read](tag));
    }
  });
  refuses(() => void decodeFileRecords(frame.payload));
  refuses(() => void decodeProcessRecords(frame.payload));
  refuses(() => void decodeChangeRecords(frame.payload));
  refuses(() => void settled({ kind: "last", type: frame.type, payload: frame.payload }, SAY.DONE));
}

/** Feeds a call that nobody reads; returns whether it refused. */
function feed(frames: readonly Frame[]): boolean {
  const sent: number[] = [];
  const sender = { send: async (type: number) => void sent.push(type) };
  const call = new Call(1, sender, new Condition(systemClock, { error: null }));
  const refused = refuses(() => {
    for (const frame of frames) call.take(frame);
  });
  if (sent.length > 0) throw new Error("a call that nobody reads has granted credit");
  return refused;
}

/** One round over one random stream; throws when something does not hold. */
function round(random: Random, report: FuzzReport): void {
  const bytes = stream(random);
  const whole = decode(bytes, null);
  const cut = decode(bytes, random);
  const plain = plainFrames(bytes);
  if (whole.refused !== plain.refused) throw new Error("what is refused is not what the protocol forbids");
  if (whole.refused !== cut.refused) throw new Error("cuts decide what is refused");
  // Frames before a violation may come out or not, depending on the cuts; without one they are the same.
  const meant = plain.refused ? plain.frames.slice(0, cut.frames.length) : plain.frames;
  if (digest(cut.frames) !== digest(meant)) throw new Error("cuts change what is decoded");
  if (!whole.refused && digest(whole.frames) !== digest(meant)) throw new Error("frames are not what was sent");
  for (const frame of cut.frames) readAll(frame);
  const refusedByCall = feed(cut.frames);
  const finder = new HelloFinder(random.below(3));
  if (finder.take(bytes).length > bytes.length) throw new Error("the finder makes bytes up");
  report.bytes += bytes.length;
  report.frames += cut.frames.length;
  report.refused += whole.refused || refusedByCall ? 1 : 0;
}

/** @throws {Error} what does not hold, with the input's number. */
export function fuzzCodec(runs: number, seed: number, tick: () => void = () => undefined): FuzzReport {
  const random = new Random(seed);
  const report: FuzzReport = { runs, bytes: 0, frames: 0, refused: 0 };
  rounds(runs, seed, tick, () => {
    round(random, report);
  });
  return report;
}

if (import.meta.main) {
  await campaign({
    name: "guest decoder",
    file: "codec.fuzz.ts",
    blockRuns: 10_000,
    block: (runs, seed, tick) => {
      const { bytes, frames, refused } = fuzzCodec(runs, seed, tick);
      return { bytes, frames, refused };
    },
  });
}
