/** A jail from outside of the process that made it: found by pid and start time, moved and ended without its maker's pipes. */
import { join } from "node:path";
import { closeFd, openFd } from "../../../ffi/files.ts";
import { hasCode } from "../../../ffi/native.ts";
import { hasEnded, killPid, openPid } from "../../../ffi/process.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import type { VmExit, VmRef } from "../../driver/driver.ts";
import { LIMITS } from "../../limits.ts";
import { hostBootId, startTicksOf } from "../slots/process-name.ts";
import { EXITS, readVmmEnd } from "./exits.ts";
import { type Jailed, withinKillTime, writeDeadline } from "./jail.ts";

type Ref = Pick<VmRef, "pid" | "startTicks" | "hostBootId"> & Partial<Pick<VmRef, "socketDir" | "startMs">>;

/** A pidfd of the process that the reference means, and of no other; null when it has ended. The caller closes it. */
function pidfdOf(ref: Ref): number | null {
  if (ref.hostBootId !== hostBootId()) return null;
  const pidfd = openPid(ref.pid);
  if (pidfd === null) return null;
  // First the pidfd, then the look: what /proc says now is about the process that the pidfd holds, or that has ended.
  if (startTicksOf(ref.pid) === ref.startTicks && !hasEnded(pidfd)) return pidfd;
  closeFd(pidfd);
  return null;
}

/** Runs `job` with a pidfd of the process; null when it has ended. */
function withPidfd<T>(ref: Ref, job: (pidfd: number) => T): T | null {
  const pidfd = pidfdOf(ref);
  if (pidfd === null) return null;
  try {
    return job(pidfd);
  } finally {
    closeFd(pidfd);
  }
}

/** The write end of init's control pipe, which it keeps at 0; null when it is ending. */
function controlOf(pid: number): number | null {
  try {
    return openFd(`/proc/${pid}/fd/0`, "fifo");
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) return null;
    throw error;
  }
}

/** Holds no descriptor between calls, so that one may be made for every request and forgotten. */
class Adopted implements Jailed {
  readonly pid: number;
  readonly startTicks: number;
  /** Not known from here. */
  readonly sealedExec = false;
  readonly exitsMissing = "made by another process";
  readonly startMs: number | null;
  readonly #ref: Ref;
  readonly #clock: Clock;
  #exited: Promise<VmExit> | null = null;
  #killed = false;
  #look: () => void = () => undefined;

  constructor(ref: Ref, clock: Clock) {
    this.pid = ref.pid;
    this.startTicks = ref.startTicks;
    this.startMs = ref.startMs ?? null;
    this.#ref = ref;
    this.#clock = clock;
  }

  /** Watched from the first time it is asked for. */
  get exited(): Promise<VmExit> {
    this.#exited ??= this.#watch();
    return this.#exited;
  }

  async #watch(): Promise<VmExit> {
    while (startTicksOf(this.pid) === this.startTicks) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancel = this.#clock.after(this.#killed ? 1 : LIMITS.adoptedPollMs, resolve, { background: !this.#killed });
      this.#look = () => {
        cancel();
        resolve();
      };
      await promise;
    }
    const { socketDir, startMs } = this.#ref;
    const end = socketDir === undefined || startMs === undefined ? null : readVmmEnd(join(socketDir, EXITS), startMs);
    return { reason: this.#killed ? "killed" : "unknown", code: null, signal: null, stderr: "", end };
  }

  setDeadline(deadlineNs: bigint | null): void {
    withPidfd(this.#ref, (pidfd) => {
      const controlFd = controlOf(this.pid);
      if (controlFd === null) return;
      try {
        // It lived after the pipe was opened, so the pipe is its own and not that of a process with a reused pid.
        if (!hasEnded(pidfd)) writeDeadline(controlFd, deadlineNs);
      } finally {
        closeFd(controlFd);
      }
    });
  }

  async kill(): Promise<void> {
    if (withPidfd(this.#ref, killPid) === true) this.#killed = true;
    const gone = this.exited;
    this.#look();
    await withinKillTime(gone, this.#clock);
  }
}

/**
 * A jail that another process of this host made detached; null when it is gone, or its pid names another process by now.
 * The reason of its end is known only when it was killed from here.
 */
export function adoptJailed(ref: Ref, clock: Clock = systemClock): Jailed | null {
  return withPidfd(ref, () => new Adopted(ref, clock));
}
