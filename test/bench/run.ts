/**
 * `warren bench`: the product beside the floor, interleaved, so that a machine whose speed drifts does so for both. Prints the
 * promises with what was measured; `--record` appends the line to results.ndjson. Options: --template NAME --rounds N
 * --skip boot,memory,batch --json --record.
 */
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openWarren, type Warren } from "../../src/compose.ts";
import { runOk } from "../../src/host/run.ts";
import { type Floor, openFloor } from "./floor.ts";
import { batchItems, type CloneMemory, cellAgainstCold, coldBoot, createToExec, idleMemory } from "./measures.ts";
import { type Promised, promises, table } from "./promises.ts";
import { pairRatio, round, type Summary, summary } from "./stats.ts";

export const RESULTS = join(import.meta.dir, "results.ndjson");
const IDLE_CLONES = 8;
const BATCH_ITEMS = 40;

const { values: options } = parseArgs({
  options: {
    template: { type: "string", default: "code-interpreter" },
    rounds: { type: "string", default: "30" },
    skip: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
  },
});
const template = options.template;
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 3) throw new Error(`--rounds: got ${options.rounds}, allowed is 3 or more`);
const skip = new Set(options.skip.split(","));

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

interface Series {
  readonly floor: number[];
  readonly floorPrepared: number[];
  readonly none: number[];
  readonly prepared: number[];
  readonly ready: number[];
  readonly cell: number[];
  readonly cold: number[];
}

async function interleaved(floor: Floor, none: Warren, pooled: Warren, ready: Warren): Promise<Series> {
  const s: Series = { floor: [], floorPrepared: [], none: [], prepared: [], ready: [], cell: [], cold: [] };
  for (let i = 0; i < rounds + 1; i++) {
    const one = {
      floor: (await floor.run("restore")).ms,
      none: await createToExec(none, template, "none"),
      floorPrepared: (await floor.run("prepared")).ms,
      prepared: await createToExec(pooled, template, "prepared"),
      ready: await createToExec(ready, template, "ready"),
      ...(await cellAgainstCold(none, template)),
    };
    if (i === 0) continue; // the first round fills page caches for everyone
    for (const key of Object.keys(s) as (keyof Series)[]) s[key].push(one[key]);
    if (i % 5 === 0)
      say(`round ${i} of ${rounds}: F ${round(one.floor)} ms, create → first exec ${round(one.none)} ms`);
  }
  return s;
}

async function machineFacts(warren: Warren): Promise<Record<string, unknown>> {
  const commit = await runOk(["git", "-C", import.meta.dir, "rev-parse", "--short", "HEAD"], {
    deadlineMs: 5_000,
  }).catch(
    () => "unknown\n", // not a checkout
  );
  return {
    commit: commit.trim(),
    at: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGib: round(totalmem() / 2 ** 30, 0),
    kernel: release(),
    accel: (await warren.templates.acceleration()).kind,
    vmm: (await warren.driver.identity())["version"],
    bun: Bun.version,
  };
}

function memorySummary(clones: readonly CloneMemory[]): { guestKib: Summary; vmmKib: Summary } {
  return {
    guestKib: summary(clones.map(({ guestKib }) => guestKib)),
    vmmKib: summary(clones.map(({ vmmKib }) => vmmKib)),
  };
}

async function measure(): Promise<Record<string, unknown>> {
  await using none = await openWarren({ prepared: 0 });
  say(`opening ${template} (baked first when it is missing)`);
  await none.engine.prepare({ template });
  await using pooled = await openWarren({ prepared: 1 });
  await using ready = await openWarren({ prepared: 0, ready: 1 });
  await using floor = await openFloor(none, template);
  const s = await interleaved(floor, none, pooled, ready);
  const figures: Record<string, unknown> = Object.fromEntries(
    Object.entries(s).map(([key, samples]) => [`${key}Ms`, summary(samples)]),
  );
  const ratios: Record<string, number> = {
    none: pairRatio(s.none, s.floor),
    prepared: pairRatio(s.prepared, s.floor),
    ready: pairRatio(s.ready, s.floor),
    cell: pairRatio(s.cell, s.cold),
  };
  if (!skip.has("boot")) {
    say("cold boots");
    const boots: number[] = [];
    for (let i = 0; i < 3; i++) boots.push(await coldBoot(none, template));
    figures["coldBootMs"] = summary(boots);
    ratios["boot"] = summary(boots).p50 / summary(s.none).p50;
  }
  if (!skip.has("memory")) {
    say(`memory of ${IDLE_CLONES} idle clones`);
    Object.assign(figures, memorySummary(await idleMemory(none, template, IDLE_CLONES)));
  }
  if (!skip.has("batch")) {
    say("batch against the same by hand");
    const pairs: { batch: number; hand: number }[] = [];
    for (let i = 0; i < 3; i++) pairs.push(await batchItems(pooled, template, BATCH_ITEMS));
    figures["batchItemMs"] = summary(pairs.map(({ batch }) => batch));
    ratios["batch"] = pairRatio(
      pairs.map(({ batch }) => batch),
      pairs.map(({ hand }) => hand),
    );
  }
  return { bench: "create", template, rounds, ...(await machineFacts(none)), ...figures, ratios };
}

/** F may not grow between recorded runs of one machine by over a tenth: a slower floor would make everything look better. */
async function floorBefore(line: Record<string, unknown>): Promise<number | null> {
  const file = Bun.file(RESULTS);
  if (!(await file.exists())) return null;
  const same = (await file.text())
    .split("\n")
    .filter((text) => text !== "")
    .map((text) => JSON.parse(text) as Record<string, unknown>)
    .filter((old) => old["bench"] === "create" && old["template"] === template && old["cpu"] === line["cpu"]);
  return (same.at(-1)?.["floorMs"] as Summary | undefined)?.p50 ?? null;
}

const line = await measure();
const before = await floorBefore(line);
const rows: Promised[] = promises(line, before);
if (options.json) console.log(JSON.stringify({ ...line, promises: rows }, null, 2));
else console.log(table(rows));
if (options.record) {
  const old = await Bun.file(RESULTS)
    .text()
    .catch(() => ""); // the first line of the file
  await Bun.write(RESULTS, `${old}${JSON.stringify(line)}\n`);
  say(`recorded in ${RESULTS}`);
}
