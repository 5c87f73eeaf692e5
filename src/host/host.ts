/**
 * What this machine lends out, as the engine sees it: leases of a slot (uid), disk clone, cgroup and socket directory,
 * and room for them. One implementation on Linux (`linux.ts`), one in memory for fast tests (`fake.ts`).
 */
import type { JailPlan, MemoryImage, Run, VmRef } from "../driver/driver.ts";
import type { Network } from "./network.ts";

/**
 * One file of guests' memory, of the guest's size, and the stretches of it that count. Everyone who stands on it holds it;
 * the file is closed with the last hold.
 */
export interface Layer {
  readonly fd: number;
  /** Sorted, apart, in whole pages. */
  readonly runs: readonly Run[];
  hold(): void;
  release(): void;
}

/** Open descriptors of one snapshot; whoever opened it closes them. */
export interface Snapshot {
  /** Every clone maps it private; its layers are sealed memfds (`F_SEAL_WRITE|GROW|SHRINK|SEAL`) or files open for reading only. */
  readonly memory: MemoryImage;
  /** What `memory` is made of, lowest first. */
  readonly layers: readonly Layer[];
  /** Opens the device state anew, since each VMM needs an offset of its own; null for a cold boot, which has none. */
  readonly openState: (() => number) | null;
  /** The root disk that clones are reflinked from. */
  readonly diskFd: number;
}

export interface LeaseAsk {
  readonly id: string;
  readonly memoryMib: number;
  readonly cpu: number;
  readonly snapshot: Pick<Snapshot, "openState" | "diskFd">;
  readonly detached: boolean;
}

/** Everything one VMM process stands on. Disposing frees all of it, in any state, twice without harm. */
export interface Lease extends AsyncDisposable {
  readonly id: string;
  readonly disk: { readonly rwFd: number; readonly roFd: number };
  /** The device state to restore from; -1 where the snapshot has none. */
  readonly stateFd: number;
  readonly socketDir: string;
  readonly jail: Pick<JailPlan, "uid" | "cgroupFds" | "slotFd" | "netnsFd" | "exitsPath">;
  /** Null where this host can give none: the VMM then has a network card that leads nowhere. */
  readonly network: Network | null;
  /** Closes the descriptors that only the VMM needs, once it has inherited them. */
  handedOver(): void;
  /**
   * Its VMM has written so much memory to files that others stand on. They are charged to the lease for as long as they are
   * there, and its limit leaves as much room beside them as before.
   */
  carry(bytes: number): void;
  /** Memory charged to the lease's cgroup, MiB; null where no memory controller is usable. */
  memoryMib(): number | null;
  /** CPU time really used, milliseconds; null where it cannot be read. */
  cpuMs(): number | null;
}

/** A snapshot of one's own: `release` closes what it holds, once. */
export interface OwnSnapshot extends Snapshot {
  release(): void;
}

/** Files for what one guest is at one instant; memory and state are written by its VMM while it is paused. */
export interface Checkpoint extends Disposable {
  /** Empty, of the guest's size. */
  readonly memoryFd: number;
  /** Empty, open for writing only. */
  readonly stateFd: number;
  /** Takes the guest's disk as it is now. @throws {WarrenError} `storage_exhausted` */
  takeDisk(): void;
  /** The memory file, sealed, as a layer that its caller holds. Once. */
  layer(runs: readonly Run[]): Layer;
  /** All of it, over these layers, each of which it holds too; the caller releases it. @throws {WarrenError} `capacity_exhausted` */
  snapshot(layers: readonly Layer[]): OwnSnapshot;
}

export interface CheckpointAsk {
  readonly memoryMib: number;
  /** The running guest's disk. */
  readonly diskFd: number;
}

/** How much this host can still carry. */
export interface Capacity {
  readonly cores: number;
  readonly memoryTotalMib: number;
  /** `MemAvailable` of /proc/meminfo, further bounded by a cgroup limit on this process. */
  readonly memoryAvailableMib: number;
  /** Share of the last 10 s in which some task waited for memory (`/proc/pressure/memory`), 0–100; null where unknown. */
  readonly memoryPressure: number | null;
  /** Free bytes where disk clones live. */
  readonly diskFreeBytes: number;
}

export interface Host {
  capacity(): Capacity;
  /**
   * @throws {WarrenError} `storage_exhausted` – no room for the clone, `permission_denied` – not root,
   * `capacity_exhausted` – no slot left.
   */
  lease(ask: LeaseAsk): Promise<Lease>;
  /** Disposing closes what was not handed on. @throws {WarrenError} `storage_exhausted`, `capacity_exhausted` */
  checkpoint(ask: CheckpointAsk): Checkpoint;
  /** These layers, lowest first, as one that its caller holds. @throws {WarrenError} `capacity_exhausted` */
  mergeLayers(memoryMib: number, layers: readonly Layer[]): Promise<Layer>;
  /** The disk of a VMM that another process made, opened for reading; the caller closes it. @throws {WarrenError} `sandbox_lost` */
  diskOf(ref: VmRef): number;
  /** The network of a VMM that another process made; null when it has none, or is gone. */
  networkOf(ref: VmRef): Network | null;
  /** Why the last lease got no network, with the remedy; null when it got one, or there was none yet. */
  readonly networkDegraded: string | null;
  /** Proportional and resident memory of the VMM whose jail's first process this is; null where nobody tells. */
  processMemory(pid: number): { readonly pssBytes: number; readonly rssBytes: number } | null;
  /** Whether the VMM itself lives, before anybody may have noticed its end. */
  lives(ref: VmRef): boolean;
  /** Closes what this port opened. */
  close(fd: number): void;
  /** Writes a disk's pages out, so that taking it later stops its guest for less. */
  flushDisk(diskFd: number): Promise<void>;
  /** Of this boot: monotonic clocks and pids mean something within it alone. As `VmRef.hostBootId`. */
  readonly bootId: string;
  /** `CLOCK_BOOTTIME` in nanoseconds: the clock of deadlines; it goes on while the host sleeps. */
  bootTimeNs(): bigint;
}
