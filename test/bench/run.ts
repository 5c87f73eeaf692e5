/**
 * `warren bench`: the product beside the floor, interleaved, so that a machine whose speed drifts does so for both. Prints the
 * promises with what was measured; `--record` appends the line to results.ndjson.
 */
import { parseArgs } from "node:util";
import { openWarren, type Warren } from "../../src/compose.ts";
import { type Floor, openFloor } from "./floor.ts";
import { batchItems, type CloneMemory, cellAgainstCold, coldBoot, createToExec, idleMemory } from "./measures.ts";
import { type Promised, promises, table } from "./promises.ts";
import { machineFacts, RESULTS, record, recorded } from "./record.ts";
import { pairRatio, round, type Summary, summary } from "./stats.ts";

const IDLE_CLONES = 8;
const BATCH_ITEMS = 40;
const PARTS = ["boot", "memory", "batch"];
const HELP = `Measure this host: the floor beside the product, interleaved. Prints each promise with its figure.

Usage: warren bench [options]

  --template NAME   what is restored (default code-interpreter; baked first when it is missing)
  --rounds N        samples of each figure, 3 or more (default 30)
  --skip LIST       leave out any of ${PARTS.join(",")}
  --json            the line and the promises as JSON
  --record          append the line to test/bench/results.ndjson
  --help            this text`;

interface Options {
  readonly template: string;
  readonly rounds: number;
  readonly skip: ReadonlySet<string>;
  readonly json: boolean;
  readonly record: boolean;
}

/** Text is what is wrong with the call; null asks for help. */
function parseOptions(): Options | string | null {
  try {
    const { values } = parseArgs({
      options: {
        template: { type: "string", default: "code-interpreter" },
        rounds: { type: "string", default: "30" },
        skip: { type: "string", default: "" },
        json: { type: "boolean", default: false },
        record: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) return null;
    const rounds = Number(values.rounds);
    if (!Number.isInteger(rounds) || rounds < 3) return `--rounds: got ${values.rounds}, allowed is 3 or more`;
    const skip = new Set(values.skip.split(",").filter((part) => part !== ""));
    const unknown = [...skip].find((part) => !PARTS.includes(part));
    if (unknown !== undefined) return `--skip: got ${unknown}, allowed are ${PARTS.join(", ")}`;
    return { ...values, rounds, skip };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const options = parseOptions();
if (options === null) {
  console.log(HELP);
  process.exit(0);
}
if (typeof options === "string") {
  process.stderr.write(`${options}\n\n${HELP}\n`);
  process.exit(2);
}
const { template, rounds, skip } = options;

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

async function facts(warren: Warren): Promise<Record<string, unknown>> {
  return {
    ...(await machineFacts()),
    accel: (await warren.templates.acceleration()).kind,
    vmm: (await warren.driver.identity())["version"],
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
  return { bench: "create", template, rounds, ...(await facts(none)), ...figures, ratios };
}

/** F may not grow between recorded runs of one machine by over a tenth: a slower floor would make everything look better. */
function floorBefore(line: Record<string, unknown>): number | null {
  const same = recorded().filter(
    (old) => old["bench"] === "create" && old["template"] === template && old["cpu"] === line["cpu"],
  );
  return (same.at(-1)?.["floorMs"] as Summary | undefined)?.p50 ?? null;
}

const line = await measure();
const before = floorBefore(line);
const rows: Promised[] = promises(line, before);
if (options.json) console.log(JSON.stringify({ ...line, promises: rows }, null, 2));
else console.log(table(rows));
if (options.record) {
  record(line);
  say(`recorded in ${RESULTS}`);
}
