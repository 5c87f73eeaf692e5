/** Names for processes that a reused pid or a reboot cannot be mistaken for. */
import { readFileSync, readlinkSync } from "node:fs";
import { hasCode } from "../../../ffi/native.ts";

export interface ProcessName {
  readonly pid: number;
  readonly startTicks: number;
  readonly hostBootId: string;
  /** The pid and network namespaces in which the pid, and locks by abstract name, mean something. */
  readonly space: string;
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

/** Two processes with the same answer see each other's pids and names. */
export function thisSpace(): string {
  const number = (kind: string) => readlinkSync(`/proc/self/ns/${kind}`).replace(/\D/g, "");
  return `${number("pid")}.${number("net")}`;
}

export function thisProcess(): ProcessName {
  return { pid: process.pid, startTicks: startTicksOf(process.pid) ?? 0, hostBootId: hostBootId(), space: thisSpace() };
}

/** For a pid of this space. */
export function isRunning(name: Omit<ProcessName, "space">): boolean {
  return name.hostBootId === hostBootId() && startTicksOf(name.pid) === name.startTicks;
}

/** True for a process that cannot be seen from here, as in another container over the same folder. */
export function isForeign(name: ProcessName): boolean {
  return name.hostBootId === hostBootId() && name.space !== thisSpace();
}

/** One that cannot be seen counts as alive. */
export function isAlive(name: ProcessName): boolean {
  return isForeign(name) || isRunning(name);
}
