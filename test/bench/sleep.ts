/**
 * What sleep and snapshots cost: a wake, and a restore of a snapshot, beside a create with nothing prepared, interleaved; how long
 * putting to sleep and keeping take; what the image of an idle sandbox takes of the disk. `--record` appends the line to
 * results.ndjson.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openWarren, type Warren } from "../../src/compose.ts";
import { ownBytes } from "../../src/host/home/disk.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { timed, verified } from "./measures.ts";
import { type Promised, table } from "./promises.ts";
import { machineFacts, RESULTS, record } from "./record.ts";
import { pairRatio, round, summary } from "./stats.ts";

const TEMPLATE = "code-interpreter";
const MIB = 2 ** 20;
const HELP = `Measure hibernation and snapshots on this host. Prints each promise with its figure.

Usage: bun test/bench/sleep.ts [options]

  --rounds N        samples of each figure, 3 or more (default 20)
  --json            the line and the promises as JSON
  --record          append the line to test/bench/results.ndjson
  --help            this text`;

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const rounds = Number(options.rounds);

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function execTrue(sandbox: Sandbox): Promise<void> {
  const { exitCode } = await sandbox.exec(["/bin/true"]);
  if (exitCode !== 0) throw new Error(`/bin/true ended with ${exitCode}`);
}

interface Image {
  /** As the product says. */
  readonly toldMib: number;
  /** As the file system says: allocated, the template's memory and shared blocks left out. */
  readonly ownMib: number;
  /** Of that, memory. */
  readonly memoryMib: number;
}

async function imageOf(warren: Warren, { id }: Sandbox): Promise<Image> {
  const told = (await warren.snapshots.findImage(id))!.info.sizeBytes;
  const path = join(warren.host.data.dir, "hibernated", id);
  let own = 0;
  let memory = 0;
  for (const name of readdirSync(path)) {
    if (name === "memory-0") continue; // the template's, by a link
    const bytes = Math.min(ownBytes(join(path, name)), statSync(join(path, name)).blocks * 512);
    own += bytes;
    if (name.startsWith("memory-")) memory += bytes;
  }
  return { toldMib: told / MIB, ownMib: own / MIB, memoryMib: memory / MIB };
}

/** One of each; no other guest is up while one is timed. */
async function once(warren: Warren) {
  const make = () => Sandbox.create({ template: TEMPLATE }, warren.sandboxes);
  await using idle = await make();
  const hibernate = await timed(() => idle.hibernate());
  const image = await imageOf(warren, idle);
  const made: Sandbox[] = [];
  const create = await timed(async () => made.push(await make()));
  const createExec = create + (await timed(() => execTrue(made[0]!)));
  await made[0]!.close();
  const wake = await timed(() => idle.wake());
  const wakeExec = wake + (await timed(() => execTrue(idle)));
  await verified(idle);
  await idle.hibernate();
  const used = await imageOf(warren, idle);
  await idle.close();
  await using sandbox = await make();
  const kept: Awaited<ReturnType<Sandbox["snapshot"]>>[] = [];
  const snapshot = await timed(async () => kept.push(await sandbox.snapshot()));
  const [point] = kept as [(typeof kept)[number]];
  const { pauseMs } = await point.info();
  await sandbox.close();
  const restored: Sandbox[] = [];
  const restore = await timed(async () => restored.push(await Sandbox.fromSnapshot(point, {}, warren.sandboxes)));
  const restoreExec = restore + (await timed(() => execTrue(restored[0]!)));
  await restored[0]!.close();
  await point.remove();
  const times = { create, createExec, hibernate, wake, wakeExec, snapshot, pause: pauseMs, restore, restoreExec };
  return { times, image, used };
}

type Times = Awaited<ReturnType<typeof once>>["times"];

