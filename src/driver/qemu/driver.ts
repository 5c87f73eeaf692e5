/** QEMU's microvm machine as a `Driver`. */
import { closeSync, fstatSync, statSync } from "node:fs";
import { type Clock, systemClock } from "../../base/clock.ts";
import { adoptJailed } from "../../host/jail/adopt.ts";
import { jailInit, memoryLibrary } from "../../host/jail/init.ts";
import { type Jailed, spawnJailed } from "../../host/jail/jail.ts";
import { listenIn } from "../../host/jail/sockets.ts";
import { hostBootId } from "../../host/slots/process-name.ts";
import { LIMITS } from "../../limits.ts";
import type { Driver, Vmm, VmPlan, VmRef } from "../driver.ts";
import { DEVICES, qemuArgv, TAP_MAC } from "./argv.ts";
import { descriptorsOf, memorySetting, SOCKETS, STATE_FD } from "./descriptors.ts";
import { overlayBytes } from "./drives.ts";
import { type VmmRoot, vmmRoot } from "./root.ts";
import { QemuVmm } from "./vmm.ts";

export interface QemuOptions {
  /** Where the VMM's root and other built parts are kept. */
  readonly dataDir: string;
  /** QEMU's path, or null to find `qemu-system-x86_64`. */
  readonly binary: string | null;
  readonly clock?: Clock;
}

/** More than any device state takes (0.1 MB). */
const STATE_BYTES = 64 * 1024 * 1024;
/** Connections that may wait for the one that a port serves. */
const BACKLOG = 4;
/** Where the library that holds the guest's memory lies in the VMM's root. */
const LIBRARY = "lib/warren-memory.so";

function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16));
}

/** The group that distributions give /dev/kvm to; never root's, which would open far more than that. */
function kvmGroup(): number | null {
  const { gid } = statSync("/dev/kvm");
  return gid === 0 ? null : gid;
}

/**
 * No file of a VMM's may grow beyond the soft limit, taken over or not: it may fill its disk, and not the host's. The hard one
 * is for volumes that are put into its drives later.
 */
function fileSize({ disk, machine }: VmPlan): { readonly soft: number; readonly hard: number } {
  const soft = Math.max(fstatSync(disk.rwFd).size, machine.memoryMib * 2 ** 20, STATE_BYTES);
  return { soft, hard: Math.max(soft, overlayBytes(LIMITS.volumeMbMax * 2 ** 20)) };
}

async function spawnQemu(root: VmmRoot, init: string, plan: VmPlan, clock: Clock): Promise<Jailed> {
  using sockets = new DisposableStack();
  const listening = SOCKETS.map((name) => sockets.adopt(listenIn(plan.socketDir, name, BACKLOG), closeSync));
  const { fds, numbers } = descriptorsOf(plan, listening);
  const kvm = plan.machine.accel.kind === "kvm";
  return await spawnJailed({
    init,
    argv: qemuArgv(plan, numbers, { binary: "/qemu", data: "/data" }),
    env: ["LD_LIBRARY_PATH=/lib", "QEMU_MODULE_DIR=/modules", `LD_PRELOAD=/${LIBRARY}`, memorySetting(numbers)],
    fds,
    jail: plan.jail,
    root: root.dir,
    devices: kvm ? ["kvm"] : [],
    group: kvm ? kvmGroup() : null,
    tap: { name: "tap0", mac: macBytes(TAP_MAC) },
    rlimits: { fileSizeBytes: fileSize(plan) },
    clock,
  });
}

export function qemuDriver(options: QemuOptions): Driver {
  const clock = options.clock ?? systemClock;
  let parts: Promise<[VmmRoot, string]> | null = null;
  const ready = (): Promise<[VmmRoot, string]> => {
    parts ??= (async () => {
      const library = await memoryLibrary(options.dataDir);
      return [await vmmRoot(options.dataDir, options.binary, { [LIBRARY]: library }), await jailInit(options.dataDir)];
    })();
    parts.catch(() => (parts = null)); // QEMU may be installed meanwhile
    return parts;
  };
  return {
    name: "qemu",
    async identity() {
      const [root] = await ready();
      return { ...root.identity, devices: DEVICES };
    },
    async prepare(plan: VmPlan, signal?: AbortSignal): Promise<Vmm> {
      const [root, init] = await ready();
      signal?.throwIfAborted();
      const jailed = await spawnQemu(root, init, plan, clock);
      const { pid, startTicks, startMs } = jailed;
      const { id, socketDir } = plan;
      const at = startMs === null ? {} : { startMs };
      const ref = { id, pid, startTicks, hostBootId: hostBootId(), socketDir, ...at };
      const vmm = new QemuVmm(jailed, ref, clock, plan.start.kind === "restore" ? STATE_FD : null);
      try {
        await vmm.ready(signal);
        return vmm;
      } catch (error) {
        await vmm.kill();
        throw error;
      }
    },
    async adopt(ref: VmRef): Promise<Vmm | null> {
      const jailed = adoptJailed(ref, clock);
      return jailed === null ? null : new QemuVmm(jailed, ref, clock, null);
    },
  };
}
