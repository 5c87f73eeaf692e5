/**
 * What can be measured, each by a name with its unit. A level is so many units for so long; a count is a number at an instant.
 * The database has the same list, under test. Factors are exact: a price's unit holds a power of 2 and 10 of the meter's.
 */

export interface Meter {
  readonly kind: "level" | "count";
  /** What a price is for. */
  readonly unit: string;
  /** Price units in one of the meter's, as exact decimal text: 1/1000, 1/(1000 · 1024), 1/1024, 1/2^30. */
  readonly factor: string;
  readonly describes: string;
}

const VCPU_MS = "0.001";
const MIB_MS = "0.0000009765625";
const MIB_S = "0.0009765625";
const BYTE = "0.000000000931322574615478515625";

export const METERS = {
  vcpu_ms: { kind: "level", unit: "vCPU-second", factor: VCPU_MS, describes: "vCPUs of running sandboxes" },
  memory_mib_ms: {
    ...{ kind: "level", unit: "GiB-second", factor: MIB_MS },
    describes: "Memory of running sandboxes, at its nominal size: pages that a fork shares are charged once per child",
  },
  paused_memory_mib_ms: {
    ...{
      kind: "level",
      unit: "GiB-second",
      factor: MIB_MS,
      describes: "Memory of paused sandboxes, at its nominal size",
    },
  },
  ready_memory_mib_ms: {
    ...{ kind: "level", unit: "GiB-second", factor: MIB_MS, describes: "Memory of clones that are kept ready" },
  },
  hibernated_mib_s: {
    ...{ kind: "level", unit: "GiB-second", factor: MIB_S, describes: "Images of hibernated sandboxes" },
  },
  snapshot_mib_s: { kind: "level", unit: "GiB-second", factor: MIB_S, describes: "Snapshots, by their own bytes" },
  volume_mib_s: { kind: "level", unit: "GiB-second", factor: MIB_S, describes: "Volumes, at the size asked for" },
  template_mib_s: { kind: "level", unit: "GiB-second", factor: MIB_S, describes: "Templates of the account's own" },
  build_s: { kind: "level", unit: "build-second", factor: "1", describes: "Time in which templates were built" },
  egress_bytes: { kind: "count", unit: "GiB", factor: BYTE, describes: "Bytes that left sandboxes for the network" },
  creates: { kind: "count", unit: "create", factor: "1", describes: "Sandboxes that ran" },
  cpu_used_ms: {
    ...{ kind: "count", unit: "CPU-second", factor: VCPU_MS },
    describes:
      "CPU time that sandboxes really used, as the host counts it: charged by active-CPU lists instead of vCPUs",
  },
} as const satisfies Record<string, Meter>;

export type MeterName = keyof typeof METERS;
export const METER_NAMES = Object.keys(METERS) as readonly MeterName[];
