/**
 * The whole test command: groups one after another, each in a process of its own, and at the end one line with the totals.
 * With arguments: one group, the tests that they name, as `bun test` takes them.
 */
import { readlinkSync } from "node:fs";
import { join } from "node:path";

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

async function copied(stream: ReadableStream<Uint8Array>, to: NodeJS.WriteStream): Promise<string> {
  const decoder = new TextDecoder();
  let end = "";
  for await (const chunk of stream) {
    to.write(chunk);
    end = (end + decoder.decode(chunk, { stream: true })).slice(-4096);
  }
  return end;
}

async function run(args: readonly string[], ownNetwork: boolean): Promise<Totals> {
  const command = [...(ownNetwork ? ["unshare", "--net"] : []), process.execPath, "test", ...args];
  const env = ownNetwork ? { ...process.env, OUTER_NETNS: readlinkSync("/proc/self/ns/net") } : process.env;
  const child = Bun.spawn(command, { cwd: ROOT, stdout: "pipe", stderr: "pipe", env });
  const texts = await Promise.all([copied(child.stdout, process.stdout), copied(child.stderr, process.stderr)]);
  const code = await child.exited;
  const totals = totalsIn(texts.join("\n"));
  // A group that ended badly without a failed test, by a crash for instance, is a failure all the same.
  if (code !== 0 && totals.failed === 0) totals.failed = 1;
  return totals;
}

const args = process.argv.slice(2);
const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
const named: Group = {
  name: args.join(" "),
  paths: args,
  timeoutMs: 300_000,
  ownNetwork: args.some((arg) => arg.includes(NETWORK)),
};
for (const { name, paths, timeoutMs, ownNetwork } of args.length > 0 ? [named] : GROUPS) {
  if (args.length === 0) process.stdout.write(`\n== ${name}\n`);
  const { passed, failed, skipped } = await run([`--timeout=${timeoutMs}`, ...paths], ownNetwork === true);
  sum.passed += passed;
  sum.failed += failed;
  sum.skipped += skipped;
}
process.stdout.write(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped\n`);
process.exit(sum.failed === 0 ? 0 : 1);
