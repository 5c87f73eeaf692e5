/**
 * Which cgroup controllers this host has, where, and which files set which limit; v2, v1 or a mixture.
 * Pure but for `prepareParent`.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mount } from "../home/mountinfo.ts";

export const CONTROLLERS = ["memory", "pids", "cpu", "cpuacct"] as const;
export type Controller = (typeof CONTROLLERS)[number];

/** The same name everywhere: whoever looks at a host finds all that is ours under it. */
const PARENT = "warren";
const MIB = 1024 * 1024;

/** Where one controller's groups of ours live. v2 has CPU time in every group, so `cpuacct` is v1's alone. */
export interface Place {
  readonly version: 1 | 2;
  /** Directory of `warren`; groups are one below. */
  readonly parent: string;
}

export interface Limits {
  readonly memoryMib: number;
  readonly tasks: number;
  readonly cpu: number;
}

/** Where each controller is mounted: v1 before v2, since a controller is on one hierarchy only. */
export function placesOf(
  mounts: readonly Mount[],
  offeredBy: (v2Mount: string) => readonly string[],
): Map<Controller, Place> {
  const places = new Map<Controller, Place>();
  const settle = (mount: Mount, version: 1 | 2, has: (name: Controller) => boolean): void => {
    for (const name of CONTROLLERS) {
      if (has(name) && !places.has(name)) places.set(name, { version, parent: join(mount.at, PARENT) });
    }
  };
  for (const mount of mounts) {
    if (mount.type === "cgroup") settle(mount, 1, (name) => mount.superOptions.includes(name));
  }
  for (const mount of mounts) {
    if (mount.type !== "cgroup2") continue;
    const offered = offeredBy(mount.at);
    settle(mount, 2, (name) => offered.includes(name === "cpuacct" ? "cpu" : name));
  }
  return places;
}

/** The words of a small control file. */
export function words(path: string): string[] {
  return readFileSync(path, "utf8")
    .trim()
    .split(/\s+/)
    .filter((word) => word !== "");
}

export function v2Controllers(at: string): string[] {
  return existsSync(join(at, "cgroup.controllers")) ? words(join(at, "cgroup.controllers")) : [];
}

/** Makes `warren` and, for v2, hands the controllers down to it and below it. @throws when the host does not let us */
export function prepareParent(place: Place, controllers: readonly Controller[]): void {
  mkdirSync(place.parent, { recursive: true });
  if (place.version === 1) return;
  const wanted = controllers.filter((name) => name !== "cpuacct");
  for (const dir of [join(place.parent, ".."), place.parent]) {
    const enabled = words(join(dir, "cgroup.subtree_control"));
    for (const name of wanted)
      if (!enabled.includes(name)) writeFileSync(join(dir, "cgroup.subtree_control"), `+${name}`);
  }
}

export function settings(place: Place, controller: Controller, limits: Limits): [file: string, value: string][] {
  const bytes = String(limits.memoryMib * MIB);
  const quota = String(limits.cpu * 100_000);
  switch (controller) {
    case "memory":
      return place.version === 2
        ? [
            ["memory.max", bytes],
            ["memory.swap.max", "0"],
            ["memory.oom.group", "1"],
          ]
        : [
            ["memory.limit_in_bytes", bytes],
            ["memory.memsw.limit_in_bytes", bytes],
            ["memory.swappiness", "0"],
          ];
    case "pids":
      return [["pids.max", String(limits.tasks)]];
    case "cpu":
      return place.version === 2
        ? [["cpu.max", `${quota} 100000`]]
        : [
            ["cpu.cfs_period_us", "100000"],
            ["cpu.cfs_quota_us", quota],
          ];
    case "cpuacct":
      return [];
  }
}

/** Files without which the limit holds nearly as well, and which some kernels lack. */
export const OPTIONAL = new Set([
  "memory.swap.max",
  "memory.memsw.limit_in_bytes",
  "memory.swappiness",
  "memory.oom.group",
]);
