/** What a cold boot takes, for a bake and for the acceleration probe: memory files, command line, a leased plan. */
import { closeSync, constants, openSync } from "node:fs";
import { stat } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { nonce } from "../base/id.ts";
import type { Driver, Machine, Start, VmPlan } from "../driver/driver.ts";
import type { Host, Lease } from "../host/host.ts";
import { copySparse, createMemory } from "../host/memory.ts";
import type { Fit } from "./manifest.ts";

export interface BakeTools {
  readonly host: Host;
  readonly driver: Driver;
  readonly clock: Clock;
}

/** Under TCG the guest's TSC is the host's, and the kernel cannot always calibrate it: without the figure some boots hang. */
export function commandLine(fit: Pick<Fit, "accel" | "tscKhz">): string {
  const always = "quiet loglevel=3 panic=-1 reboot=t nokaslr mitigations=off random.trust_cpu=on cryptomgr.notests";
  const lean = "audit=0 selinux=0 apparmor=0 rcupdate.rcu_expedited=1 nowatchdog";
  return fit.accel === "tcg"
    ? `${always} ${lean} tsc=reliable no_timer_check tsc_early_khz=${fit.tscKhz}`
    : `${always} ${lean}`;
}

/** A memory file with the content of `path`, or of `bytes` and empty; closed by the stack. */
export async function memoryOf(stack: AsyncDisposableStack, path: string | null, bytes?: number): Promise<number> {
  const size = bytes ?? (await stat(path ?? "")).size;
  const fd = createMemory("warren-boot", size);
  stack.defer(() => closeSync(fd));
  if (path === null) return fd;
  const from = openSync(path, constants.O_RDONLY);
  try {
    await copySparse(from, fd, size);
  } finally {
    closeSync(from);
  }
  return fd;
}

/** The plan of a VM that no user will ever see: its name is all that differs from a sandbox's. */
export function planOf(lease: Lease, machine: Machine, start: Start, memory: VmPlan["memory"]): VmPlan {
  return {
    id: lease.id,
    machine,
    start,
    memory,
    disk: lease.disk,
    socketDir: lease.socketDir,
    jail: { ...lease.jail, hostname: "sandbox", deadlineNs: null, detached: false },
  };
}

export interface BootAsk {
  readonly machine: Machine;
  readonly memoryFd: number;
  readonly diskFd: number;
  readonly vmlinux: string;
  readonly initrd: string;
  readonly commandLine: string;
}

/** Leases what a cold boot stands on; all of it goes back with the stack. */
export async function bootPlan(tools: BakeTools, stack: AsyncDisposableStack, ask: BootAsk): Promise<VmPlan> {
  const { cpu, memoryMib } = ask.machine;
  const snapshot = { openState: null, diskFd: ask.diskFd };
  const lease = stack.use(await tools.host.lease({ id: `bake-${nonce()}`, memoryMib, cpu, snapshot, detached: false }));
  const kernelFd = await memoryOf(stack, ask.vmlinux);
  const initrdFd = await memoryOf(stack, ask.initrd);
  const start = { kind: "boot", kernelFd, initrdFd, commandLine: ask.commandLine } as const;
  return planOf(lease, ask.machine, start, { kind: "shared", fd: ask.memoryFd });
}
