/** The benchmark's call: its help is no run, and a mistake in the call is said as one, before anything is opened or baked. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../src/host/run.ts";

const bench = (...args: string[]) =>
  run([process.execPath, join(import.meta.dir, "run.ts"), ...args], { deadlineMs: 20_000 });

test("The benchmark prints its help and ends well", async () => {
  for (const flag of ["--help", "-h"]) {
    const { exitCode, stdout, stderr } = await bench(flag);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toContain("--record");
  }
}, 60_000);

test("The benchmark refuses a call that it does not understand", async () => {
  for (const args of [["--rounds", "2"], ["--skip", "lunch"], ["--what"], ["word"]]) {
    const { exitCode, stderr } = await bench(...args);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("Usage: warren bench");
    expect(stderr).not.toMatch(/^ +at /m);
  }
}, 60_000);
