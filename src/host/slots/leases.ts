/**
 * A lease: what one VMM stands on. The slot comes first and goes last; everything else is found through it, so a crash at
 * any point leaves only what the next holder of the slot, or a sweep, removes. The disk clone never has a name at all.
 */
import { mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { closeAll, closeFd, openUnnamed, reflink, reopenFd } from "../../../ffi/files.ts";
import { copySparse } from "../../../ffi/memfd.ts";
import { hasCode } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import type { Data, Folders } from "../home/data.ts";
import { keepEnd } from "../home/ends.ts";
import type { Lease, LeaseAsk } from "../host.ts";
import { EXITS } from "../jail/exits.ts";
import type { Lent, Networks } from "../net/networks.ts";
import type { Cgroups, Group } from "./cgroups.ts";
import { occupants } from "./occupants.ts";
import { isForeign } from "./process-name.ts";
import { type Entry, LEASE_ID, type Slots, uidOf } from "./slots.ts";

export interface LeaseGround {
  readonly data: Data;
  readonly slots: Slots;
  readonly cgroups: Cgroups;
  readonly networks: Networks;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Removes what an earlier holder of a slot left in this home. Only for whoever holds the slot's lock.
 * @returns false, with the rest left alone, while a process of that jail is still dying
 */
export function cleanLeftover(ground: { readonly data: Folders; readonly cgroups: Cgroups }, entry: Entry): boolean {
  if (isForeign(entry.owner)) return false; // the lock that was taken says nothing about it
  if (occupants(ground.cgroups, entry.slot).length > 0 || !ground.cgroups.removeLeftover(entry.slot)) return false;
  keepEnd(ground.data, entry.id);
  rmSync(join(ground.data.run, entry.id), { recursive: true, force: true });
  return true;
}

/** A file without a name that shares all blocks of a disk. @throws {WarrenError} `storage_exhausted` */
export function cloneDisk(data: Data, diskFd: number): { readonly rwFd: number; readonly roFd: number } {
  const rwFd = openUnnamed(data.dir);
  try {
    if (data.kind === "copy") {
      const { size } = statSync(`/proc/self/fd/${diskFd}`);
      copySparse(diskFd, rwFd, size);
    } else {
      reflink(diskFd, rwFd);
    }
    return { rwFd, roFd: reopenFd(rwFd, "read") };
  } catch (error) {
    closeFd(rwFd);
    if (!hasCode(error, "ENOSPC", "EDQUOT", "EIO")) throw error;
    throw new WarrenError("storage_exhausted", `no space for another disk in ${data.home}`, { cause: error });
  }
}

/** A slot of the home's books with a network: one that is ready, else any. */
function takeSlot(
  ground: LeaseGround,
  ask: LeaseAsk,
): { readonly slot: number; readonly slotFd: number; readonly lent: Lent | null } {
  const { slots, networks } = ground;
  const clean = (leftover: Entry) => cleanLeftover(ground, leftover);
  for (let ready = networks.take(); ready !== null; ready = networks.take()) {
    const { slot, lockFd, built } = ready;
    if (slots.claim(slot, ask.id, clean, ask.detached)) return { slot, slotFd: lockFd, lent: networks.lend(built) };
    networks.discard(ready);
  }
  const { slot, fd } = slots.take(ask.id, clean, ask.detached);
  const built = networks.build(slot);
  return { slot, slotFd: fd, lent: built === null ? null : networks.lend(built) };
}

function makeGroup(ground: LeaseGround, slot: number, ask: LeaseAsk): Group {
  return ground.cgroups.make(slot, {
    memoryMib: ask.memoryMib + LIMITS.vmmOverheadMib,
    tasks: LIMITS.vmmTasks + ask.cpu,
    cpu: ask.cpu,
  });
}

/** Runs once however often it is called; every call sees the same end. */
function once(job: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  return () => {
    running ??= job();
    return running;
  };
}

/**
 * @throws {WarrenError} `storage_exhausted`, `capacity_exhausted`, `permission_denied`, `already_exists` – the id has a lease
 */
export async function lease(ground: LeaseGround, ask: LeaseAsk): Promise<Lease> {
  const { data, slots } = ground;
  if (!LEASE_ID.test(ask.id)) throw new WarrenError("internal", `an id of a lease cannot be ${JSON.stringify(ask.id)}`);
  if (process.getuid?.() !== 0) throw new WarrenError("permission_denied", "sandboxes are made as root: use sudo");
  await data.ensureRoom();
  await using undo = new AsyncDisposableStack();
  const { slot, slotFd, lent } = takeSlot(ground, ask);
  undo.defer(() => {
    slots.remove(slot);
    const built = lent?.end();
    if (built === undefined) closeFd(slotFd);
    else ground.networks.give({ slot, lockFd: slotFd, built });
  });
  const socketDir = join(data.run, ask.id);
  makeRunDir(socketDir, ask.id);
  const exitsPath = join(socketDir, EXITS);
  undo.defer(() => {
    keepEnd(data, ask.id);
    rmSync(socketDir, { recursive: true, force: true });
  });
  const group = makeGroup(ground, slot, ask);
  undo.defer(async () => {
    group.closeFds();
    const left = await group.remove(ground.clock);
    if (left.length > 0) ground.log.warn("a control group is still in use", { left });
  });
  const disk = cloneDisk(data, ask.snapshot.diskFd);
  undo.defer(() => closeFd(disk.roFd)); // kept: the disk can be taken while its guest runs
  const forVmm = [disk.rwFd];
  let handed = false;
  const closeForVmm = (): void => {
    if (!handed) closeAll(forVmm);
    handed = true;
    group.closeFds();
  };
  undo.defer(closeForVmm);
  const stateFd = ask.snapshot.openState?.() ?? -1;
  if (stateFd >= 0) forVmm.push(stateFd);
  let carriedBytes = 0;
  const held = undo.move();
  const give = once(() => held.disposeAsync());
  return {
    id: ask.id,
    disk,
    stateFd,
    socketDir,
    jail: { uid: uidOf(slot), cgroupFds: group.procsFds, slotFd, netnsFd: lent?.nsFd ?? null, exitsPath },
    network: lent?.network ?? null,
    handedOver: closeForVmm,
    carry(bytes) {
      carriedBytes += bytes;
      group.allow(Math.ceil(carriedBytes / 2 ** 20));
    },
    memoryMib: () => group.memoryMib(),
    cpuMs: () => group.cpuMs(),
    [Symbol.asyncDispose]: give,
  };
}

function makeRunDir(path: string, id: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (hasCode(error, "EEXIST")) throw new WarrenError("already_exists", `${id} has a lease already`);
    throw error;
  }
}
