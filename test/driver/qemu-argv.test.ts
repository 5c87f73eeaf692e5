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
  tap: 109,
  saved: 110,
  volumes: [111, 112, 113, 114],
  kernel: 120,
  initrd: 121,
  control: 122,
  table: 123,
  layers: 124,
};
const PLAN: VmPlan = {
  id: "sb_x",
  machine: { cpu: 1, memoryMib: 512, accel: { kind: "tcg" } },
  start: { kind: "restore", stateFd: 8 },
  memory: { kind: "image", image: { layerFds: [5], tableFd: 4 } },
  disk: { rwFd: 6, roFd: 7 },
  socketDir: "/nowhere",
  jail: {
    uid: 1,
    hostname: "x",
    cgroupFds: [],
    slotFd: 9,
    netnsFd: null,
    deadlineNs: null,
    detached: false,
    exitsPath: null,
  },
};
const PATHS = { binary: "qemu-system-x86_64", data: "{data}" };

async function golden(name: string): Promise<string> {
  return await Bun.file(`${import.meta.dir}/../golden/${name}`).text();
}

test("qemuArgv of a restore is the golden list", async () => {
  expect(`${qemuArgv(PLAN, FDS, PATHS).join("\n")}\n`).toBe(await golden("qemu-restore.argv"));
});

test("qemuArgv of a boot differs from a restore's by the kernel and the shared memory alone", () => {
  const boot: VmPlan = {
    ...PLAN,
    start: { kind: "boot", kernelFd: 1, initrdFd: 2, commandLine: "quiet" },
    memory: { kind: "shared", fd: 5 },
  };
  const restore = qemuArgv(PLAN, FDS, PATHS);
  const booted = qemuArgv(boot, FDS, PATHS);
  const extra = booted.filter((arg) => !restore.includes(arg));
  expect(extra).toEqual([
    "-kernel",
    "/proc/self/fd/120",
    "-initrd",
    "/proc/self/fd/121",
    "-append",
    "quiet",
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
  for (const start of [PLAN.start, { kind: "boot", kernelFd: 1, initrdFd: 2, commandLine: "" } as const]) {
    expect(qemuArgv({ ...PLAN, start }, FDS, PATHS)).toContain("-S");
  }
});
