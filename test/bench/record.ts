/** Recorded figures: one JSON line each in results.ndjson, with the commit and the machine that it was measured on. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { runOk } from "../../src/host/run.ts";
import { round } from "./stats.ts";

export const RESULTS = join(import.meta.dir, "results.ndjson");

/** What every line says of where it comes from. */
export async function machineFacts(): Promise<Record<string, unknown>> {
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
    bun: Bun.version,
  };
}

/** Appends one line, in one write: runs that end at the same time do not mix. */
export function record(line: Readonly<Record<string, unknown>>): void {
  appendFileSync(RESULTS, `${JSON.stringify(line)}\n`);
}

/** All lines so far, oldest first. */
export function recorded(): Record<string, unknown>[] {
  if (!existsSync(RESULTS)) return [];
  return readFileSync(RESULTS, "utf8")
    .split("\n")
    .filter((text) => text !== "")
    .map((text) => JSON.parse(text) as Record<string, unknown>);
}
