/**
 * Plan → QEMU's argument list. Pure and golden-tested: the devices and their order are part of every snapshot, so a change
 * here makes templates bake anew (see `DEVICES`, which the manifest carries).
 */
import { LIMITS } from "../../limits.ts";
import type { VmPlan } from "../driver.ts";

/** Bumped when the device model below changes: a snapshot only fits the machine that it was taken on. */
export const DEVICES = "microvm/2";

/** The same in every namespace, or a restored guest's ARP cache would be wrong. Locally administered. */
export const GUEST_MAC = "02:57:52:00:00:02";
export const TAP_MAC = "02:57:52:00:00:01";
/** Drives without a medium, to be pointed at volumes later: devices cannot be added to a snapshot. */
export const PLACEHOLDER_DRIVES = 4;

/** Where each descriptor lands in the VMM process; `spawn` and the arguments agree through this. */
export interface FdNumbers {
  readonly qmp: number;
  readonly agents: readonly number[];
  /** Where the host asks the library in ffi/preload. */
  readonly control: number;
  readonly memory: number;
  readonly diskRw: number;
  readonly diskRo: number;
  /** Device state to restore. */
  readonly state: number;
  /** Nothing, until a device state is to be written: the file is then put in this place. */
  readonly saved: number;
  /** Nothing, until a volume is attached. */
  readonly volumes: readonly number[];
  /** Of a boot; else -1. */
  readonly kernel: number;
  readonly initrd: number;
  /** Of a restore; else -1. The image's table, and its second layer, where the third follows. */
  readonly table: number;
  readonly layers: number;
  readonly tap: number;
}

/** Descriptor sets: the root disk, the file that a device state is saved to, and from 3 on one for each placeholder drive. */
const DISK_SET = 1;
export const SAVED_SET = 2;
export const FIRST_VOLUME_SET = 3;
export function fdsetPath(set: number): string {
  return `/dev/fdset/${set}`;
}

/** Paths as the jailed VMM sees them. */
export interface VmmPaths {
  readonly binary: string;
  readonly data: string;
}

function machineArgs({ machine, start }: VmPlan, fds: FdNumbers): string[] {
  const { cpu, memoryMib, accel } = machine;
  // rtc: without it the kernel polls an absent clock for 2 s at boot (measured). pic: nothing uses it.
  const type =
    "microvm,acpi=on,pic=off,pit=on,rtc=on,pcie=off,usb=off,isa-serial=off,mem-merge=off,suppress-vmdesc=on,memory-backend=mem";
  // erms, fsrm: a guest that sees them copies by `rep movsb`, which TCG emulates byte by byte (second exec 32 → 27 ms).
  const speed =
    accel.kind === "tcg"
      ? ["-accel", "tcg,thread=multi,tb-size=64", "-cpu", "max,-erms,-fsrm"]
      : ["-accel", "kvm", "-cpu", "host"];
  const boot =
    start.kind === "boot"
      ? ["-kernel", proc(fds.kernel), "-initrd", proc(fds.initrd), "-append", start.commandLine]
      : [];
  const incoming = start.kind === "restore" ? ["-incoming", "defer"] : [];
  return ["-M", type, ...speed, "-smp", String(cpu), "-m", `${memoryMib}M`, ...boot, ...incoming, "-S"];
}

function proc(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

function memoryArgs({ machine, memory }: VmPlan, fds: FdNumbers): string[] {
  // No reserve=off: QEMU asks /proc/sys for it, which the jail does not show; under heuristic overcommit it changes nothing.
  const mode = memory.kind === "shared" ? "share=on" : "share=off";
  return ["-object", `memory-backend-file,id=mem,mem-path=${proc(fds.memory)},size=${machine.memoryMib}M,${mode}`];
}

function diskArgs(fds: FdNumbers): string[] {
  // werror: QEMU would stop the whole guest when the host's disk is full; what runs in it is to be told instead.
  // The set holds the disk twice: QEMU opens an incoming disk read-only before it opens it to write.
  const root = [
    ...["-add-fd", `set=${DISK_SET},fd=${fds.diskRw}`, "-add-fd", `set=${DISK_SET},fd=${fds.diskRo}`],
    ...[
      "-drive",
      "if=none,id=root,file=/dev/fdset/1,format=raw,cache=unsafe,aio=threads,discard=unmap,file.locking=off,werror=report,rerror=report",
    ],
    ...["-device", "virtio-blk-device,drive=root,serial=root"],
  ];
  const placeholders = Array.from({ length: PLACEHOLDER_DRIVES }, (_, i) => [
    ...["-blockdev", `driver=null-co,node-name=v${i}f,size=512,read-zeroes=on`],
    ...["-blockdev", `driver=raw,node-name=v${i},file=v${i}f`],
    ...["-device", `virtio-blk-device,drive=v${i},serial=volume${i},share-rw=on,werror=report`],
  ]).flat();
  const sets = [
    ...["-add-fd", `set=${SAVED_SET},fd=${fds.saved}`],
    ...fds.volumes.flatMap((fd, i) => ["-add-fd", `set=${FIRST_VOLUME_SET + i},fd=${fd}`]),
  ];
  return [...root, ...placeholders, ...sets];
}

function channelArgs(fds: FdNumbers): string[] {
  const ports = fds.agents.flatMap((fd, i) => [
    ...["-chardev", `socket,id=a${i},fd=${fd},server=on,wait=off`],
    ...["-device", `virtserialport,chardev=a${i},name=agent${i}`],
  ]);
  return [
    ...["-chardev", `socket,id=q,fd=${fds.qmp},server=on,wait=off`, "-mon", "chardev=q,mode=control"],
    // QEMU forgets descriptor sets when its last monitor hangs up, and a detached VMM's maker does: this one never does.
    ...["-chardev", "ringbuf,id=k,size=4096", "-mon", "chardev=k,mode=control"],
    ...["-device", `virtio-serial-device,max_ports=${LIMITS.agentPorts + 1}`, ...ports],
  ];
}

function restArgs(fds: FdNumbers): string[] {
  return [
    ...[
      "-netdev",
      `tap,id=n0,fd=${fds.tap},vhost=off`,
      "-device",
      // guest_announce: a restored guest would send ARP announcements; every clone's neighbours are the same anyway.
      `virtio-net-device,id=net0,netdev=n0,mac=${GUEST_MAC},guest_announce=off`,
    ],
    ...["-device", "virtio-balloon-device,id=balloon,free-page-reporting=on,deflate-on-oom=on"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
  ];
}

/** The argument list, program first. */
export function qemuArgv(plan: VmPlan, fds: FdNumbers, paths: VmmPaths): string[] {
  return [
    ...[paths.binary, "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-L", paths.data],
    ...machineArgs(plan, fds),
    // The state holds devices alone, RAM being mapped: no section says which capabilities it was written with.
    ...["-global", "migration.send-configuration=off"],
    // A restored machine would announce itself on its link, five times; its one neighbour knows it for good.
    ...["-global", "migration.announce-rounds=0"],
    ...memoryArgs(plan, fds),
    ...channelArgs(fds),
    ...diskArgs(fds),
    ...restArgs(fds),
  ];
}
