/** How much this machine can still carry: memory as the kernel sees it, bounded by our own cgroup; pressure; disk. */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type Mount, readMounts } from "./home/mountinfo.ts";
import type { Capacity } from "./host.ts";

const KIB_PER_MIB = 1024;
const MIB = 1024 * 1024;

/** A value of /proc/meminfo in MiB. */
export function meminfoMib(text: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text);
  return match === null ? 0 : Math.floor(Number(match[1]) / KIB_PER_MIB);
}

/** Percent of the last 10 s in which some task waited for memory. */
export function pressure(text: string): number | null {
  const match = /^some avg10=([\d.]+)/m.exec(text);
  return match === null ? null : Number(match[1]);
}

function bytesIn(path: string): number | null {
  if (!existsSync(path)) return null;
  const text = readFileSync(path, "utf8").trim();
  return /^\d+$/.test(text) ? Number(text) : null; // "max" is no bound
}

interface Bound {
  readonly limitMib: number;
  readonly freeMib: number;
}

/** Directories of this process's memory cgroup, innermost first, as far as they can be seen from here. */
function memoryDirs(
  mounts: readonly Mount[],
  selfCgroup: string,
): { readonly dirs: string[]; readonly v2: boolean } | null {
  for (const line of selfCgroup.split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const v2 = controllers === "";
    if (!v2 && !controllers.split(",").includes("memory")) continue;
    const mount = mounts.find((m) =>
      v2 ? m.type === "cgroup2" : m.type === "cgroup" && m.superOptions.includes("memory"),
    );
    if (mount === undefined) continue;
    // In a container the mount's root is our own group, and the path is told from the host's root: start at the mount then.
    const inside = path.startsWith(mount.root) ? path.slice(mount.root.length) : "";
    const parts = inside.split("/").filter((part) => part !== "");
    const dirs = parts.map((_, i) => join(mount.at, ...parts.slice(0, i + 1))).reverse();
    const all = [...dirs, mount.at];
    if (v2 && !all.some((dir) => existsSync(join(dir, "memory.current")))) continue; // v1 has the controller
    return { dirs: all, v2 };
  }
  return null;
}

/** The tightest limit on this process's memory, or null. */
export function memoryBound(mounts: readonly Mount[], selfCgroup: string): Bound | null {
  const found = memoryDirs(mounts, selfCgroup);
  let tightest: Bound | null = null;
  for (const dir of found?.dirs ?? []) {
    const limit = bytesIn(join(dir, found?.v2 ? "memory.max" : "memory.limit_in_bytes"));
    const used = bytesIn(join(dir, found?.v2 ? "memory.current" : "memory.usage_in_bytes"));
    if (limit === null || used === null || limit > 2 ** 53) continue; // v1 says "no limit" with a number near 2^63
    const bound = { limitMib: Math.floor(limit / MIB), freeMib: Math.max(0, Math.floor((limit - used) / MIB)) };
    if (tightest === null || bound.freeMib < tightest.freeMib) tightest = bound;
  }
  return tightest;
}

/** @param diskFreeBytes free bytes where clones live */
export function readCapacity(diskFreeBytes: number): Capacity {
  const meminfo = readFileSync("/proc/meminfo", "utf8");
  const bound = memoryBound(readMounts(), readFileSync("/proc/self/cgroup", "utf8"));
  const psi = "/proc/pressure/memory";
  return {
    cores: availableParallelism(),
    memoryTotalMib: Math.min(meminfoMib(meminfo, "MemTotal"), bound?.limitMib ?? Number.POSITIVE_INFINITY),
    memoryAvailableMib: Math.min(meminfoMib(meminfo, "MemAvailable"), bound?.freeMib ?? Number.POSITIVE_INFINITY),
    memoryPressure: existsSync(psi) ? pressure(readFileSync(psi, "utf8")) : null,
    diskFreeBytes,
  };
}
