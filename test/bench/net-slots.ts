/**
 * What a sandbox's network costs: building one beside the bare calls of the kernel that it is made of, interleaved; taking a
 * ready one; making a used one as good as new; and a thousand at once. In a network namespace of its own. `--record` appends
 * the line to results.ndjson.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { parseArgs } from "node:util";
import { closeAll } from "../../ffi/files.ts";
import { detachedMount } from "../../ffi/mounts.ts";
import { NETLINK_ROUTE, openNetlink, receiveNetlink, sendNetlink } from "../../ffi/net/netlink.ts";
import { makeNamespace } from "../../ffi/net/netns.ts";
import { systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import { messages } from "../../src/host/net/answer.ts";
import { closedMessages } from "../../src/host/net/closed.ts";
import { Netlink, NLM_F_ACK, type Written } from "../../src/host/net/message.ts";
import { Networks } from "../../src/host/net/networks.ts";
import { slotAddresses } from "../../src/host/net/plan.ts";
import { addInside, addLink, buildSlot, tapOf } from "../../src/host/net/slot.ts";
import { reset, verify } from "../../src/host/net/verify.ts";
import { lockSlot } from "../../src/host/slots/slots.ts";
import { LIMITS } from "../../src/limits.ts";
import { until } from "../harness/until.ts";
import { type Promised, table } from "./promises.ts";
import { machineFacts, RESULTS, record } from "./record.ts";
import { pairRatio, round, summary } from "./stats.ts";

const HELP = `Measure networks of sandboxes on this host. Prints each promise with its figure.

Usage: bun test/bench/net-slots.ts [options]

  --rounds N        samples of each figure, 3 or more (default 100)
  --slots N         how many at once (default 1000)
  --json            the line and the promises as JSON
  --record          append the line to test/bench/results.ndjson
  --help            this text`;

const IPV6 = { inside: true, links: true, forwards: true };
const NLMSG_ERROR = 2;
const HERE = "WARREN_BENCH_NETNS";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "100" },
    slots: { type: "string", default: "1000" },
    json: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const [rounds, slots] = [Number(options.rounds), Number(options.slots)];
const route = openNetlink(NETLINK_ROUTE);

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function timed(job: () => void): number {
  const startMs = systemClock.monotonicMs();
  job();
  return systemClock.monotonicMs() - startMs;
}

/** Asks for an acknowledgement of the last message, unless one is asked for already. */
function asking({ bytes }: Written): Uint8Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer);
  let last = 0;
  let asks = false;
  for (let at = 0; at < bytes.length; at += view.getUint32(at, true)) {
    last = at;
    asks ||= (view.getUint16(at + 6, true) & NLM_F_ACK) !== 0;
  }
  if (!asks) view.setUint16(last + 6, view.getUint16(last + 6, true) | NLM_F_ACK, true);
  return bytes;
}

function taken(nl: Netlink): Written {
  const written = nl.written();
  nl.drop();
  return written;
}

function bare(fd: number, bytes: Uint8Array<ArrayBuffer>): void {
  sendNetlink(fd, bytes, bytes.length);
  for (;;) {
    for (const { type, body } of messages(receiveNetlink(fd, true))) {
      if (type !== NLMSG_ERROR) continue;
      if (new DataView(body.buffer, body.byteOffset).getInt32(0, true) !== 0) throw new Error("a bare message failed");
      return;
    }
  }
}

/** Each proc mount serves as many namespaces as the product lets it. */
function procMounts(): () => number {
  let mount = { fd: detachedMount("proc", {}), used: 0 };
  return () => {
    if (mount.used === LIMITS.namespacesPerProc) {
      closeAll([mount.fd]);
      mount = { fd: detachedMount("proc", {}), used: 0 };
    }
    mount.used += 1;
    return mount.fd;
  };
}

const procFd = procMounts();

function buildOne(slot: number) {
  const at = slotAddresses(slot);
  return { at, ipv6: IPV6, ...buildSlot({ route, ipv6: IPV6, procFd }, at) };
}

/** The same calls with messages made beforehand. @returns how long they took, and what they made */
function bareOne(slot: number): { readonly tookMs: number; readonly fds: readonly number[] } {
  const at = slotAddresses(slot);
  const proc = procFd();
  let startMs = systemClock.monotonicMs();
  const made = makeNamespace(tapOf(at), proc, IPV6.inside);
  let tookMs = systemClock.monotonicMs() - startMs;
  const nl = new Netlink(route);
  addLink(nl, at, made.ns, IPV6);
  const outside = asking(taken(nl));
  addInside(nl, at, IPV6);
  const inside = asking(taken(nl));
  const rules = closedMessages(at).map(asking);
  startMs = systemClock.monotonicMs();
  bare(route, outside);
  bare(made.route, inside);
  for (const bytes of rules) bare(made.netfilter, bytes);
  tookMs += systemClock.monotonicMs() - startMs;
  const whole = verify(route, { at, ipv6: IPV6, ...made });
  if (whole.length > 0) throw new Error(`the bare calls make something else: ${whole.join("; ")}`);
  return { tookMs, fds: [made.ns, made.route, made.netfilter] };
}

async function gone(): Promise<void> {
  await until("all links are gone", () => !readFileSync("/proc/self/net/dev", "utf8").includes("wrn"), 300_000);
}

