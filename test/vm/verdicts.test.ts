/**
 * Real answers of a language model: each runs in a microVM of its own, and its verdict must be that of the same program under
 * the host's Python. The data is not part of this project: VERDICTS_DATA names a folder with `chatgpt-mbpp.jsonl` (task_id,
 * prompt with the asserts, completion) and `HumanEval.jsonl.gz`. VERDICTS_ITEMS is how many of each are taken, evenly spread
 * (default 60; `all` is the recorded run, which appends its rate to test/bench/results.ndjson).
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { batch } from "../../src/batch/batch.ts";
import { batchParts, type Warren } from "../../src/compose.ts";
import { run } from "../../src/host/run.ts";
import { machineFacts, record } from "../bench/record.ts";
import { gate } from "../harness/gates.ts";
import { guardLeaks } from "../harness/leak-guard.ts";
import { openTestWarren, VM_BAKE_MS } from "../harness/vm.ts";

const DATA = process.env["VERDICTS_DATA"] ?? "";
const WANTED = process.env["VERDICTS_ITEMS"] ?? "60";
const TIMEOUT_SECONDS = 20;

interface Program {
  readonly id: string;
  readonly code: string;
}

function lines(text: string): Record<string, string>[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, string>);
}

async function mbpp(): Promise<Program[]> {
  const all = lines(await Bun.file(join(DATA, "chatgpt-mbpp.jsonl")).text());
  return all.map((row) => ({ id: `mbpp ${row["task_id"]}`, code: `${row["completion"]}\n\n${row["prompt"]}\n` }));
}

async function humanEval(): Promise<Program[]> {
  const packed = await Bun.file(join(DATA, "HumanEval.jsonl.gz")).bytes();
  const all = lines(new TextDecoder().decode(Bun.gunzipSync(packed)));
  return all.map((row) => ({
    id: row["task_id"] ?? "",
    code: `${row["prompt"]}${row["canonical_solution"]}\n${row["test"]}\ncheck(${row["entry_point"]})\n`,
  }));
}

/** So many of them, evenly spread; the same ones at every run. */
function slice(programs: readonly Program[]): Program[] {
  const count = WANTED === "all" ? programs.length : Math.min(Number(WANTED), programs.length);
  return Array.from({ length: count }, (_, i) => programs[Math.floor((i * programs.length) / count)]!);
}

/** The host's verdict: the only place where such a program runs outside a microVM, because these two data sets are known. */
async function hostPasses(dir: string, { code }: Program): Promise<boolean> {
  const file = join(dir, "main.py");
  await Bun.write(file, code);
  return (await run(["/usr/bin/python3", file], { deadlineMs: TIMEOUT_SECONDS * 1000, cwd: dir })).exitCode === 0;
}

async function compare(warren: Warren, name: string, programs: readonly Program[]): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), "verdicts-"));
  const start = performance.now();
  const passed = new Map<string, boolean>();
  const options = { template: "base", timeoutSeconds: TIMEOUT_SECONDS * 3 };
  for await (const row of batch(batchParts(warren), programs, options)) passed.set(String(row.id), row.ok);
  const seconds = (performance.now() - start) / 1000;
  try {
    const different: string[] = [];
    for (const program of programs) {
      if ((await hostPasses(dir, program)) !== passed.get(program.id)) different.push(program.id);
    }
    expect(different).toEqual([]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  const ok = [...passed.values()].filter((one) => one).length;
  const rate = programs.length / seconds;
  console.log(`${name}: ${ok} of ${programs.length} pass, as on the host; ${rate.toFixed(2)} items a second`);
  if (WANTED === "all") {
    const facts = await machineFacts();
    record({ bench: "verdicts", set: name, items: programs.length, ok, seconds, itemsPerSecond: rate, ...facts });
  }
  return ok;
}

if (gate("vm")) {
  if (!existsSync(join(DATA, "chatgpt-mbpp.jsonl"))) {
    console.warn("skipped: the verdicts need VERDICTS_DATA, a folder with chatgpt-mbpp.jsonl and HumanEval.jsonl.gz");
  } else {
    guardLeaks("base");
    describe("Verdicts", () => {
      let warren: Warren;
      beforeAll(async () => {
        warren = await openTestWarren();
        await warren.engine.prepare({ template: "base" });
      }, VM_BAKE_MS);
      afterAll(() => warren[Symbol.asyncDispose]());

      test("of a model's answers are those of the host's Python", async () => {
        expect(await compare(warren, "mbpp", slice(await mbpp()))).toBeGreaterThan(0);
      }, 1_800_000);

      test("of reference solutions are all good", async () => {
        const programs = slice(await humanEval());
        expect(await compare(warren, "HumanEval", programs)).toBe(programs.length);
      }, 1_800_000);
    });
  }
}
