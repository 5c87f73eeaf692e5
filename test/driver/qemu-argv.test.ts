/**
 * QEMU's argument list, byte for byte: the devices in it are part of every snapshot. `test/golden/qemu-restore.argv` is also
 * what the floor harness starts QEMU with (descriptors from 100 on, `{data}` for the firmware's directory).
 */
import { expect, test } from "bun:test";
import type { VmPlan } from "../../src/driver/driver.ts";
import { type FdNumbers, qemuArgv } from "../../src/driver/qemu/argv.ts";

const FDS: FdNumbers = {
  qmp: 100,
  agents: [101, 102, 103, 104],
  memory: 105,
  diskRw: 106,
  diskRo: 107,
  state: 108,
  kernel: 110,
  initrd: 111,
  tap: 109,
};
const PLAN: VmPlan = {
  id: "sb_x",
  machine: { cpu: 1, memoryMib: 512, accel: { kind: "tcg" } },
  start: { kind: "restore", stateFd: 8 },
  memory: { fd: 5, shared: false },
  disk: { rwFd: 6, roFd: 7 },
  socketDir: "/nowhere",
  jail: { uid: 1, hostname: "x", cgroupFds: [], slotFd: 9, deadlineNs: null, detached: false },
};
const PATHS = { binary: "qemu-system-x86_64", data: "{data}" };

async function golden(name: string): Promise<string> {
  return await Bun.file(`${import.meta.dir}/../golden/${name}`).text();
}

test("qemuArgv of a restore is the golden list", async () => {
  expect(`${qemuArgv(PLAN, FDS, PATHS).join("\n")}\n`).toBe(await golden("qemu-restore.argv"));
});

test("qemuArgv of a boot differs from a restore's by the kernel, the shared memory and the place of the state alone", () => {
  const boot: VmPlan = {
    ...PLAN,
    start: { kind: "boot", kernelFd: 1, initrdFd: 2, commandLine: "quiet", stateFd: 3 },
    memory: { fd: 5, shared: true },
  };
  const restore = qemuArgv(PLAN, FDS, PATHS);
  const booted = qemuArgv(boot, FDS, PATHS);
  const extra = booted.filter((arg) => !restore.includes(arg));
  expect(extra).toEqual([
    "-kernel",
    "/proc/self/fd/110",
    "-initrd",
    "/proc/self/fd/111",
    "-append",
    "quiet",
    "set=2,fd=108",
    "memory-backend-file,id=mem,mem-path=/proc/self/fd/105,size=512M,share=on",
  ]);
  const missing = restore.filter((arg) => !booted.includes(arg));
  expect(missing).toEqual([
    "-incoming",
    "defer",
    "memory-backend-file,id=mem,mem-path=/proc/self/fd/105,size=512M,share=off",
  ]);
});

test("qemuArgv asks for KVM with the host's processor when the plan says so", () => {
  const kvm = qemuArgv({ ...PLAN, machine: { cpu: 4, memoryMib: 2048, accel: { kind: "kvm" } } }, FDS, PATHS).join(" ");
  expect(kvm).toContain("-accel kvm -cpu host -smp 4 -m 2048M");
  expect(kvm).not.toContain("tcg");
});

test("qemuArgv starts nothing by itself: every machine waits for the engine", () => {
  for (const start of [PLAN.start, { kind: "boot", kernelFd: 1, initrdFd: 2, commandLine: "", stateFd: 3 } as const]) {
    expect(qemuArgv({ ...PLAN, start }, FDS, PATHS)).toContain("-S");
  }
});
