/**
 * How every fuzzer is run: `--runs N --seed S [--record]`. Inputs come in blocks, one seed each, counted up from S; so any block can be
 * repeated alone, and a long campaign done in several sittings by ranges of seeds. Ctrl-C ends it after the block at hand.
 */
import { parseArgs } from "node:util";
import { machineFacts, record } from "../bench/record.ts";

/** What a run counts beside its inputs. */
export type Counts = Readonly<Record<string, number>>;

export interface Target {
  /** What is fuzzed, as results.ndjson names it. */
  readonly name: string;
  /** File in this folder, for the way to repeat a failure. */
  readonly file: string;
  readonly blockRuns: number;
  /** `runs` inputs from one seed; calls `tick` after each. Throws when something does not hold. */
  block(runs: number, seed: number, tick: () => void): Counts | Promise<Counts>;
}

const PROGRESS_MS = 1_000;
const HELP = `Options:
  --runs N   inputs (default 100000)
  --seed S   first seed; each further block of inputs takes the next one (default 1)
  --record   append the figures to test/bench/results.ndjson`;

interface Progress {
  tick(): void;
  done(): number;
}

/** A line on stderr each second, however long a block takes. */
function progress(name: string, runs: number, seedNow: () => number): Progress {
  let done = 0;
  let said = performance.now();
  const say = (): void => {
    if (performance.now() - said < PROGRESS_MS) return;
    said = performance.now();
    process.stderr.write(`${name}: ${done} of ${runs} inputs, seed ${seedNow()}, 0 faults\n`);
  };
  setInterval(say, PROGRESS_MS / 4).unref(); // for blocks that wait; those that never do are seen at their ticks
  return {
    tick() {
      done++;
      say();
    },
    done: () => done,
  };
}

/** Blocks one after another; what they counted, summed. @throws {Error} what did not hold, with the command that repeats it. */
async function blocks(target: Target, runs: number, first: number, stopped: () => boolean) {
  const sum: Record<string, number> = {};
  let seed = first;
  const { tick, done } = progress(target.name, runs, () => seed);
  for (; done() < runs && !stopped(); seed++) {
    const before = done();
    try {
      const counts = await target.block(Math.min(target.blockRuns, runs - before), seed, tick);
      for (const [key, count] of Object.entries(counts)) sum[key] = (sum[key] ?? 0) + count;
    } catch (cause) {
      const again = `bun test/fuzz/${target.file} --runs ${done() - before + 1} --seed ${seed}`;
      throw new Error(`${target.name}, seed ${seed}, input ${done() - before}: ${String(cause)}\nagain: ${again}`, {
        cause,
      });
    }
    await Bun.sleep(0); // a signal is seen between blocks only
  }
  return { runs: done(), seeds: [first, seed - 1], ...sum };
}

/** The whole command; prints one JSON line and ends the process. */
export async function campaign(target: Target): Promise<never> {
  const { values } = parseArgs({
    options: {
      runs: { type: "string", default: "100000" },
      seed: { type: "string", default: "1" },
      record: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(`Fuzz the ${target.name}: bun test/fuzz/${target.file}\n\n${HELP}`);
    process.exit(0);
  }
  const [runs, seed] = [Number(values.runs), Number(values.seed)];
  if (!(Number.isSafeInteger(runs) && runs > 0 && Number.isSafeInteger(seed) && seed > 0)) {
    process.stderr.write("--runs and --seed are whole numbers above 0\n");
    process.exit(2);
  }
  let stop = false;
  process.once("SIGINT", () => (stop = true));
  const facts = await machineFacts(); // the commit that runs, whatever the checkout becomes meanwhile
  const started = performance.now();
  const found = await blocks(target, runs, seed, () => stop).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return null;
  });
  if (found === null) process.exit(1);
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  const line = { bench: "fuzz", target: target.name, ...found, seconds, faults: 0, ...facts };
  console.log(JSON.stringify(line));
  if (values.record) record(line);
  if (found.runs < runs)
    process.stderr.write(
      `the rest: --runs ${runs - found.runs} --seed ${seed + Math.ceil(found.runs / target.blockRuns)}\n`,
    );
  process.exit(0);
}

/** `job` so many times; what it throws is told with the run that it was, by which it is found again. */
export function rounds(runs: number, seed: number, tick: () => void, job: () => void): void {
  for (let run = 0; run < runs; run++) {
    try {
      job();
    } catch (error) {
      throw new Error(`run ${run} of seed ${seed}: ${String(error)}`, { cause: error });
    }
    tick();
  }
}
