/**
 * What forks cost: the way from a fork to its first result beside a create with nothing prepared, interleaved; the parent's
 * pause at equal changes in a small and a large guest; memory of ten forks of a Python that holds 500 MiB. `--record` appends
 * the line to results.ndjson.
 */
import { parseArgs } from "node:util";
import { openWarren, type Warren } from "../../src/compose.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { until } from "../harness/until.ts";
import { forkMemory } from "./fork-memory.ts";
import { createToExec, timed, verified } from "./measures.ts";
import { forkPromises, table } from "./promises.ts";
import { machineFacts, RESULTS, record } from "./record.ts";
import { pairRatio, round, summary } from "./stats.ts";

const TEMPLATE = "code-interpreter";
const CHILDREN = 10;
const DIRTY_MIB = 64;
const [SMALL_MB, LARGE_MB] = [256, 1024];
const PARTS = ["speed", "pause", "memory"];
const HELP = `Measure forks on this host. Prints each promise with its figure.

Usage: bun test/bench/forks.ts [options]

  --rounds N        samples of each figure, 3 or more (default 20)
  --skip LIST       leave out any of ${PARTS.join(",")}
  --json            the line and the promises as JSON
  --record          append the line to test/bench/results.ndjson
  --help            this text`;

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "20" },
    skip: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const rounds = Number(options.rounds);
const skip = new Set(options.skip.split(","));

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function execTrue(sandbox: Sandbox): Promise<void> {
  const { exitCode } = await sandbox.exec(["/bin/true"]);
  if (exitCode !== 0) throw new Error(`/bin/true ended with ${exitCode}`);
}

/** From nothing, or from `parent`, to the first result of `first`; the sandbox is closed off the clock. */
async function toFirst(make: () => Promise<Sandbox>, first: (sandbox: Sandbox) => Promise<void>): Promise<number> {
  const made: Sandbox[] = [];
  const ms = await timed(async () => {
    const sandbox = await make();
    made.push(sandbox);
    await first(sandbox);
  });
  await made[0]!.close();
  return ms;
}

async function speed(warren: Warren): Promise<Record<string, unknown>> {
  const s = {
    createExec: [] as number[],
    forkExec: [] as number[],
    createPython: [] as number[],
    forkPython: [] as number[],
  };
  await using parent = await Sandbox.create({ template: TEMPLATE }, warren.sandboxes);
  await verified(parent);
  await execTrue(parent);
  const create = () => Sandbox.create({ template: TEMPLATE }, warren.sandboxes);
  for (let i = 0; i < rounds + 1; i++) {
    const one = {
      createExec: await toFirst(create, execTrue),
      forkExec: await toFirst(() => parent.fork(), execTrue),
      createPython: await createToExec(warren, TEMPLATE, "none"),
      forkPython: await toFirst(() => parent.fork(), verified),
    };
    if (i === 0) continue; // the first round fills page caches for everyone
    for (const key of Object.keys(s) as (keyof typeof s)[]) s[key].push(one[key]);
    if (i % 5 === 0) say(`round ${i} of ${rounds}: create ${round(one.createExec)} ms, fork ${round(one.forkExec)} ms`);
  }
  const figures = Object.fromEntries(Object.entries(s).map(([key, samples]) => [`${key}Ms`, summary(samples)]));
  const ratios = { exec: pairRatio(s.forkExec, s.createExec), python: pairRatio(s.forkPython, s.createPython) };
  return { ...figures, ratios };
}

/** Changes one byte of every page of its buffer each time it is told to. */
const TOUCH = `
import os, time
buffer = bytearray(os.urandom(1 << 20) * ${DIRTY_MIB})
pages = range(0, len(buffer), 4096)
while True:
    for i in pages: buffer[i] = (buffer[i] + 1) & 255
    open("/run/done", "w").close()
    while not os.path.exists("/run/go"): time.sleep(.02)
    os.unlink("/run/go")
`;

async function toucher(warren: Warren, memoryMb: number, undo: AsyncDisposableStack): Promise<Sandbox> {
  const parent = await Sandbox.create({ template: "base", memoryMb }, warren.sandboxes);
  undo.use(parent);
  await parent.files.write("/root/touch.py", TOUCH);
  await parent.spawn(["python3", "/root/touch.py"]);
  return parent;
}

