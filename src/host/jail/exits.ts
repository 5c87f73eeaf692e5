/**
 * How a jail's processes ended, in the kernel's own words: `struct acct_v3` of <linux/acct.h>, 64 bytes a process, appended by
 * acct(2) as each one exits, also when all of ours were killed. The file is written by the kernel alone, outside of the jail.
 *
 * The kernel measures `ac_etime` from a process's start to its exit on CLOCK_MONOTONIC and rounds it down, to 10 ms, and to 24
 * bits: 40 ms after 7 days. So start plus elapsed is never later than the truth. With less than 4 % free on the file's disk it
 * writes nothing (/proc/sys/kernel/acct), and a kernel without CONFIG_BSD_PROCESS_ACCT_V3 writes another form: there is then
 * no end to be known, and the last proof of life has to do.
 */
import { readFileSync } from "node:fs";
import { hasCode } from "../../../ffi/native.ts";
import type { VmEnd } from "../../driver/driver.ts";

/** Name of the file in a sandbox's run directory. */
export const EXITS = "exits";

const BYTES = 64;
const VERSION = 3;
/** ACCT_BYTEORDER of a big-endian kernel. */
const BIG_ENDIAN = 0x80;
/** The VMM is the first process that a jail's first process makes, and neither makes another (ffi/init/filter.c). */
const VMM_PID = 2;
/** USER_HZ, in which the third form counts everywhere. */
const TICK_MS = 10;

export interface ProcessEnd {
  /** In the jail's own namespace. */
  readonly pid: number;
  /** From its start to its exit, milliseconds, rounded down. */
  readonly elapsedMs: number;
  /** CPU time of all its threads, in user and kernel mode, milliseconds; 3 digits of it count. */
  readonly cpuMs: number;
  /** As wait(2) has it. */
  readonly status: number;
}

/** `comp_t`: a 13-bit fraction with a 3-bit exponent to the base 8. */
function expanded(value: number): number {
  return (value & 0x1fff) * 8 ** (value >>> 13);
}

/** All whole records that make sense; what is torn or of another form is left out. */
export function parseExits(bytes: Uint8Array): ProcessEnd[] {
  const ends: ProcessEnd[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + BYTES <= bytes.byteLength; at += BYTES) {
    const version = view.getUint8(at + 1);
    if ((version & ~BIG_ENDIAN) !== VERSION) continue;
    const little = (version & BIG_ENDIAN) === 0;
    const ticks = view.getFloat32(at + 28, little);
    if (!(ticks >= 0) || !Number.isFinite(ticks)) continue;
    const cpuTicks = expanded(view.getUint16(at + 32, little)) + expanded(view.getUint16(at + 34, little));
    ends.push({
      pid: view.getUint32(at + 16, little),
      elapsedMs: Math.floor(ticks) * TICK_MS,
      cpuMs: cpuTicks * TICK_MS,
      status: view.getUint32(at + 4, little),
    });
  }
  return ends;
}

/** @param startMs `CLOCK_MONOTONIC` at or before the VMM's start */
export function vmmEnd(bytes: Uint8Array, startMs: number): VmEnd | null {
  const vmm = parseExits(bytes).findLast(({ pid }) => pid === VMM_PID);
  return vmm === undefined ? null : { atMs: startMs + vmm.elapsedMs, cpuMs: vmm.cpuMs };
}

/** The same of a file; null when nothing was written to it, or it is not there. */
export function readVmmEnd(path: string, startMs: number): VmEnd | null {
  try {
    return vmmEnd(readFileSync(path), startMs);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}
