/**
 * What the engine knows of a VMM. A plan is plain, complete data: a driver makes no decision that another driver would
 * make differently. Three depths of readiness, each a step further along the same road:
 * `prepare` (a VMM process, no guest memory touched) → `load` (restored and paused) → `resume` (the guest runs).
 */

import type { WarrenError } from "../errors.ts";

/** Raw bytes to and from one port of the guest agent. Hostile input: nothing here interprets them. */
export interface Link {
  /** Resolves when the bytes have been handed on; the pause is the backpressure. @throws when the link is closed. */
  write(bytes: Uint8Array): Promise<void>;
  /** Chunks as they come; ends when the VMM is gone. Reading slowly stops the guest, not the host's memory. */
  readonly bytes: AsyncIterable<Uint8Array>;
  close(): void;
}

export interface Acceleration {
  readonly kind: "kvm" | "tcg";
}

/** What the guest's hardware looks like; part of a snapshot's identity, since devices are fixed when it is baked. */
export interface Machine {
  readonly cpu: number;
  readonly memoryMib: number;
  readonly accel: Acceleration;
}

/** A stretch of guest memory in bytes, whole pages. */
export interface Run {
  readonly offset: number;
  readonly length: number;
}

/** Guest memory as layers of files, each of the guest's size, and the table that says which one each stretch comes from. */
export interface MemoryImage {
  /** Lowest first; sealed, or open for reading only. */
  readonly layerFds: readonly number[];
  /** As ffi/preload/preload.h reads it. */
  readonly tableFd: number;
}

/** A cold boot needs a kernel, a restore a device state. Kernel and initrd are memfds: the jailed VMM opens them by /proc/self/fd. */
export type Start =
  | {
      readonly kind: "boot";
      readonly kernelFd: number;
      readonly initrdFd: number;
      readonly commandLine: string;
    }
  /** Descriptor of the device state, opened for this VMM alone (its offset moves). */
  | { readonly kind: "restore"; readonly stateFd: number };

/** Descriptors of this process that the VMM inherits; whoever made the plan closes them. */
export interface VmPlan {
  readonly id: string;
  readonly machine: Machine;
  readonly start: Start;
  /** Shared only while baking: writes reach the memfd. A clone maps its image privately. */
  readonly memory:
    | { readonly kind: "shared"; readonly fd: number }
    | { readonly kind: "image"; readonly image: MemoryImage };
  /** The root disk twice, read-write and read-only: QEMU opens an incoming disk read-only first. */
  readonly disk: { readonly rwFd: number; readonly roFd: number };
  /** Directory for the VMM's sockets, reachable by root of this host only. */
  readonly socketDir: string;
  readonly jail: JailPlan;
}

export interface JailPlan {
  /** Uid and gid that no host user and no other VMM has. */
  readonly uid: number;
  readonly hostname: string;
  /** `cgroup.procs` descriptors (v1: one per controller; v2: one) that the process joins before it runs anything. */
  readonly cgroupFds: readonly number[];
  /** Held open by the jail's first process, so that the lease ends exactly when the last process does. */
  readonly slotFd: number;
  /** The network namespace that was lent, with the guest's tap in it; null for an empty one of the jail's own. */
  readonly netnsFd: number | null;
  /** Absolute `CLOCK_BOOTTIME` nanoseconds of the self-destruct. */
  readonly deadlineNs: bigint | null;
  /** Does not end with the process that made it. */
  readonly detached: boolean;
  /** An empty file, which the kernel writes the ends of the jail's processes to; null for none. */
  readonly exitsPath: string | null;
}

/** When a VMM ended, by the kernel's accounting. */
export interface VmEnd {
  /** `CLOCK_MONOTONIC` of this boot, milliseconds; never later than the truth, and at most some 10 ms earlier. */
  readonly atMs: number;
  /** CPU time that it used in all. */
  readonly cpuMs: number;
}

/** Why a VMM is gone: a host fact, not the guest's word. */
export interface VmExit {
  readonly reason: "killed" | "deadline" | "owner_gone" | "vmm_exit" | "unknown";
  /** The VMM's own wait status when it ended by itself. */
  readonly code: number | null;
  readonly signal: number | null;
  /** Last lines of its stderr, bounded, unescaped: escape before showing. */
  readonly stderr: string;
  /** Null where the kernel has not written it down. */
  readonly end: VmEnd | null;
}

