/**
 * Whether VMMs live, and the CPU time that they have used, by the kernel's own accounts: one read of /proc a VMM, 20 µs, so
 * that 1,000 of them are looked at in 20 ms. A VMM is found once, below its jail's first process, and known again by its start.
 */
import { readFileSync } from "node:fs";
import { hasCode } from "../../../ffi/native.ts";
import type { VmRef } from "../../driver/driver.ts";
import { hostBootId, startTicksOf } from "../slots/process-name.ts";

/** USER_HZ, in which /proc counts. */
const TICK_MS = 10;

interface Stat {
  readonly startTicks: number;
  readonly cpuMs: number;
}

/** /proc/PID/stat, from its state on; null when the process has ended, reaped or not. */
export function parseStat(text: string): Stat | null {
  // The command's name may hold anything, brackets included: fields are counted from the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return null;
  const [user, system, startTicks] = [Number(fields[11]), Number(fields[12]), Number(fields[19])];
  if (!Number.isFinite(user + system + startTicks)) return null;
  return { startTicks, cpuMs: (user + system) * TICK_MS };
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) return null;
    throw error;
  }
}

interface Found {
  readonly pid: number;
  readonly startTicks: number;
  readonly jail: Pick<VmRef, "pid" | "startTicks">;
}

/** Whether the VMM itself lives, looked at now: its jail and whoever waits for it notice its end a little later. */
export function vmmLives(ref: VmRef): boolean {
  return new Pulses().look(ref) !== null;
}

export class Pulses {
  readonly #bootId = hostBootId();
  readonly #found = new Map<string, Found>();

  /** CPU time that the VMM has used in all; null when it has ended. It lived at this instant or later. */
  look(ref: VmRef): { readonly cpuMs: number } | null {
    const known = this.#found.get(ref.id);
    const isSame = known?.jail.pid === ref.pid && known.jail.startTicks === ref.startTicks;
    const vmm = known !== undefined && isSame ? known : this.#find(ref);
    const stat = vmm === null ? null : parseStat(read(`/proc/${vmm.pid}/stat`) ?? "");
    if (vmm !== null && stat !== null && stat.startTicks === vmm.startTicks) return { cpuMs: stat.cpuMs };
    this.#found.delete(ref.id);
    return null;
  }

  forget(id: string): void {
    this.#found.delete(id);
  }

  #find(ref: VmRef): Found | null {
    if (ref.hostBootId !== this.#bootId) return null;
    const pid = Number(read(`/proc/${ref.pid}/task/${ref.pid}/children`)?.trim() || Number.NaN);
    if (!Number.isInteger(pid)) return null;
    const startTicks = startTicksOf(pid);
    // Looked at after its child was: the child that was read is that of the jail which the reference means, and of no other.
    if (startTicks === null || startTicksOf(ref.pid) !== ref.startTicks) return null;
    const found = { pid, startTicks, jail: { pid: ref.pid, startTicks: ref.startTicks } };
    this.#found.set(ref.id, found);
    return found;
  }
}
