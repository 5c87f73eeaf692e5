/**
 * The reader of QEMU's monitor, and the monitor connection on top of it, under conversations that are right, nearly right or
 * hostile. Run by hand for long: `bun test/fuzz/qmp.fuzz.ts --runs 1000000 --seed 1 [--record]`; a short run is part of the tests.
 *
 * Holds: nothing but `driver_failed` is ever thrown; what comes out is what whole lines mean, wherever the bytes were cut and
 * whatever follows; what is held of an unfinished line is of the order of what came of it, and bounded; every wait ends, with
 * the answer that was meant for it or a typed error.
 */
import { parseQmpLine, Qmp, type QmpMessage, QmpReader } from "../../src/driver/qemu/qmp.ts";
import { isWarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { campaign } from "./campaign.ts";
import { type Heard, live, type Monitor } from "./qmp-life.ts";
import { conversation, type Line, shown } from "./qmp-lines.ts";
import { Random } from "./random.ts";

/** What is fuzzed; a test puts a broken one in its place. */
export interface Subject {
  reader(take: (message: QmpMessage) => void): Pick<QmpReader, "push" | "heldBytes">;
  readonly monitor: Monitor;
}

export const REAL: Subject = {
  reader: (take) => new QmpReader(take),
  monitor: (link, clock) => new Qmp(link, clock),
};

export interface QmpReport {
  runs: number;
  bytes: number;
  messages: number;
  refused: number;
  answered: number;
  failed: number;
}

interface Reading {
  readonly heard: readonly Heard[];
  readonly refused: boolean;
}

const NEWLINE = 10;
/** What the reader may hold of a line of which next to nothing has come. */
const HELD_BYTES_LEAST = 4096;

/** Runs a job that may only fail as a violation; true when it did. */
function refuses(job: () => void): boolean {
  try {
    job();
    return false;
  } catch (error) {
    if (isWarrenError(error, "driver_failed")) return true;
    throw error;
  }
}

/** The plain way: whole lines one after another. What every cut has to agree with. */
function wholeLines(bytes: Uint8Array): Reading {
  const heard: Heard[] = [];
  for (let at = 0; ; ) {
    const newline = bytes.indexOf(NEWLINE, at);
    const line = bytes.subarray(at, newline < 0 ? bytes.length : newline);
    if (line.length > LIMITS.qmpLineBytes) return { heard, refused: true };
    if (newline < 0) return { heard, refused: false };
    at = newline + 1;
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(line);
    } catch {
      return { heard, refused: true }; // not UTF-8, which is what this asks
    }
    if (text.trim() === "") continue;
    if (refuses(() => void heard.push({ message: parseQmpLine(text), end: at }))) return { heard, refused: true };
  }
}

/** Holds the plain way itself to what the lines were made to mean, up to the first of which that is not known. */
function checkMeaning(lines: readonly Line[], length: number, { heard, refused }: Reading): void {
  let end = 0;
  let next = 0;
  for (const { bytes, means } of lines) {
    end += bytes.length + 1;
    if (means === undefined || end > length) return;
    if (means === null) continue;
    if (means === "violation") {
      if (!refused || heard.length !== next) throw new Error("a bad line has passed");
      return;
    }
    const got = heard[next++]?.message;
    if (got === undefined || shown(got) !== shown(means)) throw new Error(`a line does not mean ${shown(means)}`);
  }
}

/** Where the chunks end. */
function cuts(bytes: Uint8Array, random: Random): number[] {
  const most = random.pick(
    bytes.length > 10_000 ? [50_000, 500_000, 50_000_000, 50_000_000] : [1, 3, 40, 40, 400, 10_000],
  );
  const ends: number[] = [];
  for (let at = 0; at < bytes.length; ends.push(at)) at = Math.min(bytes.length, at + 1 + random.below(most));
  return ends;
}

function readCut(bytes: Uint8Array, ends: readonly number[], subject: Subject): Reading {
  const heard: Heard[] = [];
  let at = 0;
  let line = 0;
  const reader = subject.reader((message) => heard.push({ message, end: at }));
  const refused = refuses(() => {
    for (const end of ends) {
      // A copy, since a chunk's buffer is reused once it has been read.
      const chunk = bytes.slice(at, end);
      at = end;
      reader.push(chunk);
      chunk.fill(0);
      for (let next = bytes.indexOf(NEWLINE, line); next >= 0 && next < end; next = bytes.indexOf(NEWLINE, line))
        line = next + 1;
      const unfinished = end - line;
      if (reader.heldBytes > Math.min(LIMITS.qmpLineBytes, Math.max(HELD_BYTES_LEAST, 2 * unfinished)))
        throw new Error(`${reader.heldBytes} bytes are held of a line of ${unfinished}`);
    }
  });
  return { heard, refused };
}

function checkSame(whole: Reading, cut: Reading): void {
  if (whole.refused !== cut.refused) throw new Error("cuts decide what is refused");
  const same = whole.heard.length === cut.heard.length;
  if (!same || whole.heard.some(({ message }, i) => shown(message) !== shown(cut.heard[i]!.message)))
    throw new Error("cuts change what is read");
}

/** One round over one random conversation; throws when something does not hold. */
async function round(random: Random, report: QmpReport, subject: Subject): Promise<void> {
  const lines = conversation(random);
  let bytes: Uint8Array = new Uint8Array(Buffer.concat(lines.flatMap((line) => [line.bytes, Uint8Array.of(NEWLINE)])));
  if (random.once(3)) bytes = bytes.subarray(0, random.below(bytes.length + 1)); // it ends in the middle
  const whole = wholeLines(bytes);
  checkMeaning(lines, bytes.length, whole);
  const ends = cuts(bytes, random);
  checkSame(whole, readCut(bytes, ends, subject));
  const life = await live(bytes, ends, whole.heard, random, subject.monitor);
  report.bytes += bytes.length;
  report.messages += whole.heard.length;
  report.refused += whole.refused ? 1 : 0;
  report.answered += life.answered;
  report.failed += life.failed;
}

/** @throws {Error} what does not hold, with the input's number. */
export async function fuzzQmp(
  runs: number,
  seed: number,
  { subject = REAL, tick = () => undefined }: { subject?: Subject; tick?: () => void } = {},
): Promise<QmpReport> {
  const random = new Random(seed);
  const report: QmpReport = { runs, bytes: 0, messages: 0, refused: 0, answered: 0, failed: 0 };
  for (let run = 0; run < runs; run++) {
    try {
      await round(random, report, subject);
    } catch (error) {
      throw new Error(`run ${run} of seed ${seed}: ${String(error)}`, { cause: error });
    }
    tick();
  }
  return report;
}

if (import.meta.main) {
  await campaign({
    name: "QMP reader",
    file: "qmp.fuzz.ts",
    blockRuns: 10_000,
    block: async (runs, seed, tick) => {
      const { bytes, messages, refused, answered, failed } = await fuzzQmp(runs, seed, { tick });
      return { bytes, messages, refused, answered, failed };
    },
  });
}
