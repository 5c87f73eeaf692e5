/**
 * Memory, CPU and process limits of each VMM, by whatever cgroups this host has. A controller that is missing costs its
 * limit and is reported, never a failure. Directories are `warren/<slot>`: who holds the slot's lock owns them, so a
 * leftover is recognised without guessing.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { closeAll, openFd } from "../../../ffi/files.ts";
import { detachedMount } from "../../../ffi/mounts.ts";
import { hasCode } from "../../../ffi/native.ts";
import type { Clock } from "../../base/clock.ts";
import { LIMITS } from "../../limits.ts";
import { type Mount, readMounts } from "../home/mountinfo.ts";
import {
  CONTROLLERS,
  type Controller,
  type Limits,
  OPTIONAL,
  type Place,
  placesOf,
  prepareParent,
  settings,
  v2Controllers,
  words,
} from "./controllers.ts";

const MIB = 1024 * 1024;

export interface Group {
  /** Descriptors of `cgroup.procs`, one per hierarchy, for the jail to join. */
  readonly procsFds: readonly number[];
  /** Closes `procsFds`; twice without harm. */
  closeFds(): void;
  /** Lets it have so much more memory than it was made with. */
  allow(moreMib: number): void;
  /** Charged and not easily given back, MiB. */
  memoryMib(): number | null;
  cpuMs(): number | null;
  /** Removes the directories; waits for processes that are about to be gone. Says which it could not remove. */
  remove(clock: Clock): Promise<readonly string[]>;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function field(path: string, name: string): number | null {
  const line = readFileSync(path, "utf8")
    .split("\n")
    .find((l) => l.startsWith(`${name} `));
  return line === undefined ? null : Number(line.slice(name.length + 1));
}

function tryRemove(dir: string): "gone" | "busy" {
  try {
    rmdirSync(dir);
  } catch (error) {
    if (hasCode(error, "EBUSY", "ENOTEMPTY")) return "busy";
    if (!hasCode(error, "ENOENT")) throw error;
  }
  return "gone";
}

/** The open hierarchy of `favourJoins`, one for the process however many homes it opens. */
let joins: number | "none" | null = null;

export class Cgroups {
  readonly #places: ReadonlyMap<Controller, Place>;
  /** One line for each limit that this host cannot give, with the reason. */
  readonly degraded: readonly string[];

  private constructor(places: ReadonlyMap<Controller, Place>, degraded: readonly string[]) {
    this.#places = places;
    this.degraded = degraded;
  }

  /**
   * On v1, joining a group waits about 10 ms for every processor, unless some hierarchy favours dynamic modifications: then
   * 0.1 ms. This opens one, empty and at no path, for the life of this process. It is a switch of the whole kernel, makes forks and
   * exits a little dearer, and since Linux 6.18 stays on until reboot. v2 needs none: jails are born in their group.
   * @returns false when no group is on v1, or this kernel has no such switch
   */
  favourJoins(): boolean {
    joins ??= this.#openJoins() ?? "none";
    return joins !== "none";
  }

