/** Processes by pidfd, which names one process for ever where a pid may come to mean another; and the clock of deadlines. */
import { C, LAYOUTS } from "./layout.ts";
import { call, hasCode, memory } from "./native.ts";

/** @returns null when there is no such process */
export function openPid(pid: number): number | null {
  try {
    return call("syscall", C.SYS_pidfd_open, pid, 0, 0, 0, 0);
  } catch (error) {
    if (hasCode(error, "ESRCH", "EINVAL")) return null;
    throw error;
  }
}

/** SIGKILL. @returns false when it was gone already */
export function killPid(pidfd: number): boolean {
  try {
    call("syscall", C.SYS_pidfd_send_signal, pidfd, C.SIGKILL, 0, 0, 0);
    return true;
  } catch (error) {
    if (hasCode(error, "ESRCH")) return false;
    throw error;
  }
}

/** True when the process, any process, has ended: with a pid namespace's first process, all of the namespace. */
export function hasEnded(pidfd: number): boolean {
  const at = memory(LAYOUTS.pollfd[""][1]);
  const view = new DataView(at.buffer);
  view.setInt32(LAYOUTS.pollfd.fd[0], pidfd, true);
  view.setInt16(LAYOUTS.pollfd.events[0], C.POLLIN, true);
  return call("poll", at, 1, 0) > 0;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: number | null;
}

/** Takes a child's exit status without waiting. @returns null while it lives; "gone" when it is not, or no longer, ours */
export function reap(pidfd: number): Ended | "gone" | null {
  const info = memory(LAYOUTS.siginfo[""][1]);
  try {
    // __WALL: our children are made without an exit signal, which wait calls skip otherwise.
    call("waitid", C.P_PIDFD, pidfd, info, C.WEXITED | C.WNOHANG | C.__WALL);
  } catch (error) {
    if (hasCode(error, "ECHILD")) return "gone";
    throw error;
  }
  const view = new DataView(info.buffer);
  if (view.getInt32(LAYOUTS.siginfo.si_pid[0], true) === 0) return null;
  const status = view.getInt32(LAYOUTS.siginfo.si_status[0], true);
  const exited = view.getInt32(LAYOUTS.siginfo.si_code[0], true) === 1; // CLD_EXITED
  return exited ? { code: status, signal: null } : { code: null, signal: status };
}

function clockNs(which: number): bigint {
  const out = memory(LAYOUTS.timespec[""][1]);
  call("clock_gettime", which, out);
  const view = new DataView(out.buffer);
  return view.getBigInt64(0, true) * 1_000_000_000n + view.getBigInt64(LAYOUTS.timespec.tv_nsec[0], true);
}

/** `CLOCK_BOOTTIME` in nanoseconds: goes on while the machine sleeps. */
export function bootTimeNs(): bigint {
  return clockNs(C.CLOCK_BOOTTIME);
}

/** `CLOCK_MONOTONIC` in nanoseconds: one for all processes of a boot; stands still while the machine sleeps. */
export function monotonicNs(): bigint {
  return clockNs(C.CLOCK_MONOTONIC);
}
