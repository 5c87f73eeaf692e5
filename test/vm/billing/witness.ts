/**
 * Preloaded into a server that is going to be killed: what it does to VMMs, on CLOCK_MONOTONIC before and after, each noted by
 * one appending write to the file that WITNESS names, so that nothing noted is lost with the process. The meter knows nothing of it.
 */
import { openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { QemuVmm } from "../../../src/driver/qemu/vmm.ts";
import type { SandboxRecord } from "../../../src/engine/registry.ts";
import { hostClock } from "../../../src/host/slots/host-clock.ts";

/** `resume` and `pause` are asked for at that instant, `resumed` and `paused` have been done by then. */
export interface Mark {
  readonly does: "resume" | "resumed" | "pause" | "paused";
  readonly id: string;
  /** The jail's first process. */
  readonly jail: number;
  readonly startTicks: number;
  readonly socketDir: string;
  /** What is added for the sandbox's own axis; null where its record does not say, as of a wake before it is registered. */
  readonly axisMs: number | null;
  readonly atMs: number;
}

function axisOf(socketDir: string): number | null {
  try {
    const record = JSON.parse(readFileSync(join(socketDir, "sandbox.json"), "utf8")) as SandboxRecord;
    return record.time?.axisMs ?? null;
  } catch {
    return null; // a machine that is nobody's yet
  }
}

/** Around a method of every VMM of this process. */
function bracket(method: "resume" | "pause", before: Mark["does"], after: Mark["does"], fd: number): void {
  const really = QemuVmm.prototype[method];
  QemuVmm.prototype[method] = async function bracketed(this: QemuVmm, signal?: AbortSignal): Promise<void> {
    const { id, pid: jail, startTicks, socketDir } = this.ref;
    const mark = { id, jail, startTicks, socketDir, axisMs: axisOf(socketDir) };
    const note = (does: Mark["does"], atMs: number) => writeSync(fd, `${JSON.stringify({ does, ...mark, atMs })}\n`);
    note(before, hostClock.monotonicMs());
    await really.call(this, signal);
    note(after, hostClock.monotonicMs());
  };
}

const path = process.env["WITNESS"];
if (path !== undefined) {
  const fd = openSync(path, "a", 0o600);
  bracket("resume", "resume", "resumed", fd);
  bracket("pause", "pause", "paused", fd);
}
