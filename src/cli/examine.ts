/**
 * What `warren doctor` finds: each thing that Warren stands on, how it is here, and the remedy. Nothing is changed but what
 * opening a home makes anyway. A row that cannot be looked at says why, and the others are looked at all the same.
 */
import { existsSync } from "node:fs";
import { systemClock } from "../base/clock.ts";
import { openWarren, type Warren } from "../compose.ts";
import type { Config } from "../config.ts";
import { run } from "../host/run.ts";
import { LIMITS } from "../limits.ts";
import { bytes } from "./format.ts";
import type { Finding } from "./ground.ts";

const COMMAND_MS = 10_000;
/** What is run on the host, and the Debian package that has it. */
const COMMANDS: readonly (readonly [command: string, packageName: string, why: string])[] = [
  ["qemu-system-x86_64", "qemu-system-x86", "runs the microVMs"],
  ["mmdebstrap", "mmdebstrap", "builds guests' root file systems"],
  ["mke2fs", "e2fsprogs", "makes disk images"],
  ["mkfs.xfs", "xfsprogs", "makes a file system that can share blocks, where this one cannot"],
  ["gcc", "gcc", "compiles the guest's agent"],
];

type Check = () => Promise<Finding | readonly Finding[]> | Finding | readonly Finding[];

const ok = (name: string, says: string): Finding => ({ name, state: "ok", says, remedy: null });
const bad = (name: string, state: "degraded" | "missing", says: string, remedy: string): Finding => ({
  name,
  state,
  says,
  remedy,
});

function whyOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function rights(): Finding {
  if (process.getuid?.() === 0) return ok("rights", "root");
  return bad(
    "rights",
    "missing",
    "not root",
    "run it with sudo: making namespaces, mounts and control groups needs root",
  );
}

async function commands(): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  for (const [command, packageName, why] of COMMANDS) {
    if (Bun.which(command, { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }) !== null) continue;
    found.push(bad("packages", "missing", `${command} ${why} and is not here`, `apt-get install ${packageName}`));
  }
  if (found.length > 0) return found;
  const version = await run(["qemu-system-x86_64", "--version"], { deadlineMs: COMMAND_MS });
  return [ok("packages", version.stdout.split("\n")[0] ?? "all there")];
}

async function acceleration({ templates }: Warren): Promise<readonly Finding[]> {
  const facts = await templates.acceleration();
  if (facts.kind === "kvm") return [ok("acceleration", "KVM; a probe guest booted")];
  return [
    bad(
      "acceleration",
      "degraded",
      `software emulation (TCG), 10 to 20 times slower: ${facts.says}`,
      "run it where KVM works",
    ),
    ok("isolation", "under TCG, QEMU promises no isolation: here the jail around each VMM is the boundary"),
  ];
}

function reflink({ host }: Warren): Finding {
  const { kind, degraded, home } = host.data;
  if (kind === "copy") {
    const remedy = "put WARREN_HOME on XFS or btrfs, or allow loop devices";
    return bad("reflink", "degraded", `disks are copied whole: ${degraded}`, remedy);
  }
  return ok(
    "reflink",
    kind === "image" ? `through an XFS image mounted below ${home}` : "by the home's own file system",
  );
}

function cgroups({ host }: Warren): readonly Finding[] {
  const { degraded } = host.cgroups;
  if (degraded.length === 0) return [ok("cgroups", "memory, processes and CPU are limited")];
  const remedy = "mount the controllers; without them a sandbox may take more than its share";
  return degraded.map((says) => bad("cgroups", "degraded", says, remedy));
}

/** Guests have no network beyond their own loopback yet; these are what it will need. */
function network(): readonly Finding[] {
  const rows: Finding[] = [];
  if (existsSync("/proc/self/ns/net")) rows.push(ok("netns", "network namespaces"));
  else rows.push(bad("netns", "missing", "this kernel has no network namespaces", "boot a kernel with CONFIG_NET_NS"));
  if (existsSync("/dev/net/tun")) rows.push(ok("tun", "/dev/net/tun"));
  else rows.push(bad("tun", "missing", "there is no /dev/net/tun", "modprobe tun"));
  return rows;
}

async function nftables(): Promise<Finding> {
  if (existsSync("/sys/module/nf_tables") || existsSync("/proc/net/netfilter")) return ok("nftables", "in this kernel");
  const tried = await run(["modprobe", "nf_tables"], { deadlineMs: COMMAND_MS });
  if (tried.exitCode === 0) return ok("nftables", "loaded");
  return bad("nftables", "degraded", "this kernel shows no nf_tables", "modprobe nf_tables; only egress rules need it");
}

function memory({ host }: Warren): Finding {
  const { memoryAvailableMib: free, memoryTotalMib: total, cores } = host.capacity();
  const says = `${free} of ${total} MiB free, ${cores} cores`;
  const needs = LIMITS.hostReserveMib + LIMITS.memoryMibDefault;
  if (free >= needs) return ok("memory", says);
  return bad("memory", "degraded", says, `one sandbox of the default size wants ${needs} MiB free: end something else`);
}

function disk({ host }: Warren): Finding {
  const free = host.capacity().diskFreeBytes;
  const says = `${bytes(free)} free for disks in ${host.data.home}`;
  if (free >= LIMITS.diskReserveBytes) return ok("disk", says);
  return bad("disk", "missing", says, `${bytes(LIMITS.diskReserveBytes)} have to be free where WARREN_HOME is`);
}

async function templates({ sandboxes }: Warren): Promise<readonly Finding[]> {
  return (await sandboxes.templates({})).map(({ name, baked }) => {
    const sizes = baked.map((size) => `${size.cpu} vCPU and ${size.memoryMb} MiB on ${size.accel}`).join("; ");
    return ok(`template ${name}`, sizes === "" ? "not baked yet; the first use does it" : `ready for ${sizes}`);
  });
}

async function guarded(name: string, check: Check, remedy: string): Promise<readonly Finding[]> {
  try {
    const found = await check();
    return "name" in found ? [found] : found;
  } catch (cause) {
    return [bad(name, "missing", whyOf(cause), remedy)];
  }
}

export async function examine(config: Config): Promise<readonly Finding[]> {
  const rows = [
    rights(),
    ...(await guarded("packages", commands, "install QEMU")),
    ...(await guarded("network", network, "see the kernel's configuration")),
    ...(await guarded("nftables", nftables, "modprobe nf_tables")),
  ];
  let warren: Warren;
  try {
    warren = await openWarren({ prepared: 0, clock: systemClock });
  } catch (cause) {
    return [
      ...rows,
      bad("home", "missing", whyOf(cause), `make ${config.home} writable, or name another with WARREN_HOME`),
    ];
  }
  await using _ = warren;
  rows.push(ok("home", config.home));
  for (const [name, check, remedy] of [
    ["reflink", () => reflink(warren), "put WARREN_HOME on XFS or btrfs"],
    ["cgroups", () => cgroups(warren), "mount the controllers"],
    ["memory", () => memory(warren), "see /proc/meminfo"],
    ["disk", () => disk(warren), "free some space"],
    ["acceleration", () => acceleration(warren), "see the row above it first"],
    ["templates", () => templates(warren), "warren templates bake"],
  ] as const) {
    rows.push(...(await guarded(name, check as Check, remedy)));
  }
  return rows;
}
