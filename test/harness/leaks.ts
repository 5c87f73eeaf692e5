/**
 * What this process and a home have of the machine: processes, mounts, loop devices, namespaces, control groups, sockets,
 * memory files, descriptors, files. Taken before and compared after; what is there more is a leak. Only what can be told to be
 * ours counts, so that several test files may run at once.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { closeFd } from "../../ffi/files.ts";
import { systemClock } from "../../src/base/clock.ts";
import { readMounts } from "../../src/host/home/mountinfo.ts";
import { Cgroups } from "../../src/host/slots/cgroups.ts";
import { lockSlot } from "../../src/host/slots/slots.ts";
import { endKeeper } from "../../src/keeper/client.ts";
import { LIMITS } from "../../src/limits.ts";

/** One line a thing; equal lines may occur several times. */
export type Traces = readonly string[];

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly name: string;
  readonly uid: number;
  readonly program: string;
}

/** Reads something of a process or descriptor that may be gone by now. */
function ifThere<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : null;
    if (code === "ENOENT" || code === "ESRCH" || code === "EACCES") return null;
    throw error;
  }
}

function processes(): Process[] {
  const found: Process[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const status = ifThere(() => readFileSync(`/proc/${entry}/status`, "utf8"));
    if (status === null || /^State:\tZ/m.test(status)) continue; // a zombie has nothing left; its parent is late
    const field = (name: string) => new RegExp(`^${name}:\\t(\\S+)`, "m").exec(status)?.[1] ?? "";
    const file = ifThere(() => statSync(`/proc/${entry}/exe`));
    found.push({
      pid: Number(entry),
      parent: Number(field("PPid")),
      name: field("Name"),
      uid: Number(field("Uid")),
      program: file === null ? "" : `${file.dev}:${file.ino}`,
    });
  }
  return found;
}

/** Programs of a home, by device and inode: how a jail is told to be of this home after its maker is gone. */
function programsOf(home: string): Set<string> {
  const found = new Set<string>();
  for (const bin of [join(home, "bin"), join(home, "data/bin")]) {
    for (const dir of existsSync(bin) ? readdirSync(bin) : []) {
      const path = join(bin, dir, "warren-init");
      if (!existsSync(path)) continue;
      const { dev, ino } = statSync(path);
      found.add(`${dev}:${ino}`);
    }
  }
  return found;
}

function isVmmUid(uid: number): boolean {
  return uid >= LIMITS.slotUidBase && uid < LIMITS.slotUidBase + 2 * LIMITS.slots;
}

/** Whether it keeps the home's detached sandboxes' networks: it outlives whoever started it, on purpose. */
function isKeeper({ pid }: Process, home: string): boolean {
  const [words = "", settings = ""] = ["cmdline", "environ"].map(
    (name) => ifThere(() => readFileSync(`/proc/${pid}/${name}`, "utf8")) ?? "",
  );
  return words.split("\0").includes("keep-network") && settings.split("\0").includes(`WARREN_HOME=${home}`);
}

/** Pids of the keepers of a home. */
export function keepersOf(home: string): number[] {
  return processes()
    .filter((p) => isKeeper(p, home))
    .map(({ pid }) => pid);
}

/** Descendants of this process, and the home's jails with all in them, whoever made them; and its keeper. */
function ourProcesses(home: string): Process[] {
  const all = processes();
  const programs = programsOf(home);
  const ours = new Set<number>([process.pid]);
  for (const p of all) if (programs.has(p.program) && p.name === "warren-init") ours.add(p.pid);
  for (const p of all) if (isKeeper(p, home)) ours.add(p.pid);
  for (let grown = true; grown; ) {
    grown = false;
    for (const { pid, parent } of all) {
      if (!ours.has(parent) || ours.has(pid)) continue;
      ours.add(pid);
      grown = true;
    }
  }
  return all.filter((p) => p.pid !== process.pid && ours.has(p.pid));
}

function descriptors(): string[] {
  const lines: string[] = [];
  for (const fd of readdirSync("/proc/self/fd")) {
    const target = ifThere(() => readlinkSync(`/proc/self/fd/${fd}`));
    if (target === null || target === `/proc/${process.pid}/fd`) continue;
    lines.push(`descriptor ${target.replace(/:\[\d+\]$/, "").replace(/\/#\d+ \(deleted\)$/, "/unnamed")}`);
  }
  return lines;
}

/** Kept on purpose by who uses a home: a server's database, and what a compiled program unpacks once. */
const KEPT: ReadonlySet<string> = new Set(["/server", "/program"]);

function files(home: string): string[] {
  const lines: string[] = [];
  const add = (dir: string) => {
    const path = join(home, dir);
    for (const name of existsSync(path) ? readdirSync(path) : []) lines.push(`file ${dir}/${name}`);
  };
  for (const dir of ["", "run", "slots", "data"]) add(dir);
  return lines.filter((line) => !KEPT.has(line.slice("file ".length)));
}

function loops(home: string): string[] {
  const lines: string[] = [];
  for (const name of readdirSync("/sys/block")) {
    const path = `/sys/block/${name}/loop/backing_file`;
    const file = existsSync(path) ? (ifThere(() => readFileSync(path, "utf8").trim()) ?? "") : "";
    if (file.startsWith(`${home}/`)) lines.push(`loop device of ${file}`);
  }
  return lines;
}

/** Control groups that nobody holds the slot of: leftovers, of whomever. */
function groups(): string[] {
  const lines: string[] = [];
  for (const slot of Cgroups.look().slots()) {
    const fd = lockSlot(slot);
    if (fd === null) continue;
    closeFd(fd);
    lines.push(`control group of the free slot ${slot}`);
  }
  return lines;
}

/** @param home a home of the test's own */
export function traces(home: string): Traces {
  const running = ourProcesses(home);
  const spaces = new Set(running.map((p) => ifThere(() => readlinkSync(`/proc/${p.pid}/ns/net`)) ?? "gone"));
  return [
    ...running.map((p) => `process ${p.name}${isVmmUid(p.uid) ? " in a jail" : ""}`),
    ...[...spaces].map(() => "network namespace with a process"),
    ...readMounts()
      .filter((mount) => mount.at === home || mount.at.startsWith(`${home}/`))
      .map((mount) => `mount at ${mount.at}`),
    ...loops(home),
    ...groups(),
    ...descriptors(),
    ...files(home),
  ];
}

/** What is in `after` more than in `before`. */
export function more(before: Traces, after: Traces): string[] {
  const left = new Map<string, number>();
  for (const line of before) left.set(line, (left.get(line) ?? 0) + 1);
  return after.filter((line) => {
    const n = left.get(line) ?? 0;
    left.set(line, n - 1);
    return n <= 0;
  });
}

/**
 * Waits until nothing is there more than `before`. A keeper that has nothing to keep any more stays for a while: it is told
 * that it may go.
 * @throws {Error} listing what still is after `deadlineMs`
 */
export async function expectNoLeaks(before: Traces, home: string, deadlineMs = 2000): Promise<void> {
  const endMs = systemClock.monotonicMs() + deadlineMs;
  for (;;) {
    await endKeeper({ home, clock: systemClock }, "idle");
    const leaked = more(before, traces(home));
    if (leaked.length === 0) return;
    if (systemClock.monotonicMs() > endMs) throw new Error(`left behind:\n  ${leaked.join("\n  ")}`);
    await systemClock.sleep(20);
  }
}