async function measure(): Promise<Record<string, unknown>> {
  await using warren = await openWarren({ prepared: 0 });
  say("opening the template (baked first when it is missing)");
  await warren.engine.prepare({ template: TEMPLATE });
  const all: Awaited<ReturnType<typeof once>>[] = [];
  for (let i = 0; i < rounds + 1; i++) {
    const one = await once(warren);
    if (i === 0) continue; // the first round fills page caches for everyone
    all.push(one);
    const { createExec, wakeExec, restoreExec } = one.times;
    if (i % 5 === 0)
      say(
        `round ${i} of ${rounds}: create ${round(createExec)}, wake ${round(wakeExec)}, restore ${round(restoreExec)} ms`,
      );
  }
  const samples = (key: keyof Times) => all.map(({ times }) => times[key]);
  const ratio = (of: keyof Times, to: keyof Times) => pairRatio(samples(of), samples(to));
  const keys = Object.keys(all[0]!.times) as (keyof Times)[];
  return {
    ...{ bench: "sleep", template: TEMPLATE, rounds, ...(await machineFacts()) },
    accel: (await warren.templates.acceleration()).kind,
    ...Object.fromEntries(keys.map((key) => [`${key}Ms`, summary(samples(key))])),
    imageToldMib: summary(all.map(({ image }) => image.toldMib)),
    imageMib: summary(all.map(({ image }) => image.ownMib)),
    imageMemoryMib: summary(all.map(({ image }) => image.memoryMib)),
    usedImageMib: summary(all.map(({ used }) => used.ownMib)),
    ratios: {
      wakeIdentity: ratio("wake", "create"),
      wakeExec: ratio("wakeExec", "createExec"),
      hibernate: ratio("hibernate", "create"),
      snapshot: ratio("snapshot", "create"),
      restore: ratio("restore", "create"),
      restoreExec: ratio("restoreExec", "createExec"),
    },
  };
}

interface Row {
  readonly says: string;
  /** At most; null is only recorded. */
  readonly most: number | null;
  readonly unit: string;
  readonly value: number;
}

function promised(line: Record<string, unknown>): Promised[] {
  const ratios = line["ratios"] as Record<string, number>;
  const p50 = (name: string) => (line[name] as { p50: number }).p50;
  const rows: Row[] = [
    { says: "wake → confirmed identity, against a create", most: 1.3, unit: "×", value: ratios["wakeIdentity"]! },
    { says: "wake → first command, against a create", most: 1.3, unit: "×", value: ratios["wakeExec"]! },
    { says: "image of an idle sandbox, as told", most: 5, unit: "MiB", value: p50("imageToldMib") },
    { says: "the same, allocated and not shared", most: 5, unit: "MiB", value: p50("imageMib") },
    { says: "the same after a wake and a first Python", most: null, unit: "MiB", value: p50("usedImageMib") },
    { says: "hibernate", most: null, unit: "ms", value: p50("hibernateMs") },
    { says: "snapshot", most: null, unit: "ms", value: p50("snapshotMs") },
    { says: "for which the sandbox stands still", most: null, unit: "ms", value: p50("pauseMs") },
    { says: "snapshot, against a create", most: null, unit: "×", value: ratios["snapshot"]! },
    { says: "restore of a snapshot → first command", most: null, unit: "ms", value: p50("restoreExecMs") },
    { says: "the same, against a create", most: null, unit: "×", value: ratios["restoreExec"]! },
  ];
  return rows.map(({ says, most, unit, value }) => ({
    says,
    aim: most === null ? "recorded" : `≤ ${most} ${unit}`,
    measured: `${round(value, 2)} ${unit}`,
    met: most === null || value <= most,
  }));
}

if (options.help) console.log(HELP);
else if (!Number.isInteger(rounds) || rounds < 3) {
  process.stderr.write(`--rounds: got ${options.rounds}, allowed is 3 or more\n\n${HELP}\n`);
  process.exitCode = 2;
} else {
  const line = await measure();
  const rows = promised(line);
  if (options.json) console.log(JSON.stringify({ ...line, promises: rows }, null, 2));
  else console.log(table(rows));
  if (options.record) {
    record(line);
    say(`recorded in ${RESULTS}`);
  }
}
