/**
 * What crashes leave, removed: found through the home's slot entries, decided by the slots' locks. A slot whose lock can be
 * taken has no owner and no jail. One that cannot has a living owner, or a detached sandbox with a record, or is an orphan.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { closeFd } from "../../../ffi/files.ts";
import { NativeError } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { type Folders, volumesIn } from "../home/data.ts";
import { RECORD } from "../home/ends.ts";
import { removePartials } from "../home/publish.ts";
import { sweepLinks } from "../net/sweep.ts";
import type { Cgroups } from "./cgroups.ts";
import { cleanLeftover } from "./leases.ts";
import { killOccupants } from "./occupants.ts";
import { isAlive } from "./process-name.ts";
import { type Entry, lockSlot, type Slots } from "./slots.ts";

export interface SweepGround {
  readonly data: Folders;
  readonly slots: Slots;
  readonly cgroups: Cgroups;
  readonly clock: Clock;
  readonly log: Log;
}

/** Frees one slot's leftovers when nobody holds it. @returns false while someone does, or while its jail is still dying */
export function sweepSlot(ground: SweepGround, entry: Pick<Entry, "slot">): boolean {
  const fd = lockSlot(entry.slot);
  if (fd === null) return false;
  try {
    // Read only now that the lock is ours: the slot may have changed hands since it was listed.
    const now = ground.slots.entry(entry.slot);
    if (now === null) return ground.cgroups.removeLeftover(entry.slot);
    if (!cleanLeftover(ground, now)) return false;
    ground.slots.remove(entry.slot);
    return true;
  } finally {
    closeFd(fd);
  }
}

/** A jail, or what is left of one, that has outlived its owner without being meant to: dying, or never to be found by anyone. */
function isOrphan(ground: SweepGround, entry: Entry): boolean {
  const stays = entry.detached && existsSync(join(ground.data.run, entry.id, RECORD));
  return !isAlive(entry.owner) && !stays;
}

export interface Swept {
  /** Leases freed. */
  readonly freed: number;
  /** Jails ended that nobody could have found any more. */
  readonly killed: number;
}

/** Long enough for killed processes to be reaped; what is still busy then is left for the next sweep. */
const SWEEP_MS = 900;

/** Calls `attempt` for each until it is true, all again after a moment, at most until the clock says `untilMs`. */
async function retry<T>(
  clock: Clock,
  untilMs: number,
  items: readonly T[],
  attempt: (item: T) => boolean,
): Promise<void> {
  let left = items.filter((item) => !attempt(item));
  while (left.length > 0 && clock.monotonicMs() < untilMs) {
    await clock.sleep(5);
    left = left.filter((item) => !attempt(item));
  }
}

/** Removes leftovers of this home, and control groups of any home, within a second. Living sandboxes are not touched. */
export async function sweep(ground: SweepGround): Promise<Swept> {
  const { slots, cgroups, clock, data } = ground;
  const untilMs = clock.monotonicMs() + SWEEP_MS;
  let freed = 0;
  const killed = new Set<number>();
  await retry(clock, untilMs, slots.entries(), (entry) => {
    if (sweepSlot(ground, entry)) {
      freed += 1;
      return true;
    }
    if (!isOrphan(ground, entry)) return isAlive(entry.owner) || lockedByJail(entry);
    if (killOccupants(cgroups, entry.slot) > 0) killed.add(entry.slot);
    return false;
  });
  const listed = new Set(slots.entries().map((entry) => entry.slot));
  // Groups of other homes' dead; a lock that cannot be taken says that somebody lives.
  const strange = cgroups.slots().filter((slot) => !listed.has(slot));
  await retry(clock, untilMs, strange, (slot) => {
    const fd = lockSlot(slot);
    if (fd === null) return true;
    const gone = cgroups.removeLeftover(slot);
    closeFd(fd);
    return gone;
  });
  removeLinks(ground.log);
  const kept = ["snapshots", "snapshots/.bases", "hibernated", "promoted"].map((name) => join(data.dir, name));
  const templates = join(data.dir, "templates");
  const baked = existsSync(templates) ? readdirSync(templates).map((name) => join(templates, name)) : [];
  const filled = [data.home, join(data.home, "bin"), data.dir, join(data.dir, "bin"), join(data.dir, "images")];
  const volumes = volumesIn(data.dir);
  const accounts = existsSync(volumes) ? readdirSync(volumes).map((name) => join(volumes, name)) : [];
  for (const dir of [...filled, ...kept, ...baked, ...accounts]) removePartials(dir);
  const swept = { freed, killed: killed.size };
  if (freed + killed.size > 0) ground.log.info("removed what an ended process left", swept);
  return swept;
}

function removeLinks(log: Log): void {
  try {
    const links = sweepLinks(lockSlot);
    if (links > 0) log.info("removed links to networks that nobody has", { links });
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    log.debug("links could not be looked at", { says: error.message });
  }
}

/** A detached jail that lives holds its slot; one that is dying does not any more. */
function lockedByJail(entry: Entry): boolean {
  const fd = lockSlot(entry.slot);
  if (fd !== null) closeFd(fd);
  return fd === null;
}
