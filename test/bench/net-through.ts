/**
 * What the way out of a sandbox costs: from a process in the guest's place through the slot's rules, two NATs and the host's
 * table to a peer, against the same two programs with one bare link between them. Interleaved; all in namespaces of its own.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { installRootTable } from "../../src/host/net/nft/root.ts";
import { installRules } from "../../src/host/net/nft/rules.ts";
import { resetTable } from "../../src/host/net/nft/table.ts";
import { LIMITS } from "../../src/limits.ts";
import { Agent, lab, PEER } from "../harness/netns.ts";
import { machineFacts, RESULTS, record } from "./record.ts";
import { pairRatio, round, summary } from "./stats.ts";

const HELP = `Measure the network's way out of a sandbox against a bare link. Root only.

Usage: bun test/bench/net-through.ts [options]

  --rounds N        samples of each figure, 3 or more (default 7)
  --seconds N       length of each sample (default 1.5)
  --record          append the line to test/bench/results.ndjson
  --help            this text`;

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    seconds: { type: "string", default: "1.5" },
    record: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const rounds = Number(options.rounds);

const WHATS = ["connections", "requests", "throughput"] as const;
const PORT = 8080;
const LOAD = join(import.meta.dir, "net-load.ts");

function inside(pid: number, ...args: readonly string[]): string[] {
  return ["nsenter", "-t", String(pid), "-n", process.execPath, LOAD, ...args];
}

async function server(agent: Agent): Promise<AsyncDisposable> {
  const child = Bun.spawn(inside(agent.pid, "serve", String(PORT)), {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  await child.stdout.getReader().read();
  return {
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await child.exited;
    },
  };
}

async function load(agent: Agent, host: string, what: (typeof WHATS)[number]): Promise<number> {
  const args = inside(agent.pid, "load", `http://${host}:${PORT}`, what, String(options.seconds));
  const child = Bun.spawn(args, { stdout: "pipe", stderr: "inherit" });
  const figure = Number(await new Response(child.stdout).text());
  if ((await child.exited) !== 0 || !(figure > 0)) throw new Error(`no figure for ${what} from ${host}`);
  return figure;
}

/** Two namespaces and one link. */
async function bareLink(undo: AsyncDisposableStack): Promise<readonly [Agent, Agent]> {
  const [near, far] = [undo.use(await Agent.start()), undo.use(await Agent.start())];
  await near.do("ip", [
    `link add l0 type veth peer name l0 netns ${far.pid}`,
    "addr add 11.0.0.1/24 dev l0",
    "link set l0 up",
  ]);
  await far.do("ip", ["addr add 11.0.0.2/24 dev l0", "link set l0 up"]);
  return [near, far];
}

async function measure(): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const net = undo.use(await lab());
  const limits = { bytesPerSecond: null, newConnectionsPerSecond: 100_000, connections: LIMITS.egressConnectionsMax };
  const rules = { ranges: [], exempt: [], limits, dnsPort: null, proxyPort: null, caught: "none" as const };
  resetTable(net.nl, net.at);
  installRules(net.nl, { mode: "open", ...rules }, net.at, 1);
  installRootTable(net.hostNl, { ownForwarding: [] });
  const [near, far] = await bareLink(undo);
  undo.use(await server(net.peer));
  undo.use(await server(far));
  const samples = Object.fromEntries(WHATS.map((what) => [what, { through: [] as number[], bare: [] as number[] }]));
  for (let i = 0; i < rounds; i++) {
    for (const what of WHATS) {
      samples[what]?.through.push(await load(net.guest, PEER.public4[0], what));
      samples[what]?.bare.push(await load(near, "11.0.0.2", what));
    }
  }
  const figures = Object.fromEntries(
    WHATS.map((what) => {
      const { through = [], bare = [] } = samples[what] ?? {};
      const of = { through: round(summary(through).p50), bare: round(summary(bare).p50) };
      return [what, { ...of, ratio: round(pairRatio(through, bare), 2), n: rounds }];
    }),
  );
  const units = { connections: "per second", requests: "per second", throughput: "MiB per second" };
  const line = { bench: "net-through", ...(await machineFacts()), seconds: Number(options.seconds), units, ...figures };
  process.stdout.write(`${JSON.stringify(line, null, 2)}\n`);
  if (options.record) record(line);
  if (options.record) process.stderr.write(`appended to ${RESULTS}\n`);
}

if (options.help) process.stdout.write(`${HELP}\n`);
else if (!Number.isInteger(rounds) || rounds < 3) {
  process.stderr.write(`--rounds: got ${options.rounds}, allowed is 3 or more\n\n${HELP}\n`);
  process.exitCode = 2;
} else await measure();