async function builds() {
  const [build, calls, recycle]: [number[], number[], number[]] = [[], [], []];
  for (let i = -3; i < rounds; i++) {
    const first = 4 * (i + 3);
    const made: ReturnType<typeof buildOne>[] = [];
    const ours = (slot: number) => timed(() => made.push(buildOne(slot)));
    const raw = bareOneTimes(first);
    const pair = i % 2 === 0 ? [ours(first), raw()] : [raw(), ours(first)].reverse();
    const [built] = made;
    if (built === undefined) throw new Error("nothing was built");
    const again = timed(() => {
      reset(built);
      const damages = verify(route, built);
      if (damages.length > 0) throw new Error(damages.join("; "));
    });
    closeAll([built.ns, built.netfilter]);
    if (i < 0) continue; // the first rounds load modules and compile
    build.push(pair[0]!);
    calls.push(pair[1]!);
    recycle.push(again);
  }
  await gone();
  return { build, calls, recycle };
}

function bareOneTimes(first: number): () => number {
  return () => {
    const { tookMs, fds } = bareOne(first + 1);
    closeAll(fds);
    return tookMs;
  };
}

async function takes(): Promise<number[]> {
  let next = 10_000;
  const lockFree = () => {
    const slot = next++;
    const fd = lockSlot(slot);
    return fd === null ? null : { slot, fd };
  };
  const networks = new Networks({ clock: systemClock, log: createLog("error"), lockFree });
  const lock = lockFree();
  const keeper = lock === null ? null : networks.build(lock.slot);
  if (keeper === null) throw new Error(networks.degraded ?? "no network");
  const lent = networks.lend(keeper);
  const found: number[] = [];
  for (let i = 0; i < rounds; i++) {
    await until("some are ready", () => networks.kept === LIMITS.networkReserve);
    found.push(
      timed(() => {
        const ready = networks.take();
        if (ready === null) throw new Error("none was ready");
        networks.discard({ ...ready, built: networks.lend(ready.built).end() });
      }),
    );
  }
  lent.end();
  networks.release();
  closeAll([keeper.ns, keeper.netfilter, lock?.fd ?? null]);
  await gone();
  return found;
}

/** Kernel memory that is not given back by itself, KiB. */
function kernelKib(): number {
  const text = readFileSync("/proc/meminfo", "utf8");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0);
  return field("SUnreclaim") + field("Percpu") + field("KernelStack") + field("VmallocUsed");
}

async function many() {
  const beforeKib = kernelKib();
  const made: ReturnType<typeof buildOne>[] = [];
  const took = Array.from({ length: slots }, (_, i) => timed(() => made.push(buildOne(i))));
  const eachKib = (kernelKib() - beforeKib) / slots;
  const startMs = systemClock.monotonicMs();
  const closeMs = timed(() => closeAll(made.flatMap(({ ns, netfilter }) => [ns, netfilter])));
  await gone();
  return {
    took,
    eachKib,
    closeMs,
    drainMs: systemClock.monotonicMs() - startMs,
    allMs: took.reduce((sum, ms) => sum + ms, 0),
  };
}

function promised(line: Awaited<ReturnType<typeof measure>>): Promised[] {
  const row = (says: string, most: number | null, unit: string, value: number): Promised => ({
    says,
    aim: most === null ? "recorded" : `≤ ${most} ${unit}`,
    measured: `${round(value, 2)} ${unit}`,
    met: most === null || value <= most,
  });
  return [
    row("building a network, against the bare calls", 1.5, "×", line.ratios.build),
    row("the same", null, "ms", line.buildMs.p50),
    row("a ready one, taken and lent", 1, "ms", line.takeMs.p50),
    row("a used one, undone and checked", null, "ms", line.recycleMs.p50),
    row(`${slots} at once, each`, null, "ms", line.manyMs.p50),
    row("the last hundredth of them, each", null, "ms", line.lastMs),
    row("kernel memory of each", null, "KiB", line.eachKib),
    row("letting go of all, for this process", null, "ms", line.closeMs),
    row("the same, until the last is gone", null, "ms", line.drainMs),
  ];
}

async function measure() {
  say(`${rounds} builds`);
  const { build, calls, recycle } = await builds();
  say(`${rounds} times one that is ready`);
  const take = await takes();
  say(`${slots} at once`);
  const all = await many();
  return {
    ...{ bench: "net-slots", rounds, slots, ...(await machineFacts()) },
    buildMs: summary(build),
    bareMs: summary(calls),
    takeMs: summary(take),
    recycleMs: summary(recycle),
    manyMs: summary(all.took),
    lastMs: summary(all.took.slice(-Math.ceil(slots / 100))).p50,
    allMs: round(all.allMs),
    eachKib: round(all.eachKib),
    closeMs: round(all.closeMs),
    drainMs: round(all.drainMs),
    ratios: { build: pairRatio(build, calls) },
  };
}

/** Runs this file again where nothing of the machine's can be touched. */
async function again(): Promise<void> {
  const child = Bun.spawn(["unshare", "--net", process.execPath, import.meta.path, ...process.argv.slice(2)], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, [HERE]: readlinkSync("/proc/self/ns/net") },
  });
  process.exitCode = await child.exited;
}

if (options.help) console.log(HELP);
else if (![rounds, slots].every((n) => Number.isInteger(n) && n >= 3) || slots > LIMITS.slots) {
  process.stderr.write(`--rounds, --slots: got ${options.rounds}, ${options.slots}\n\n${HELP}\n`);
  process.exitCode = 2;
} else if (process.env[HERE] === undefined) await again();
else {
  const line = await measure();
  const rows = promised(line);
  if (options.json) console.log(JSON.stringify({ ...line, promises: rows }, null, 2));
  else console.log(table(rows));
  if (options.record) {
    record(line);
    say(`recorded in ${RESULTS}`);
  }
}
