/** The host port on Linux: leases, capacity and the clock of deadlines, over one home; and the home's register of sandboxes. */
import { fdatasync } from "node:fs";
import { promisify } from "node:util";
import { closeFd } from "../../ffi/files.ts";
import { bootTimeNs } from "../../ffi/process.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Registry } from "../engine/registry.ts";
import { readCapacity } from "./capacity.ts";
import { checkpoint, diskOf } from "./checkpoint.ts";
import { type Data, openData } from "./home/data.ts";
import { FileRegistry } from "./home/registry.ts";
import type { Capacity, Host, Lease, LeaseAsk } from "./host.ts";
import { vmmLives } from "./jail/pulse.ts";
import { mergeLayers } from "./layers.ts";
import { Networks, type NetworksOptions, type Probed } from "./net/networks.ts";
import { processMemory } from "./process-memory.ts";
import { refuseWithoutRoot } from "./rights.ts";
import { Cgroups } from "./slots/cgroups.ts";
import { lease } from "./slots/leases.ts";
import { hostBootId } from "./slots/process-name.ts";
import { Slots } from "./slots/slots.ts";
import { type Swept, sweep } from "./slots/sweep.ts";

export interface LinuxHostOptions {
  /** `WARREN_HOME`, an absolute path; made when missing. */
  readonly home: string;
  readonly clock: Clock;
  readonly log: Log;
  /** How many networks are kept ready for the next leases; `LIMITS.networkReserve` when not given. */
  readonly networkReserve?: number;
  /** Called between the steps of building a network; may throw a `NativeError`, as a kernel that lacks something does. */
  readonly networkStep?: NetworksOptions["step"];
}

export interface LinuxHost extends Host {
  readonly data: Data;
  readonly cgroups: Cgroups;
  readonly registry: Registry;
  /** Makes a sandbox's network, checks it and throws it away. */
  probeNetwork(): Probed;
  /** Lets go of what is kept ready for leases to come. */
  release(): void;
  /** Removes what ended processes left; done once when the host is opened. */
  sweep(): Promise<Swept>;
}

/** Asked for at every create and every pressure check; reading /proc each time would cost more than it tells. */
const CAPACITY_MS = 100;

/**
 * Opens a home on this machine and sweeps it.
 * @throws {WarrenError} `permission_denied` – not root; `host_unsupported` – the home cannot be written
 */
export async function openLinuxHost(options: LinuxHostOptions): Promise<LinuxHost> {
  refuseWithoutRoot();
  const { clock, log } = options;
  const data = await openData(options.home, options);
  const cgroups = Cgroups.open();
  for (const says of cgroups.degraded) log.debug("a limit is missing", { says });
  const slots = new Slots(data.slots);
  const { networkReserve: reserve, networkStep: step } = options;
  const networks = new Networks({
    ...{ clock, log, lockFree: () => slots.lockFree() },
    ...(reserve === undefined ? {} : { reserve }),
    ...(step === undefined ? {} : { step }),
  });
  const ground = { data, cgroups, clock, log, slots, networks };
  let read: { readonly capacity: Capacity; readonly atMs: number } | null = null;
  const host: LinuxHost = {
    data,
    cgroups,
    capacity() {
      const now = clock.monotonicMs();
      if (read === null || now - read.atMs > CAPACITY_MS) {
        read = { capacity: readCapacity(Math.max(0, data.freeBytes())), atMs: now };
      }
      return read.capacity;
    },
    lease: (ask: LeaseAsk): Promise<Lease> => lease(ground, ask),
    checkpoint: (ask) => checkpoint(data, ask),
    mergeLayers: (memoryMib, layers) => mergeLayers(memoryMib, layers),
    diskOf: (ref) => diskOf(data, ref),
    networkOf: (ref) => networks.networkOf(ref),
    get networkDegraded() {
      return networks.degraded;
    },
    probeNetwork: () => networks.probe(),
    release: () => networks.release(),
    processMemory,
    lives: vmmLives,
    close: closeFd,
    flushDisk: (diskFd) => promisify(fdatasync)(diskFd),
    bootId: hostBootId(),
    bootTimeNs,
    registry: new FileRegistry(ground),
    sweep: () => sweep(ground),
  };
  await host.sweep();
  return host;
}
