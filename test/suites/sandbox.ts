/**
 * How a sandbox behaves, written once and run against every `SandboxHost`: the engine over fakes, over real VMs, and over
 * HTTP. What a host cannot do is named with a reason, and its tests show up as skipped with it.
 */
import { afterAll, beforeAll, describe } from "bun:test";
import type { SandboxHost } from "../../src/contract/routes.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { contextTests } from "./sandbox/contexts.ts";
import { execTests } from "./sandbox/exec.ts";
import { fileTests } from "./sandbox/files.ts";
import { lifeTests } from "./sandbox/life.ts";
import { portTests } from "./sandbox/ports.ts";
import { processTests } from "./sandbox/processes.ts";
import { pythonTests } from "./sandbox/python.ts";
import { type Skips, type Subject, testsFor } from "./sandbox/subject.ts";
import { terminalTests } from "./sandbox/terminal.ts";
import { volumeTests } from "./sandbox/volumes.ts";
import { watchTests } from "./sandbox/watch.ts";

export type { Skips } from "./sandbox/subject.ts";

export interface SuiteOptions {
  readonly skips?: Skips;
  /** For one test; a real VM under emulation on a busy machine needs far longer than a fake. */
  readonly timeoutMs?: number;
  /** A sandbox outlives its maker when nothing is said: those of a server do. */
  readonly detached?: boolean;
  /** For the first sandbox, which may have to be baked. */
  readonly setUpMs?: number;
}

/** Registers every test of the suite under `name`. */
export function sandboxSuite(
  name: string,
  open: () => Promise<{ readonly host: SandboxHost; close(): Promise<void> }>,
  options: SuiteOptions = {},
): void {
  const { skips = {}, timeoutMs = 5_000, setUpMs = 30_000, detached = false } = options;
  describe(name, () => {
    let opened: Awaited<ReturnType<typeof open>> | null = null;
    let shared: Sandbox | null = null;
    beforeAll(async () => {
      opened = await open();
      shared = await Sandbox.create({ env: { FROM: "sandbox", BOTH: "sandbox" }, workdir: "/work" }, opened.host);
    }, setUpMs);
    afterAll(async () => {
      await shared?.close();
      await opened?.close();
    }, setUpMs);
    const subject: Subject = {
      host: () => given(opened).host,
      shared: () => given(shared),
      detached,
      ...testsFor(skips, timeoutMs),
    };
    lifeTests(subject);
    execTests(subject);
    processTests(subject);
    terminalTests(subject);
    fileTests(subject);
    watchTests(subject);
    pythonTests(subject);
    contextTests(subject);
    portTests(subject);
    volumeTests(subject);
  });
}

function given<T>(value: T | null): T {
  if (value === null) throw new Error("the suite's host could not be opened");
  return value;
}
