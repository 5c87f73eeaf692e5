/** Names for processes that a reused pid or a reboot cannot be mistaken for. */
import { readFileSync } from "node:fs";
import { hasCode } from "../../ffi/native.ts";

export interface ProcessName {
  readonly pid: number;
  readonly startTicks: number;
  readonly hostBootId: string;
}

/** Field 22 of /proc/PID/stat; null when there is no such process, or it has ended and only waits to be reaped. */
export function startTicksOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command's name may hold anything, brackets included: fields are counted from the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? null : Number(fields[19]);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) return null;
    throw error;
  }
}

export function hostBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

export function thisProcess(): ProcessName {
  return { pid: process.pid, startTicks: startTicksOf(process.pid) ?? 0, hostBootId: hostBootId() };
}

export function isAlive(name: ProcessName): boolean {
  return name.hostBootId === hostBootId() && startTicksOf(name.pid) === name.startTicks;
}