interface Pause {
  readonly pauseMs: number;
  readonly changedMib: number;
}

/** One fork, after every page of the buffer was changed or with the guest left alone. */
async function pauseOf(warren: Warren, parent: Sandbox, dirty: boolean): Promise<Pause> {
  const test = async () => (await parent.exec(["test", "-e", "/run/done"])).exitCode === 0;
  if (dirty) {
    await parent.exec(["sh", "-c", "rm -f /run/done; >/run/go"]);
    await until("the pages are changed", test, 120_000);
  }
  const { children, pauseMs, changedBytes } = await warren.sandboxes.fork({ id: parent.id });
  await warren.sandboxes.close({ id: children[0]!.id });
  return { pauseMs, changedMib: changedBytes / 2 ** 20 };
}

async function pauses(warren: Warren): Promise<Record<string, unknown>> {
  await using undo = new AsyncDisposableStack();
  const parents = [await toucher(warren, SMALL_MB, undo), await toucher(warren, LARGE_MB, undo)];
  for (const parent of parents) {
    const started = async () => (await parent.exec(["test", "-e", "/run/done"])).exitCode === 0;
    await until("the buffer is there", started, 120_000);
    await pauseOf(warren, parent, true); // from here on only what is changed between forks counts
  }
  const samples = ["small", "large"].map(() => ({ dirty: [] as Pause[], idle: [] as Pause[] }));
  for (let i = 0; i < rounds; i++) {
    for (const [k, parent] of parents.entries()) {
      samples[k]!.dirty.push(await pauseOf(warren, parent, true));
      samples[k]!.idle.push(await pauseOf(warren, parent, false));
    }
    if (i % 5 === 4)
      say(`pause ${i + 1} of ${rounds}: ${samples.map((s) => round(s.dirty.at(-1)!.pauseMs)).join(", ")} ms`);
  }
  const ms = (of: readonly Pause[]) => of.map(({ pauseMs }) => pauseMs);
  const [small, large] = [samples[0]!, samples[1]!];
  const perMib = small.dirty.map(({ pauseMs, changedMib }, i) => {
    const idle = small.idle[i]!;
    return (pauseMs - idle.pauseMs) / (changedMib - idle.changedMib);
  });
  return {
    pauseSmallMs: summary(ms(small.dirty)),
    pauseLargeMs: summary(ms(large.dirty)),
    pauseSmallIdleMs: summary(ms(small.idle)),
    pauseLargeIdleMs: summary(ms(large.idle)),
    changedSmallMib: summary(small.dirty.map(({ changedMib }) => changedMib)),
    changedLargeMib: summary(large.dirty.map(({ changedMib }) => changedMib)),
    pausePerMibMs: summary(perMib),
    pauseRatio: pairRatio(ms(large.dirty), ms(small.dirty)),
  };
}

async function measure(): Promise<Record<string, unknown>> {
  await using warren = await openWarren({ prepared: 0 });
  say("opening templates (baked first when they are missing)");
  await warren.engine.prepare({ template: TEMPLATE });
  const figures: Record<string, unknown> = {};
  if (!skip.has("speed")) Object.assign(figures, await speed(warren));
  if (!skip.has("pause")) Object.assign(figures, await pauses(warren));
  if (!skip.has("memory")) {
    say(`memory of ${CHILDREN} forks`);
    figures["memory"] = await forkMemory(warren, TEMPLATE, CHILDREN);
  }
  const accel = (await warren.templates.acceleration()).kind;
  return { bench: "forks", template: TEMPLATE, rounds, ...(await machineFacts()), accel, ...figures };
}

if (options.help) console.log(HELP);
else if (!Number.isInteger(rounds) || rounds < 3) {
  process.stderr.write(`--rounds: got ${options.rounds}, allowed is 3 or more\n\n${HELP}\n`);
  process.exitCode = 2;
} else {
  const line = await measure();
  const rows = forkPromises(line);
  if (options.json) console.log(JSON.stringify({ ...line, promises: rows }, null, 2));
  else console.log(table(rows));
  if (options.record) {
    record(line);
    say(`recorded in ${RESULTS}`);
  }
}