/** Enough to find a running VMM again from another process, and to know that it is the same one. */
export interface VmRef {
  readonly id: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: a reused pid has another one. */
  readonly startTicks: number;
  /** /proc/sys/kernel/random/boot_id of the host: pids mean nothing after a reboot. */
  readonly hostBootId: string;
  readonly socketDir: string;
  /** `CLOCK_MONOTONIC` in milliseconds right before its process was made; absent where nobody noted it. */
  readonly startMs?: number;
}

/** What is put into a placeholder drive. Its descriptors stay the caller's, who may close them once it is in. */
export interface Medium {
  /** A file's; the VMM holds the same open file, locks included, until the medium is out or the VMM is gone. */
  readonly fd: number;
  readonly sizeBytes: number;
  /** Null for a medium that the guest may write. Else an empty file: what the guest writes all the same goes there. */
  readonly scratchFd: number | null;
}

/** What a capture wrote. With an error the guest stands on these runs all the same. */
export interface Captured {
  /** Sorted and apart; may take in clean pages between dirty ones. */
  readonly runs: readonly Run[];
  readonly error: WarrenError | null;
}

/** A VMM process. Dead at the latest when `kill` resolves; `exited` then holds why. */
export interface Vmm {
  /** Host pid of the jail's first process: killing it kills everything in its pid namespace. */
  readonly pid: number;
  readonly ref: VmRef;
  readonly exited: Promise<VmExit>;
  /** Connects to agent port `index`; each port takes one connection at a time. */
  connect(index: number, signal?: AbortSignal): Promise<Link>;
  /** Loads the plan's device state; the guest is paused after it. */
  load(signal?: AbortSignal): Promise<void>;
  /** Lets the guest run; resolves when the VMM says that it does. */
  resume(signal?: AbortSignal): Promise<void>;
  pause(signal?: AbortSignal): Promise<void>;
  /** Writes the paused guest's device state (not its RAM) to an empty file that is open for writing only. */
  save(stateFd: number, signal?: AbortSignal): Promise<void>;
  /**
   * Writes what the paused guest has changed of its memory since it was restored, or captured last, into an empty memory
   * file of its size, at the same offsets; the guest stands on that file from then on, so each page exists once.
   * `since` the base: all that differs from the image's lowest layer, whoever captured it before.
   * @returns what was written, also when the rest failed: `error` then says why
   */
  capture(memoryFd: number, since?: "last" | "base"): Promise<Captured>;
  /** Puts a medium into an empty placeholder drive; the guest is told the new size. @throws when it failed: the drive is empty */
  insert(drive: number, medium: Medium): Promise<void>;
  /** The medium's file has grown to this size, and the guest is told. */
  grow(drive: number, sizeBytes: number): Promise<void>;
  /** Empties a drive; when it has resolved the VMM holds nothing of the medium. */
  eject(drive: number): Promise<void>;
  /** Moves the self-destruct; null removes it. */
  setDeadline(deadlineNs: bigint | null): void;
  /** Hangs up on the VMM between commands, of which it serves one process at a time; the next command connects anew. */
  letGo(): void;
  /** SIGKILL; resolves when the kernel has reaped every process of the jail. */
  kill(): Promise<void>;
}

export interface Driver {
  readonly name: string;
  /** What identifies this VMM build in a template's manifest: version and digests of binary and firmware. */
  identity(): Promise<Readonly<Record<string, string>>>;
  /**
   * Starts the VMM process of a plan and waits until it takes commands; no guest instruction runs before `resume`.
   * @throws {WarrenError} `driver_failed` – it ended or did not answer in time; nothing of it is left.
   */
  prepare(plan: VmPlan, signal?: AbortSignal): Promise<Vmm>;
  /**
   * The VMM that another process of this host made detached; null when it is gone.
   * Its `load` is refused.
   */
  adopt(ref: VmRef): Promise<Vmm | null>;
}
