/**
 * What this machine can do, for doctor: each row says how it is and what to do about it. Where it can be tried it is tried:
 * a real jail is made, a block is really shared. Acceleration is found out by booting a guest, elsewhere.
 */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, release } from "node:os";
import { C } from "../../ffi/layout.ts";
import { canOpenNetlink } from "../../ffi/sockets.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { readCapacity } from "./capacity.ts";
import type { Data } from "./home/data.ts";
import { type JailProbe, probeJail } from "./jail/jail-probe.ts";
import type { LinuxHost } from "./linux.ts";
import { networkFacts } from "./net/doctor.ts";
import { COMMAND_ENV } from "./run.ts";
import type { Cgroups } from "./slots/cgroups.ts";

export interface Fact {
  readonly name: string;
  /** "degraded": it works, and something is weaker or slower than it could be. */
  readonly state: "ok" | "degraded" | "missing";
  readonly says: string;
  /** What to do; null when nothing has to be done. */
  readonly remedy: string | null;
}

/** Commands that setting up and baking run, with the Debian packages that have them. */
const COMMANDS: Readonly<Record<string, string>> = {
  "qemu-system-x86_64": "qemu-system-x86",
  mmdebstrap: "mmdebstrap",
  mke2fs: "e2fsprogs",
  "mkfs.xfs": "xfsprogs",
  xfs_growfs: "xfsprogs",
  gcc: "gcc libc6-dev",
  tar: "tar",
};

function ok(name: string, says: string): Fact {
  return { name, state: "ok", says, remedy: null };
}

/** Bit of a capability in the effective set of this process. */
const CAPABILITIES: Readonly<Record<string, number>> = {
  CAP_CHOWN: 0,
  CAP_KILL: 5,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_SETPCAP: 8,
  CAP_NET_ADMIN: 12,
  CAP_SYS_ADMIN: 21,
};

