/**
 * A VMM in its jail: own mount, pid, ipc and uts namespace, the network namespace that was lent to it or an empty one, own uid,
 * no capability, one read-only directory as "/", only the descriptors it is given. `warren-init` is PID 1 in there and holds
 * the deadline; when it ends, for whatever reason, the kernel kills everything else. Its last words come over a status pipe,
 * whose end is the news of its death.
 */
import { readlinkSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { closeAll, fileSystemOf, openFd, pipe } from "../../../ffi/files.ts";
import { C } from "../../../ffi/layout.ts";
import { errnoName, hasCode, NativeError } from "../../../ffi/native.ts";
import { killPid, reap } from "../../../ffi/process.ts";
import { socketPair } from "../../../ffi/sockets.ts";
import { spawn } from "../../../ffi/spawn.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import type { JailPlan, VmExit } from "../../driver/driver.ts";
import { WarrenError } from "../../errors.ts";
import { LIMITS } from "../../limits.ts";
import { startTicksOf } from "../slots/process-name.ts";
import { readVmmEnd } from "./exits.ts";
import { keepTail, readStatus, type Status } from "./pipes.ts";

export interface JailSpec {
  /** From `jailInit`. */
  readonly init: string;
  /** `argv[0]` is the program's path inside `root`; at most 4079 bytes. */
  readonly argv: readonly string[];
  /** "K=V" each; nothing else of this process's environment is passed. */
  readonly env: readonly string[];
  /**
   * Index is the descriptor's number in the VMM; null is /dev/null. Number 2 has to be null: it becomes a pipe of which
   * the end is kept. Padded to three. The caller keeps and closes its own.
   */
  readonly fds: readonly (number | null)[];
  readonly jail: JailPlan;
  /** Becomes "/", read-only; needs a directory `proc`, and `dev` when `devices` are given. Mounts below it are not taken along. */
  readonly root: string;
  /** Names below /dev such as "kvm", which become open to the VMM whatever their mode is here; nothing else is in its /dev. */
  readonly devices: readonly string[];
  /** Supplementary group of the VMM, for a host that lets nobody make device nodes; null for none. */
  readonly group: number | null;
  /**
   * A tap, IFF_VNET_HDR: the one of that name in the plan's network namespace, else a new one, link down. Its descriptor's number
   * is the (padded) length of `fds`.
   */
  readonly tap: { readonly name: string; readonly mac: Uint8Array } | null;
  /**
   * A number is soft and hard alike; a VMM can raise no soft limit itself (filter.c), only `raiseFileSize` does. A limit that
   * this process has lower stays lower.
   */
  readonly rlimits: Readonly<
    Partial<Record<keyof typeof RLIMITS, number | { readonly soft: number; readonly hard: number }>>
  >;
  readonly clock?: Clock;
}

const RLIMITS = {
  fileSizeBytes: C.RLIMIT_FSIZE,
  coreBytes: C.RLIMIT_CORE,
  tasks: C.RLIMIT_NPROC,
  descriptors: C.RLIMIT_NOFILE,
  lockedBytes: C.RLIMIT_MEMLOCK,
  addressBytes: C.RLIMIT_AS,
  queueBytes: C.RLIMIT_MSGQUEUE,
  realtimePriority: C.RLIMIT_RTPRIO,
} as const;

/** Always; a spec may lower or raise them within this process's own limits. */
const DEFAULT_RLIMITS = { coreBytes: 0, descriptors: 512, lockedBytes: 0, queueBytes: 0, realtimePriority: 0 } as const;

/** VMMs go before anything of the host when memory runs out machine-wide. */
const OOM_SCORE = 500;

export interface Jailed {
  /** Host pid of the jail's first process. */
  readonly pid: number;
  readonly startTicks: number;
  /** True when even the VMM's first execve cannot be repeated; false where the host refuses page 0 to root. */
  readonly sealedExec: boolean;
  /** Why the kernel writes down no ends of this jail's processes, such as "EPERM"; null: it does. */
  readonly exitsMissing: string | null;
  /** `CLOCK_MONOTONIC` in milliseconds right before the VMM's process was made; null where it is not known. */
  readonly startMs: number | null;
  /** Settles when every process of the jail is gone. */
  readonly exited: Promise<VmExit>;
  /** Moves the self-destruct to this `CLOCK_BOOTTIME`; null removes it. Without effect once it ended. */
  setDeadline(deadlineNs: bigint | null): void;
  /** SIGKILL; resolves when every process of the jail is gone. @throws {WarrenError} `driver_failed` – the kernel does not let go */
  kill(): Promise<void>;
}

/** Tells init a new deadline over its control pipe. */
export function writeDeadline(controlFd: number, deadlineNs: bigint | null): void {
  const message = new BigInt64Array([deadlineNs ?? 0n]);
  try {
    writeSync(controlFd, new Uint8Array(message.buffer));
  } catch (error) {
    if (!hasCode(error, "EPIPE")) throw error; // init ended meanwhile: nothing is left that a deadline could end
  }
}

interface Started {
  readonly pid: number;
  readonly pidfd: number;
  readonly controlFd: number;
  readonly statusFd: number;
  readonly stderrFd: number;
}

function initArguments(spec: JailSpec, vmmFds: number): string[] {
  const { uid, detached, deadlineNs, exitsPath } = spec.jail;
  const numbers = [uid, spec.group ?? -1, vmmFds, detached ? 1 : 0, deadlineNs ?? 0n, exitsPath === null ? 0 : 1];
  return ["warren-init", ...numbers.map(String), ...spec.argv];
}

/** v1 groups are joined; a v2 group is better entered at birth, which needs its directory instead of its `cgroup.procs`. */
function splitCgroups(fds: readonly number[]): { readonly join: readonly number[]; readonly intoDir: string | null } {
  const v2 = fds.find((fd) => fileSystemOf(fd).magic === C.CGROUP2_SUPER_MAGIC);
  const intoDir = v2 === undefined ? null : dirname(readlinkSync(`/proc/self/fd/${v2}`));
  return { join: fds.filter((fd) => fd !== v2), intoDir };
}

function start(spec: JailSpec): Started {
  if (spec.fds[2] !== undefined && spec.fds[2] !== null)
    throw new TypeError("descriptor 2 of a jail is its stderr pipe");
  const theirs: number[] = []; // closed here once the child has them
  const ours: number[] = []; // closed only when it failed
  const shared = ([mine, its]: readonly [number, number]): readonly [number, number] => {
    ours.push(mine);
    theirs.push(its);
    return [mine, its];
  };
  try {
    const execFd = openFd(spec.init, "read");
    theirs.push(execFd);
    const none = openFd("/dev/null", "write");
    theirs.push(none);
    const [itsControl, controlFd] = pipe();
    shared([controlFd, itsControl]);
    const status = shared(socketPair());
    const stderr = shared(socketPair());
    const padded = [...spec.fds, null, null, null].slice(0, Math.max(3, spec.fds.length));
    const vmm: (number | "tap")[] = padded.map((fd, i) => (i === 2 ? stderr[1] : (fd ?? none)));
    if (spec.tap !== null) vmm.push("tap");
    const own = [itsControl, status[1], spec.jail.slotFd, ...(spec.jail.detached ? [controlFd] : [])];
    const { netnsFd, exitsPath } = spec.jail;
    if (exitsPath !== null) {
      const exits = openFd(exitsPath, "lock");
      theirs.push(exits);
      own.push(exits);
    }
    const cgroups = splitCgroups(spec.jail.cgroupFds);
    const intoCgroupFd = cgroups.intoDir === null ? null : openFd(cgroups.intoDir, "directory");
    if (intoCgroupFd !== null) theirs.push(intoCgroupFd);
    const limits = Object.entries({ ...DEFAULT_RLIMITS, ...spec.rlimits }) as [
      keyof typeof RLIMITS,
      number | { readonly soft: number; readonly hard: number },
    ][];
    const process = spawn({
      execFd,
      argv: initArguments(spec, vmm.length),
      env: spec.env,
      fds: [...vmm, ...own],
      cgroupFds: cgroups.join,
      intoCgroupFd,
      root: spec.root,
      hostname: spec.jail.hostname,
      devices: spec.devices,
      rlimits: limits.map(([name, value]) => {
        const { soft, hard } = typeof value === "number" ? { soft: value, hard: value } : value;
        return { resource: RLIMITS[name], soft, hard };
      }),
      tap: spec.tap === null || netnsFd === null ? spec.tap : { name: spec.tap.name, mac: null },
      netnsFd,
      oomScore: OOM_SCORE,
    });
    return { ...process, controlFd, statusFd: status[0], stderrFd: stderr[0] };
  } catch (error) {
    closeAll(ours);
    if (!(error instanceof NativeError)) throw error;
    throw new WarrenError("driver_failed", `the jail could not be made: ${error.message}`, { cause: error });
  } finally {
    closeAll(theirs);
  }
}

const REASONS = ["unknown", "deadline", "owner_gone", "vmm_exit"] as const;

function exitOf(last: Status | null, killed: boolean, seen: Pick<VmExit, "stderr" | "end">): VmExit {
  if (last?.kind !== "ended") return { reason: killed ? "killed" : "unknown", code: null, signal: null, ...seen };
  const reason = REASONS[last.reason] ?? "unknown";
  if (reason !== "vmm_exit") return { reason, code: null, signal: null, ...seen };
  const signal = last.signal === 0 ? null : last.signal;
  return { reason, code: signal === null ? last.code : null, signal, ...seen };
}

/** Until the kernel has ended every process of the namespace: init's descriptors close first, its VMM dies a little later. */
async function reaped(pidfd: number, clock: Clock): Promise<void> {
  for (let waitMs = 0.5; reap(pidfd) === null; waitMs = Math.min(waitMs * 2, 20)) await clock.sleep(waitMs);
}

/**
 * Starts a VMM in a jail; resolves when the VMM's own program runs.
 * @throws {WarrenError} `driver_failed` – with the step that failed; nothing of it is left
 */
export async function spawnJailed(spec: JailSpec): Promise<Jailed> {
  const clock = spec.clock ?? systemClock;
  const started = start(spec);
  const { pid, pidfd } = started;
  const startTicks = startTicksOf(pid) ?? 0;
  const stderr = keepTail(started.stderrFd, LIMITS.vmmStderrBytes, clock);
  const status = readStatus(started.statusFd);
  let over = false;
  let killed = false;
  const exited = (async (): Promise<VmExit> => {
    const last = await status.last;
    await reaped(pidfd, clock);
    over = true;
    const first = await status.first;
    const { exitsPath } = spec.jail;
    const startMs = first?.kind === "running" ? Number(first.startNs) / 1e6 : null;
    const end = startMs === null || exitsPath === null ? null : readVmmEnd(exitsPath, startMs);
    closeAll([pidfd, started.controlFd]);
    return exitOf(last, killed, { stderr: await stderr.end(), end });
  })();
  const first = await status.first;
  if (first?.kind !== "running") {
    const exit = await exited;
    const why = first?.kind === "not_started" ? first.says : "its first process was killed";
    throw new WarrenError("driver_failed", `the VMM could not be started: ${why}`, {
      details: { stderr: exit.stderr },
    });
  }
  return {
    pid,
    startTicks,
    sealedExec: first.sealed,
    exitsMissing: spec.jail.exitsPath === null ? "not asked for" : errnoName(first.exitsErrno),
    startMs: Number(first.startNs) / 1e6,
    exited,
    setDeadline(deadlineNs) {
      if (!over) writeDeadline(started.controlFd, deadlineNs);
    },
    async kill() {
      if (!over && killPid(pidfd)) killed = true;
      await withinKillTime(exited, clock);
    },
  };
}

/** @throws {WarrenError} `driver_failed` – the kernel does not let go of a killed process */
export async function withinKillTime(gone: Promise<unknown>, clock: Clock): Promise<void> {
  const late = Promise.withResolvers<never>();
  const cancel = clock.after(LIMITS.killMs, () => {
    late.reject(new WarrenError("driver_failed", `a killed VMM is still there after ${LIMITS.killMs} ms`));
  });
  try {
    await Promise.race([gone, late.promise]);
  } finally {
    cancel();
  }
}
