/**
 * Ends of links whose slot nobody has any more. They go with their namespace by themselves; one is left over only where
 * something foreign kept that open for a while, such as a shell that somebody put into it.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { closeFd } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import { LIMITS } from "../../limits.ts";
import { Attributes } from "./answer.ts";
import { Netlink } from "./message.ts";
import { RT } from "./numbers.ts";
import { ROOT_DEVICE, slotAddresses } from "./plan.ts";
import { readLink } from "./read.ts";
import { removeLink } from "./route.ts";

/** Slots that have a device by name, of this process's own namespace. */
function slotsWithDevice(): number[] {
  const lines = readFileSync("/proc/self/net/dev", "utf8").split("\n");
  return lines
    .map((line) => ROOT_DEVICE.exec(line.trim().split(":")[0] ?? "")?.[1])
    .filter((number) => number !== undefined)
    .map(Number)
    .filter((slot) => slot < LIMITS.slots);
}

function namespaceLink(pid: string): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH", "EACCES")) return null;
    throw error;
  }
}

/** What this namespace calls those that have a process; -1 for one that it has no name for. */
function peopled(nl: Netlink): Set<number> {
  const seen = new Set<string>();
  const found = new Set<number>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const space = namespaceLink(pid);
    if (space === null || seen.has(space)) continue;
    seen.add(space);
    nl.begin("namespace of a process", RT.RTM_GETNSID).u8(0).u8(0).u16(0).attr32(RT.NETNSA_PID, Number(pid)).end();
    try {
      for (const { body } of nl.dump()) found.add(new Attributes(body, 4).u32(RT.NETNSA_NSID) ?? -1);
    } catch (error) {
      if (!hasCode(error, "ESRCH", "ENOENT", "EINVAL")) throw error; // it has ended
    }
  }
  return found;
}

/**
 * Removes them, if a slot's lock can be had and no process is at the other end; never a device that is not as ours are.
 * @param lock takes a slot's lock, null when somebody has it
 * @returns how many were removed
 * @throws {NativeError}
 */
export function sweepLinks(lock: (slot: number) => number | null): number {
  const slots = slotsWithDevice();
  if (slots.length === 0) return 0;
  const fd = openNetlink(NETLINK_ROUTE);
  let busy: Set<number> | null = null;
  let removed = 0;
  try {
    const nl = new Netlink(fd);
    for (const slot of slots) {
      const lockFd = lock(slot);
      if (lockFd === null) continue;
      busy ??= peopled(nl);
      try {
        removed += removeDead(nl, slot, busy) ? 1 : 0;
      } finally {
        closeFd(lockFd);
      }
    }
  } finally {
    closeFd(fd);
  }
  return removed;
}

function removeDead(nl: Netlink, slot: number, busy: ReadonlySet<number>): boolean {
  const { rootDevice, hostMac } = slotAddresses(slot);
  try {
    const { kind, mac, index, peerSpace } = readLink(nl, rootDevice);
    if (kind !== "veth" || mac !== hostMac || (peerSpace !== null && busy.has(peerSpace))) return false;
    removeLink(nl, index);
    nl.flush();
    return true;
  } catch (error) {
    if (hasCode(error, "ENODEV")) return false; // gone by itself
    throw error;
  }
}
