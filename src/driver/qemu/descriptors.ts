/** Which descriptor of this process goes where in the VMM: the argument list, the environment and `spawn` agree through this. */
import { LIMITS } from "../../limits.ts";
import type { VmPlan } from "../driver.ts";
import { type FdNumbers, PLACEHOLDER_DRIVES } from "./argv.ts";

export const QMP_SOCKET = "q";
export const CONTROL_SOCKET = "m";
export function agentSocket(index: number): string {
  return `a${index}`;
}
/** Listening sockets of a VMM, in the order of their descriptors. */
export const SOCKETS: readonly string[] = [
  QMP_SOCKET,
  CONTROL_SOCKET,
  ...Array.from({ length: LIMITS.agentPorts }, (_, i) => agentSocket(i)),
];

/** The first three descriptors are stdin, stdout, stderr; then the sockets. */
const FIRST = 3;
const FIXED = FIRST + SOCKETS.length;

const VOLUMES = Array.from({ length: PLACEHOLDER_DRIVES }, (_, i) => FIXED + 5 + i);
/** Where the device state to restore is; told to QEMU by number when it is loaded. */
export const STATE_FD = FIXED + 3;

/** Descriptors by their number in the VMM, null for none; the tap follows after the last. */
export function descriptorsOf(
  plan: VmPlan,
  sockets: readonly number[],
): { readonly fds: (number | null)[]; readonly numbers: FdNumbers } {
  const { start, memory, disk } = plan;
  const image = memory.kind === "image" ? memory.image : null;
  const ram = memory.kind === "image" ? memory.image.layerFds[0]! : memory.fd;
  const incoming = start.kind === "restore" ? start.stateFd : null;
  const fds = [null, null, null, ...sockets, ram, disk.rwFd, disk.roFd, incoming, null, ...VOLUMES.map(() => null)];
  const next = fds.length;
  if (start.kind === "boot") fds.push(start.kernelFd, start.initrdFd);
  const afterBoot = fds.length;
  if (image !== null) fds.push(image.tableFd, ...image.layerFds.slice(1));
  return {
    fds,
    numbers: {
      qmp: FIRST,
      control: FIRST + 1,
      agents: SOCKETS.slice(2).map((_, i) => FIRST + 2 + i),
      memory: FIXED,
      diskRw: FIXED + 1,
      diskRo: FIXED + 2,
      state: STATE_FD,
      saved: STATE_FD + 1,
      volumes: VOLUMES,
      kernel: start.kind === "boot" ? next : -1,
      initrd: start.kind === "boot" ? next + 1 : -1,
      table: image === null ? -1 : afterBoot,
      layers: image === null ? -1 : afterBoot + 1,
      tap: fds.length,
    },
  };
}

/** What ffi/preload reads from the environment; without an image it only serves. */
export function memorySetting(numbers: FdNumbers): string {
  const { table, memory, control, layers } = numbers;
  const none = memory; // never read: memory that is shared has no table
  return `WARREN_MEMORY=${[table < 0 ? none : table, memory, control, layers < 0 ? none : layers].join(",")}`;
}
