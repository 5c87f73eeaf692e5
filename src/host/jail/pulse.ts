/**
 * Whether VMMs live, by the kernel's own accounts: one read of /proc a VMM, 20 µs, so that 1,000 of them are looked at in 20 ms. A
 * VMM is found once, below its jail's first process, and known again by its start. The CPU time that it has used is its
 * group's, which is what a lease tells too: what /proc counts is another sum.
 */
import { readFileSync } from "node:fs";
import { hasCode } from "../../../ffi/native.ts";
import type { VmRef } from "../../driver/driver.ts";
import { Cgroups } from "../slots/cgroups.ts";
import { hostBootId, startTicksOf } from "../slots/process-name.ts";

/** Field 22 of /proc/PID/stat; null when the process has ended, reaped or not. */
export function parseStart(text: string): number | null {
  // The command's name may hold anything, brackets included: fields are counted from the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return null;
  const startTicks = Number(fields[19]);
  return Number.isFinite(startTicks) ? startTicks : null;
}

/** The slot in whose group a process is, by /proc/PID/cgroup; null when it is in none of ours. */
export function parseSlot(text: string): number | null {
  const slot = /\/warren\/(\d{1,5})$/m.exec(text)?.[1];
  return slot === undefined ? null : Number(slot);
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
  readonly slot: number | null;
  readonly jail: Pick<VmRef, "pid" | "startTicks">;
}

/** Whether the VMM itself lives, looked at now: its jail and whoever waits for it notice its end a little later. */
export function vmmLives(ref: VmRef): boolean {
  return new Pulses().look(ref) !== null;
}

export class Pulses {
  readonly #bootId = hostBootId();
  #groups: Cgroups | null = null;
  readonly #found = new Map<string, Found>();

  /**
   * Null when the VMM has ended; else it lived at this instant or later.
   * @returns in `cpuMs` what has been used in its lease, on the base of `Lease.cpuMs`; null where no group tells
   */
  look(ref: VmRef): { readonly cpuMs: () => number | null } | null {
    const known = this.#found.get(ref.id);
    const isSame = known?.jail.pid === ref.pid && known.jail.startTicks === ref.startTicks;
    const vmm = known !== undefined && isSame ? known : this.#find(ref);
    if (vmm !== null && parseStart(read(`/proc/${vmm.pid}/stat`) ?? "") === vmm.startTicks) {
      return { cpuMs: () => (vmm.slot === null ? null : this.#ofGroup(vmm.slot)) };
    }
    this.#found.delete(ref.id);
    return null;
  }

  forget(id: string): void {
    this.#found.delete(id);
  }

  #ofGroup(slot: number): number | null {
    this.#groups ??= Cgroups.look();
    return this.#groups.cpuMsOf(slot);
  }

  #find(ref: VmRef): Found | null {
    if (ref.hostBootId !== this.#bootId) return null;
    const pid = Number(read(`/proc/${ref.pid}/task/${ref.pid}/children`)?.trim() || Number.NaN);
    if (!Number.isInteger(pid)) return null;
    const startTicks = startTicksOf(pid);
    const slot = parseSlot(read(`/proc/${pid}/cgroup`) ?? "");
    // Looked at after its child was: the child that was read is that of the jail which the reference means, and of no other.
    if (startTicks === null || startTicksOf(ref.pid) !== ref.startTicks) return null;
    const found = { pid, startTicks, slot, jail: { pid: ref.pid, startTicks: ref.startTicks } };
    this.#found.set(ref.id, found);
    return found;
  }
}