  #openJoins(): number | null {
    if (![...this.#places.values()].some((place) => place.version === 1)) return null;
    try {
      return detachedMount("cgroup", { none: null, name: `warren-${process.pid}`, favordynmods: null });
    } catch (error) {
      if (hasCode(error, "EINVAL", "EPERM", "ENODEV", "ENOSYS", "EBUSY")) return null;
      throw error;
    }
  }

  /** Only to look: nothing is made, and `degraded` says nothing. */
  static look(mounts: readonly Mount[] = readMounts()): Cgroups {
    return new Cgroups(placesOf(mounts, v2Controllers), []);
  }

  /** Looks at this host and makes the parents. Never fails: what does not work is in `degraded`. */
  static open(mounts: readonly Mount[] = readMounts()): Cgroups {
    const places = placesOf(mounts, v2Controllers);
    const degraded: string[] = [];
    for (const name of CONTROLLERS) {
      if (!places.has(name)) degraded.push(`no ${name} controller is mounted`);
    }
    for (const [name, place] of [...places]) {
      const together = [...places].filter(([, other]) => other.parent === place.parent).map(([n]) => n);
      try {
        prepareParent(place, place.version === 2 ? [name] : together);
      } catch (error) {
        places.delete(name);
        degraded.push(`the ${name} controller cannot be used: ${reason(error)}`);
      }
    }
    return new Cgroups(places, degraded);
  }

  /** How each limit is kept here, such as "v1" or "none". */
  get kinds(): Readonly<Record<Controller, "v1" | "v2" | "none">> {
    const kind = (name: Controller) => {
      const place = this.#places.get(name);
      return place === undefined ? "none" : (`v${place.version}` as const);
    };
    return { memory: kind("memory"), pids: kind("pids"), cpu: kind("cpu"), cpuacct: kind("cpuacct") };
  }

  #dirs(slot: number): Set<string> {
    return new Set([...this.#places.values()].map((place) => join(place.parent, String(slot))));
  }

  /** Limits for the holder of a slot's lock. A leftover of that slot's last holder is replaced. @throws when the host fails half-way */
  make(slot: number, limits: Limits): Group {
    this.favourJoins();
    const dirs = this.#dirs(slot);
    const fds: number[] = [];
    try {
      for (const dir of dirs) {
        tryRemove(dir); // counters start at zero
        mkdirSync(dir, { recursive: true });
      }
      for (const [name, place] of this.#places) {
        for (const [file, value] of settings(place, name, limits))
          this.#write(join(place.parent, String(slot), file), value);
      }
      for (const dir of dirs) fds.push(openFd(join(dir, "cgroup.procs"), "write"));
    } catch (error) {
      closeAll(fds);
      for (const dir of dirs) tryRemove(dir);
      throw error;
    }
    return this.#group(slot, fds, limits);
  }

  #write(path: string, value: string): void {
    try {
      writeFileSync(path, value);
    } catch (error) {
      if (!OPTIONAL.has(path.slice(path.lastIndexOf("/") + 1))) throw error;
    }
  }

  #group(slot: number, procsFds: readonly number[], limits: Limits): Group {
    let open = true;
    const at = (name: Controller, file: string): string | null => {
      const place = this.#places.get(name);
      return place === undefined ? null : join(place.parent, String(slot), file);
    };
    return {
      procsFds,
      closeFds() {
        if (open) closeAll(procsFds);
        open = false;
      },
      allow: (moreMib) => {
        const place = this.#places.get("memory");
        if (place === undefined) return;
        // Memory with swap first: it may never be the smaller one.
        const raised = settings(place, "memory", { ...limits, memoryMib: limits.memoryMib + moreMib }).reverse();
        try {
          for (const [file, value] of raised) this.#write(join(place.parent, String(slot), file), value);
        } catch (error) {
          if (!hasCode(error, "ENOENT", "ENODEV")) throw error; // its holder has ended meanwhile
        }
      },
      memoryMib: () => {
        const v2 = this.#places.get("memory")?.version === 2;
        const usage = at("memory", v2 ? "memory.current" : "memory.usage_in_bytes");
        const stat = at("memory", "memory.stat");
        if (usage === null || stat === null || !existsSync(usage)) return null;
        const idle = field(stat, v2 ? "inactive_file" : "total_inactive_file") ?? 0;
        return Math.max(0, Number(words(usage)[0]) - idle) / MIB;
      },
      cpuMs: () => this.cpuMsOf(slot),
      remove: async (clock) => {
        const until = clock.monotonicMs() + LIMITS.killMs;
        let left = [...this.#dirs(slot)];
        for (;;) {
          left = left.filter((dir) => tryRemove(dir) === "busy");
          if (left.length === 0 || clock.monotonicMs() >= until) return left;
          await clock.sleep(2);
        }
      },
    };
  }

  /** CPU time of all that has been in a slot's group since that was made; null when it has none here that could tell. */
  cpuMsOf(slot: number): number | null {
    const place = this.#places.get("cpuacct");
    if (place === undefined) return null;
    const v2 = place.version === 2;
    const path = join(place.parent, String(slot), v2 ? "cpu.stat" : "cpuacct.usage");
    try {
      return v2 ? (field(path, "usage_usec") ?? 0) / 1e3 : Number(words(path)[0]) / 1e6;
    } catch (error) {
      if (hasCode(error, "ENOENT", "ENODEV")) return null;
      throw error;
    }
  }

  /** Slots that have a directory, whoever made it. */
  slots(): number[] {
    const found = new Set<number>();
    for (const { parent } of this.#places.values()) {
      for (const name of existsSync(parent) ? readdirSync(parent) : [])
        if (/^\d{1,5}$/.test(name)) found.add(Number(name));
    }
    return [...found];
  }

  /** Host pids of a slot's processes; null when it has no group here that could tell. */
  processes(slot: number): number[] | null {
    const paths = [...this.#dirs(slot)].map((dir) => join(dir, "cgroup.procs")).filter((path) => existsSync(path));
    return paths.length === 0 ? null : [...new Set(paths.flatMap(words).map(Number))];
  }

  /** Removes a slot's directories if they are empty; for leftovers, by whoever holds the slot's lock. */
  removeLeftover(slot: number): boolean {
    return [...this.#dirs(slot)].every((dir) => tryRemove(dir) === "gone");
  }

  /** Removes the parents, when nothing is below. */
  removeParents(): void {
    for (const { parent } of this.#places.values()) tryRemove(parent);
  }
}
