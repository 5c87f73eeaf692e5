/**
 * The one-file program: how large it is, how soon it answers, beside the same command line from the checkout, interleaved.
 * `--record` appends the line to results.ndjson.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { run } from "../../src/host/run.ts";
import { buildBinary } from "../build/binary.ts";
import { TEST_HOME } from "../harness/vm.ts";
import { machineFacts, RESULTS, record } from "./record.ts";
import { pairRatio, round, summary } from "./stats.ts";

const HELP = `Build Warren as one file and measure it.

Usage: bun test/bench/binary.ts [options]

  --rounds N        samples of each start, 3 or more (default 20)
  --json            the line as JSON
  --record          append the line to test/bench/results.ndjson
  --help            this text`;

const ROOT = join(import.meta.dir, "../..");
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const rounds = Number(options.rounds);
if (options.help || !Number.isInteger(rounds) || rounds < 3) {
  console.log(HELP);
  process.exit(options.help ? 0 : 2);
}

const dir = mkdtempSync(join(tmpdir(), "warren-binary-"));
const env = { ...(process.env as Record<string, string>), WARREN_HOME: TEST_HOME };

/** Milliseconds until it has ended well. */
async function timed(argv: readonly [string, ...string[]], expected: number): Promise<number> {
  const startMs = systemClock.monotonicMs();
  const { exitCode, stderr } = await run(argv, { deadlineMs: 120_000, cwd: dir, env });
  if (exitCode !== expected) throw new Error(`${argv.join(" ")} ended with ${exitCode}: ${stderr}`);
  return systemClock.monotonicMs() - startMs;
}

try {
  const binary = join(dir, "warren");
  const startMs = systemClock.monotonicMs();
  const sizeBytes = await buildBinary(binary);
  const buildMs = systemClock.monotonicMs() - startMs;
  const main = join(ROOT, "src/cli/main.ts");
  const [version, checkout, help]: [number[], number[], number[]] = [[], [], []];
  await timed([binary, "--version"], 0); // from the disk, once
  for (let i = 0; i < rounds; i++) {
    version.push(await timed([binary, "--version"], 0));
    checkout.push(await timed([process.execPath, main, "--version"], 0));
    help.push(await timed([binary, "serve", "--help"], 0));
  }
  const doctor: number[] = [];
  for (let i = 0; i < 3; i++) doctor.push(await timed([binary, "doctor", "--json"], 0));
  const line = {
    bench: "binary",
    ...(await machineFacts()),
    sizeMib: round(sizeBytes / 2 ** 20, 1),
    buildMs: round(buildMs, 0),
    versionMs: summary(version),
    checkoutVersionMs: summary(checkout),
    helpMs: summary(help),
    doctorMs: summary(doctor),
    versionAgainstCheckout: pairRatio(version, checkout),
  };
  if (options.record) {
    record(line);
    process.stderr.write(`recorded in ${RESULTS}\n`);
  }
  if (options.json) console.log(JSON.stringify(line));
  else {
    console.log(`one file of ${line.sizeMib} MiB, built in ${line.buildMs} ms`);
    console.log(`--version  ${JSON.stringify(line.versionMs)}`);
    console.log(`  checkout ${JSON.stringify(line.checkoutVersionMs)}`);
    console.log(`--help     ${JSON.stringify(line.helpMs)}`);
    console.log(`doctor     ${JSON.stringify(line.doctorMs)}`);
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
