/**
 * The whole test command: groups one after another, each in a process of its own, and at the end the tests that failed in
 * any of them, first with their errors and then by name alone, and one line with the totals: the end of a log that was cut
 * off tells the most. With arguments: one group, the tests that they name, as `bun test` takes them.
 */
import { readlinkSync } from "node:fs";
import { join } from "node:path";
import { Failures } from "./harness/report/failures.ts";

const ROOT = join(import.meta.dir, "..");

interface Group {
  readonly name: string;
  readonly paths: readonly string[];
  readonly timeoutMs: number;
  /** In a network namespace of its own: it is told which one the machine's is, so as never to touch that. */
  readonly ownNetwork?: boolean;
}

const NETWORK = "vm/network/";

/** Every test file of ours of which `has` holds, so that a new folder cannot be left out. */
function files(has: (file: string) => boolean): string[] {
  const all = [...new Bun.Glob("**/*.test.ts").scanSync({ cwd: import.meta.dir })].sort();
  return all.filter(has).map((file) => `./test/${file}`);
}

/** The fast ones first; guests last, under software emulation. */
const GROUPS: readonly Group[] = [
  {
    name: "plain",
    paths: files((file) => !/^(vm|fuzz)\//.test(file)),
    timeoutMs: 60_000,
  },
  { name: "fuzz", paths: ["./test/fuzz/"], timeoutMs: 300_000 },
  {
    name: "guests",
    paths: files((file) => file.startsWith("vm/") && !file.startsWith(NETWORK)),
    timeoutMs: 600_000,
  },
  { name: "guests' networks", paths: [`./test/${NETWORK}`], timeoutMs: 300_000, ownNetwork: true },
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

/** Passes a stream on; its end. */
async function copied(
  stream: ReadableStream<Uint8Array>,
  to: NodeJS.WriteStream,
  failures: Failures | null,
): Promise<string> {
  const decoder = new TextDecoder();
  let end = "";
  for await (const chunk of stream) {
    to.write(chunk);
    const text = decoder.decode(chunk, { stream: true });
    failures?.push(text);
    end = (end + text).slice(-4096);
  }
  return end;
}

async function run(args: readonly string[], ownNetwork: boolean): Promise<{ totals: Totals; failures: Failures }> {
  const command = [...(ownNetwork ? ["unshare", "--net"] : []), process.execPath, "test", ...args];
  const env = ownNetwork ? { ...process.env, OUTER_NETNS: readlinkSync("/proc/self/ns/net") } : process.env;
  const child = Bun.spawn(command, { cwd: ROOT, stdout: "pipe", stderr: "pipe", env });
  const failures = new Failures(); // results are on stderr
  const texts = await Promise.all([
    copied(child.stdout, process.stdout, null),
    copied(child.stderr, process.stderr, failures),
  ]);
  const code = await child.exited;
  const totals = totalsIn(texts.join("\n"));
  // A group that ended badly without a failed test, by a crash for instance, is a failure all the same.
  if (code !== 0 && totals.failed === 0) {
    totals.failed = 1;
    failures.ended(`ended with code ${code}, though no test failed`);
  }
  return { totals, failures };
}

const args = process.argv.slice(2);
const every: { readonly group: string; readonly failures: Failures }[] = [];
const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
const named: Group = {
  name: args.join(" "),
  paths: args,
  timeoutMs: 300_000,
  ownNetwork: args.some((arg) => arg.includes(NETWORK)),
};
for (const { name, paths, timeoutMs, ownNetwork } of args.length > 0 ? [named] : GROUPS) {
  if (args.length === 0) process.stdout.write(`\n== ${name}\n`);
  const { totals, failures } = await run([`--timeout=${timeoutMs}`, ...paths], ownNetwork === true);
  sum.passed += totals.passed;
  sum.failed += totals.failed;
  sum.skipped += totals.skipped;
  every.push({ group: args.length === 0 ? name : "", failures });
}
for (const excerpts of [true, false]) {
  const report = every.map(({ group, failures }) => failures.report(group, excerpts)).join("");
  if (report !== "") process.stdout.write(`\n== failed${excerpts ? ", and why" : ""}\n${report}`);
}
process.stdout.write(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped\n`);
process.exitCode = sum.failed === 0 ? 0 : 1; // and not at once: a slow reader has it all
