/**
 * The whole test command: groups one after another, each in a process of its own, and at the end one line with the totals.
 * With arguments: one group, the tests that they name, as `bun test` takes them.
 */
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");

interface Group {
  readonly name: string;
  readonly paths: readonly string[];
  readonly timeoutMs: number;
}

/** Every test file of ours but those of the other groups, so that a new folder cannot be left out. */
function plain(): string[] {
  const files = [...new Bun.Glob("**/*.test.ts").scanSync({ cwd: import.meta.dir })].sort();
  return files.filter((file) => !/^(vm|fuzz)\//.test(file)).map((file) => `./test/${file}`);
}

/** The fast ones first; guests last, under software emulation. */
const GROUPS: readonly Group[] = [
  {
    name: "plain",
    paths: plain(),
    timeoutMs: 60_000,
  },
  { name: "fuzz", paths: ["./test/fuzz/"], timeoutMs: 300_000 },
  { name: "guests", paths: ["./test/vm/"], timeoutMs: 600_000 },
];

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** What `bun test` says at its end; a group without that line did not get there. */
function totalsIn(text: string): Totals {
  const plain = text.replace(/\u001b\[[0-9;]*m/g, "");
  const number = (word: string) => Number(new RegExp(`^ *(\\d+) ${word}\\b`, "m").exec(plain)?.[1] ?? 0);
  return { passed: number("pass"), failed: number("fail") + number("error"), skipped: number("skip") + number("todo") };
}

async function copied(stream: ReadableStream<Uint8Array>, to: NodeJS.WriteStream): Promise<string> {
  const decoder = new TextDecoder();
  let end = "";
  for await (const chunk of stream) {
    to.write(chunk);
    end = (end + decoder.decode(chunk, { stream: true })).slice(-4096);
  }
  return end;
}

async function run(args: readonly string[]): Promise<Totals> {
  const child = Bun.spawn([process.execPath, "test", ...args], { cwd: ROOT, stdout: "pipe", stderr: "pipe" });
  const texts = await Promise.all([copied(child.stdout, process.stdout), copied(child.stderr, process.stderr)]);
  const code = await child.exited;
  const totals = totalsIn(texts.join("\n"));
  // A group that ended badly without a failed test, by a crash for instance, is a failure all the same.
  if (code !== 0 && totals.failed === 0) totals.failed = 1;
  return totals;
}

const args = process.argv.slice(2);
const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
const plans = args.length > 0 ? [args] : GROUPS.map(({ paths, timeoutMs }) => [`--timeout=${timeoutMs}`, ...paths]);
for (const [i, plan] of plans.entries()) {
  if (args.length === 0) process.stdout.write(`\n== ${GROUPS[i]?.name}\n`);
  const { passed, failed, skipped } = await run(plan);
  sum.passed += passed;
  sum.failed += failed;
  sum.skipped += skipped;
}
process.stdout.write(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped\n`);
process.exit(sum.failed === 0 ? 0 : 1);