function rights(): Fact {
  if (process.getuid?.() !== 0) {
    return { name: "rights", state: "missing", says: "not root", remedy: "run as root, for instance with sudo" };
  }
  const text = /^CapEff:\t([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const lacking = Object.entries(CAPABILITIES).filter(([, bit]) => ((BigInt(`0x${text}`) >> BigInt(bit)) & 1n) === 0n);
  if (lacking.length === 0) return ok("rights", "root");
  const names = lacking.map(([name]) => name).join(", ");
  return {
    name: "rights",
    state: "missing",
    says: `root without ${names}`,
    remedy: "in a container: start it with --privileged",
  };
}

function jail(probe: JailProbe): Fact {
  if (probe.kind === "failed") {
    return {
      name: "jail",
      state: "missing",
      says: `a jail cannot be made: ${probe.why}`,
      remedy: "needs Linux 5.11 or newer, root, and the right to make namespaces; in a container: --privileged",
    };
  }
  if (!probe.sealedExec) {
    return {
      name: "jail",
      state: "degraded",
      says: "works; this host refuses page 0 even to root, so only QEMU's own filter keeps it from starting programs",
      remedy: "allow CAP_SYS_RAWIO to root (SELinux: setsebool mmap_low_allowed 1)",
    };
  }
  const least = Number(readFileSync("/proc/sys/vm/mmap_min_addr", "utf8"));
  if (least < 4096) {
    return {
      name: "jail",
      state: "degraded",
      says: "works; page 0 may be mapped by anyone",
      remedy: "sysctl -w vm.mmap_min_addr=65536",
    };
  }
  return ok("jail", `own namespaces, uid and filter, made in ${probe.tookMs.toFixed(1)} ms (Linux ${release()})`);
}

/** Exact bills after a crash need it; without it they end at the last proof of life. */
function exits(probe: JailProbe): Fact {
  if (probe.kind === "works" && probe.exitsMissing === null) {
    return ok("exits", "the kernel writes down when each VMM ends, whoever is there to see it");
  }
  return {
    name: "exits",
    state: "degraded",
    says: `the kernel does not write down when a VMM ends: ${probe.kind === "works" ? probe.exitsMissing : probe.why}; after a crash sandboxes are billed to their last proof of life`,
    remedy: "needs CAP_SYS_PACCT, CONFIG_BSD_PROCESS_ACCT_V3, and 4 % free on the home's disk (/proc/sys/kernel/acct)",
  };
}

function tun(probe: JailProbe): Fact {
  if (probe.kind === "works" && probe.tap) return ok("tun", "a tap in a network namespace of its own");
  const remedy = existsSync("/dev/net/tun")
    ? "grant CAP_NET_ADMIN"
    : "modprobe tun; in a container: --device /dev/net/tun";
  return {
    name: "tun",
    state: "missing",
    says: `no tap can be made: ${probe.kind === "works" ? probe.tapWhy : probe.why}`,
    remedy,
  };
}

function netns(probe: JailProbe): Fact {
  if (probe.kind === "works") return ok("netns", "every sandbox has a network namespace of its own");
  const remedy = "use a kernel with CONFIG_NET_NS; raise user.max_net_namespaces; in a container: --privileged";
  return { name: "netns", state: "missing", says: probe.why, remedy };
}

function nftables(): Fact {
  if (canOpenNetlink(C.NETLINK_NETFILTER)) return ok("nftables", "the kernel takes rules over netlink");
  return {
    name: "nftables",
    state: "degraded",
    says: "no netfilter netlink: sandboxes cannot be given a network",
    remedy: "modprobe nf_tables, or use a kernel with CONFIG_NF_TABLES",
  };
}

function reflink(data: Data): Fact {
  if (data.kind === "reflink") return ok("reflink", `${data.home} shares blocks between files`);
  if (data.kind === "image") return ok("reflink", `by an XFS image on a loop device, at ${data.dir}`);
  return {
    name: "reflink",
    state: "degraded",
    says: `disks are copied for every sandbox: ${data.degraded ?? "no reflinks"}`,
    remedy: "put WARREN_HOME on XFS or btrfs, or allow loop devices and install xfsprogs",
  };
}

function cgroups({ kinds, degraded }: Cgroups): Fact {
  const shown = `memory ${kinds.memory}, pids ${kinds.pids}, cpu ${kinds.cpu}`;
  if (degraded.length === 0) return ok("cgroups", shown);
  const remedy =
    "mount /sys/fs/cgroup writable with these controllers; under systemd: Delegate=yes; in a container: --privileged --cgroupns=host";
  return { name: "cgroups", state: "degraded", says: `${shown}; ${degraded.join("; ")}`, remedy };
}

function memory(freeBytes: number): Fact {
  const { memoryTotalMib, memoryAvailableMib, memoryPressure } = readCapacity(freeBytes);
  const pressure = memoryPressure === null ? "" : `, pressure ${memoryPressure} %`;
  const says = `${memoryAvailableMib} MiB free of ${memoryTotalMib} MiB${pressure}; ${availableParallelism()} cores`;
  const need = LIMITS.hostReserveMib + LIMITS.memoryMibDefault + LIMITS.vmmOverheadMib;
  if (memoryAvailableMib < need) {
    return { name: "memory", state: "missing", says, remedy: `a template is baked with ${need} MiB free at least` };
  }
  return ok("memory", says);
}

function disk(data: Data): Fact {
  const mib = Math.floor(data.freeBytes() / 2 ** 20);
  const says = `${mib} MiB free for templates and clones in ${data.home}`;
  if (mib < LIMITS.diskReserveBytes / 2 ** 20) {
    return { name: "disk", state: "missing", says, remedy: "free some space, or set WARREN_HOME to another disk" };
  }
  if (mib < LIMITS.dataLowBytes / 2 ** 20) {
    return { name: "disk", state: "degraded", says, remedy: "a template takes 0.5 to 2 GiB: free some space" };
  }
  return ok("disk", says);
}

/** Descriptors and tasks that a few hundred sandboxes need: 16 and 10 each. */
const ENOUGH = 4096;

function limits(): Fact {
  const own = readFileSync("/proc/self/limits", "utf8");
  const limit = (name: string) => {
    const text = new RegExp(`^${name}\\s+\\S+\\s+(\\S+)`, "m").exec(own)?.[1] ?? "unlimited";
    return text === "unlimited" ? Number.POSITIVE_INFINITY : Number(text);
  };
  const kernel = (path: string) => Number(readFileSync(`/proc/sys/kernel/${path}`, "utf8"));
  const bounds = {
    "open files": [limit("Max open files"), "ulimit -n 65536"],
    processes: [
      Math.min(limit("Max processes"), kernel("pid_max"), kernel("threads-max")),
      "sysctl -w kernel.pid_max=4194304",
    ],
  } as const;
  const shown = Object.entries(bounds)
    .map(([name, [value]]) => `${value} ${name}`)
    .join(", ");
  const low = Object.values(bounds).filter(([value]) => value < ENOUGH);
  if (low.length === 0) return ok("limits", shown);
  return {
    name: "limits",
    state: "degraded",
    says: `${shown}: few for hundreds of sandboxes`,
    remedy: low.map(([, remedy]) => remedy).join("; "),
  };
}

function commands(qemu: string | null): Fact {
  const has = (name: string): boolean => {
    if (name === "qemu-system-x86_64" && qemu !== null) return existsSync(qemu);
    return Bun.which(name, { PATH: COMMAND_ENV["PATH"] ?? "" }) !== null;
  };
  const lacking = Object.keys(COMMANDS).filter((name) => !has(name));
  if (lacking.length === 0) return ok("commands", "all installed");
  const packages = [...new Set(lacking.map((name) => COMMANDS[name]))].join(" ");
  return {
    name: "commands",
    state: "missing",
    says: `not installed: ${lacking.join(", ")}`,
    remedy: `apt-get install ${packages}`,
  };
}

export interface ExamineOptions {
  /** Path of QEMU when it is configured; null to look for it. */
  readonly qemu: string | null;
  readonly signal?: AbortSignal;
}

/**
 * Rows about rights, commands and limits of a machine whose home could not even be opened.
 * @param why what opening it said
 */
export function examineWithoutHome(why: unknown, { qemu }: ExamineOptions): Fact[] {
  const says = why instanceof Error ? why.message : String(why);
  const remedy =
    why instanceof WarrenError && why.code === "permission_denied"
      ? "run as root, for instance with sudo"
      : "set WARREN_HOME to a folder that can be written";
  return [rights(), { name: "home", state: "missing", says, remedy }, nftables(), limits(), commands(qemu)];
}

/** All rows, in an order to read. Makes one jail and one network, for a few milliseconds. */
export async function examineHost(host: LinuxHost, options: ExamineOptions): Promise<Fact[]> {
  const { data, cgroups: groups } = host;
  const probe = await probeJail(data.home);
  return [
    rights(),
    commands(options.qemu),
    jail(probe),
    exits(probe),
    netns(probe),
    tun(probe),
    nftables(),
    ...(await networkFacts(host.probeNetwork())),
    cgroups(groups),
    reflink(data),
    memory(data.freeBytes()),
    disk(data),
    limits(),
  ];
}
