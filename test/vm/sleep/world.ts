/** A sandbox in which something goes on, and what another look at it says of that. */
import type { Warren } from "../../../src/compose.ts";
import type { VmRef } from "../../../src/driver/driver.ts";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import type { Sandbox } from "../../../src/sandbox.ts";
import { until } from "../../harness/until.ts";
import { TEST_HOME, VM_TEST_MS } from "../../harness/vm.ts";
import { ASK, WORLD } from "../forks/programs.ts";

/** Starts `WORLD`, with so much memory that it keeps sums of. */
export async function settle(sandbox: Sandbox, mib = 2): Promise<void> {
  await sandbox.files.write("/root/world.py", WORLD);
  await sandbox.files.write("/root/ask.sh", ASK);
  await sandbox.spawn(["python3", "/root/world.py", String(mib)]);
  const started = async () => (await sandbox.exec(["test", "-e", "/run/world.pid"])).exitCode === 0;
  await until("the world is there", started, VM_TEST_MS);
}

export async function ask(sandbox: Sandbox, ...lines: string[]): Promise<string[]> {
  const { stdout, stderr } = await sandbox.exec(["bash", "/root/ask.sh", ...lines]);
  if (stderr !== "") throw new Error(stderr);
  return stdout.trimEnd().split("\n");
}

export async function sh(sandbox: Sandbox, command: string): Promise<string> {
  const { stdout, stderr } = await sandbox.exec(command);
  return (stdout + stderr).trimEnd();
}

/** Pids, parents and start times of what runs. */
export const PIDS = "for p in $(cat /run/*.pid); do cut -d' ' -f1,2,22 /proc/$p/stat; done";

/** The first process of a sandbox's jail; null when it is in no register. */
export async function refOf({ host }: Warren, { id }: Pick<Sandbox, "id">): Promise<VmRef | null> {
  return (await host.registry.get(id))?.ref ?? null;
}

export function isGone(ref: VmRef): boolean {
  return startTicksOf(ref.pid) !== ref.startTicks;
}

/** A program of this folder in a process of its own on the test home. */
export function start(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return Bun.spawn([process.execPath, `${import.meta.dir}/${program}`, ...args], {
    env: { ...process.env, WARREN_HOME: TEST_HOME, ...env },
    stdout: "pipe",
    stderr: "inherit",
  });
}

/** Counts, in memory a step ahead of the disk; four digits, written over in place. */
export const COUNTER =
  "echo $$ >/run/counter.pid; n=1000; while :; do n=$((n + 1)); echo $n 1<>/run/n; echo $n 1<>/root/n; sleep 0.05; done";
/** Stops it, and says both counts, the disk's from the disk. */
export const COUNTS =
  "kill -STOP $(cat /run/counter.pid) && sync && echo 3 >/proc/sys/vm/drop_caches && cat /run/n /root/n; kill -CONT $(cat /run/counter.pid)";
