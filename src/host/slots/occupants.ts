/** The processes of a slot's jail, found without knowing who started them: by control group, or by the uids that only they have. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { closeFd } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { killPid, openPid } from "../../../ffi/process.ts";
import type { Cgroups } from "./cgroups.ts";
import { uidOf } from "./slots.ts";

/** Real uid of a process that runs; null when it has ended, reaped or not. */
function uidOfPid(pid: number): number | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    if (/^State:\s+[ZX]/m.test(status)) return null;
    const match = /^Uid:\t(\d+)/m.exec(status);
    return match === null ? null : Number(match[1]);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) return null;
    throw error;
  }
}

/** Host pids. A jail's processes live a moment longer than its slot is locked: the lock ends with the first of them. */
export function occupants(cgroups: Cgroups, slot: number): number[] {
  const ofSlot = (pid: number): boolean => {
    const uid = uidOfPid(pid);
    return uid === uidOf(slot) || uid === uidOf(slot) + 1;
  };
  const grouped = cgroups.processes(slot);
  if (grouped !== null) return grouped;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter(ofSlot);
}

/** SIGKILL to every process of a slot's jail. @returns how many got it */
export function killOccupants(cgroups: Cgroups, slot: number): number {
  let killed = 0;
  for (const pid of occupants(cgroups, slot)) {
    const pidfd = openPid(pid);
    if (pidfd === null) continue;
    // Looked at again through /proc with the pidfd open: a pid that was reused in between is of another uid, or of none.
    const uid = existsSync(`/proc/${pid}`) ? uidOfPid(pid) : null;
    if (uid === uidOf(slot) || uid === uidOf(slot) + 1) killed += killPid(pidfd) ? 1 : 0;
    closeFd(pidfd);
  }
  return killed;
}
