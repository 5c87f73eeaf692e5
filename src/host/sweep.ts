/**
 * What crashes leave, removed: found through the home's slot entries, decided by the slots' locks. A slot whose lock can be
 * taken has no owner and no jail. One that cannot has a living owner, or a detached sandbox with a record, or is an orphan.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { closeFd } from "../../ffi/files.ts";
import { killPid, openPid } from "../../ffi/process.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Cgroups } from "./cgroups.ts";
import type { Folders } from "./data.ts";
import { cleanLeftover } from "./leases.ts";
import { isAlive } from "./process-name.ts";
import { removePartials } from "./publish.ts";
import { type Entry, lockSlot, type Slots, uidOf } from "./slots.ts";

export interface SweepGround {
  readonly data: Folders;
  readonly slots: Slots;
  readonly cgroups: Cgroups;
  readonly clock: Clock;
  readonly log: Log;
}

/** Name of the file in a sandbox's run directory that makes it findable by other processes. */
export const RECORD = "sandbox.json";

/** Pids of a slot's jail: by cgroup, and by uid where no cgroup tells. */
export function jailPids(cgroups: Cgroups, slot: number): number[] {
  const found = cgroups.processes(slot);
  if (found.length > 0) return found;
  const uids = new Set([uidOf(slot), uidOf(slot) + 1]);
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && uids.has(statSync(`/proc/${name}`, { throwIfNoEntry: false })?.uid ?? -1))
    .map(Number);
}

/** SIGKILL to every process of a slot's jail; by pidfd, and only to those that really have the slot's uids. */
export function killJail(cgroups: Cgroups, slot: number): number {
  let killed = 0;
  for (const pid of jailPids(cgroups, slot)) {
    const pidfd = openPid(pid);
    if (pidfd === null) continue;
    // The pidfd is open: the status read now is of the process it names, or it has ended, which kill finds out.
    const uid = statusUid(pid);
    if (uid === uidOf(slot) || uid === uidOf(slot) + 1) killed += killPid(pidfd) ? 1 : 0;
    closeFd(pidfd);
  }
  return killed;
}

function statusUid(pid: number): number | null {
  const path = `/proc/${pid}/status`;
  if (!existsSync(path)) return null;
  const match = /^Uid:\t(\d+)/m.exec(readFileSync(path, "utf8"));
  return match === null ? null : Number(match[1]);
}

/** Frees one slot's leftovers when nobody holds it. @returns false while someone does */
export function sweepSlot(ground: SweepGround, entry: Entry): boolean {
  const fd = lockSlot(entry.slot);
  if (fd === null) return false;
  try {
    // Read again now that the lock is ours: the slot may have changed hands since it was listed.
    const now = ground.slots.entry(entry.slot);
    if (now !== null) cleanLeftover(ground, now);
    ground.slots.remove(entry.slot);
    return true;
  } finally {
    closeFd(fd);
  }
}

function isOrphan(ground: SweepGround, entry: Entry): boolean {
  return !isAlive(entry.owner) && !existsSync(join(ground.data.run, entry.id, RECORD));
}

export interface Swept {
  /** Leases freed. */
  readonly freed: number;
  /** Processes killed that nobody could have found any more. */
  readonly killed: number;
}

/** Long enough for killed processes to be reaped; what is still busy then is left for the next sweep. */
const SWEEP_MS = 900;

/** Removes leftovers of this home, and control groups of any home, within a second. Living sandboxes are not touched. */
export async function sweep(ground: SweepGround): Promise<Swept> {
  const until = ground.clock.monotonicMs() + SWEEP_MS;
  let freed = 0;
  let killed = 0;
  let pending = ground.slots.entries();
  for (;;) {
    const busy: Entry[] = [];
    for (const entry of pending) {
      if (sweepSlot(ground, entry)) {
        freed += 1;
      } else if (isOrphan(ground, entry)) {
        killed += killJail(ground.cgroups, entry.slot);
        busy.push(entry);
      }
    }
    if (busy.length === 0 || ground.clock.monotonicMs() >= until) break;
    pending = busy;
    await ground.clock.sleep(5);
  }
  for (const slot of ground.cgroups.slots()) {
    const fd = lockSlot(slot);
    if (fd === null) continue;
    ground.cgroups.removeLeftover(slot);
    closeFd(fd);
  }
  for (const dir of [join(ground.data.home, "bin"), ground.data.home, ground.data.dir]) removePartials(dir);
  if (freed + killed > 0) ground.log.info("removed what an ended process left", { freed, killed });
  return { freed, killed };
}
