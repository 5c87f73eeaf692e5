/** The typed face of spawn.c: fills its spec, keeps every nested buffer alive over the call, explains a failure by its step. */
import { C } from "./layout.ts";
import { address, callOurs, cText, holding, memory, NativeError } from "./native.ts";
import { SPAWN_SPEC, SPAWN_STEPS } from "./symbols.ts";

export interface SpawnSpec {
  /** A static program; it is run by descriptor, since its path does not exist in `root`. */
  readonly execFd: number;
  readonly argv: readonly string[];
  readonly env: readonly string[];
  /** Index is the number in the child; "tap" is the tap made in its network namespace. */
  readonly fds: readonly (number | "tap")[];
  /** `cgroup.procs` of v1 groups, which it joins first of all. */
  readonly cgroupFds: readonly number[];
  /** Directory of the v2 group that it is born in; null for none. */
  readonly intoCgroupFd: number | null;
  readonly root: string;
  readonly hostname: string;
  /** Names below /dev, without a slash. */
  readonly devices: readonly string[];
  /** Of RLIMIT_* number: soft and hard; a limit already lower stays. */
  readonly rlimits: readonly { readonly resource: number; readonly soft: number; readonly hard: number }[];
  /** `mac` null: it is in `netnsFd` already, and is only opened. */
  readonly tap: { readonly name: string; readonly mac: Uint8Array | null } | null;
  /** The network namespace to be in; null for a new one. */
  readonly netnsFd: number | null;
  /** 0–1000: how much sooner than others the kernel kills it when memory runs out. */
  readonly oomScore: number;
}

const NAMESPACES = C.CLONE_NEWNS | C.CLONE_NEWUTS | C.CLONE_NEWIPC | C.CLONE_NEWPID;

/** Collects the buffers that C reaches through addresses, so that the call can hold them. */
class Arena {
  readonly buffers: Uint8Array[] = [];

  hold(bytes: Uint8Array<ArrayBuffer>): bigint {
    this.buffers.push(bytes);
    return address(bytes);
  }

  /** A `char *[]` ended by 0. */
  texts(list: readonly string[]): bigint {
    const table = memory(8 * (list.length + 1));
    const view = new DataView(table.buffer);
    for (const [i, text] of list.entries()) view.setBigUint64(8 * i, this.hold(cText(text)), true);
    return this.hold(table);
  }

  i32s(list: readonly number[]): bigint {
    const table = memory(4 * Math.max(1, list.length));
    const view = new DataView(table.buffer);
    list.forEach((value, i) => {
      if (!Number.isInteger(value) || value < -1 || value > 0x7fffffff) throw new TypeError(`no descriptor: ${value}`);
      view.setInt32(4 * i, value, true);
    });
    return this.hold(table);
  }

  u64s(list: readonly number[]): bigint {
    const table = memory(8 * Math.max(1, list.length));
    const view = new DataView(table.buffer);
    list.forEach((value, i) => {
      if (!Number.isSafeInteger(value) || value < 0) throw new TypeError(`no limit: ${value}`);
      view.setBigUint64(8 * i, BigInt(value), true);
    });
    return this.hold(table);
  }
}

function fields(spec: SpawnSpec, arena: Arena): Record<(typeof SPAWN_SPEC)[number], bigint> {
  const { tap } = spec;
  if (tap !== null && (!/^[a-z0-9]{1,15}$/.test(tap.name) || (tap.mac?.length ?? 6) !== 6))
    throw new TypeError("no tap");
  for (const d of spec.devices) if (!/^[a-z0-9-]{1,32}$/.test(d)) throw new TypeError(`no device name: ${d}`);
  const mac = memory(6);
  if (tap?.mac) mac.set(tap.mac);
  return {
    namespaces: BigInt(NAMESPACES | (spec.netnsFd === null ? C.CLONE_NEWNET : 0)),
    exec_fd: BigInt(spec.execFd),
    argv: arena.texts(spec.argv),
    envp: arena.texts(spec.env),
    fds: arena.i32s(spec.fds.map((fd) => (fd === "tap" ? -1 : fd))),
    nfds: BigInt(spec.fds.length),
    cgroups: arena.i32s(spec.cgroupFds),
    ncgroups: BigInt(spec.cgroupFds.length),
    root: arena.hold(cText(spec.root)),
    hostname: arena.hold(cText(spec.hostname)),
    devices: arena.texts(spec.devices),
    ndevices: BigInt(spec.devices.length),
    rlimits: arena.u64s(spec.rlimits.flatMap((r) => [r.resource, r.soft, r.hard])),
    nrlimits: BigInt(spec.rlimits.length),
    tap: tap === null ? 0n : arena.hold(cText(tap.name)),
    mac: tap === null || tap.mac === null ? 0n : arena.hold(mac),
    oom_score: BigInt(spec.oomScore),
    into_cgroup: BigInt(spec.intoCgroupFd ?? -1),
    netns: BigInt(spec.netnsFd ?? -1),
    pid: 0n,
    pidfd: -1n,
    step: 0n,
  };
}

/**
 * Starts the program; returns when it runs. Stops this thread for about 1 ms. Main thread only.
 * @throws {NativeError} `spawn.<step>` – nothing is left of it
 */
export function spawn(spec: SpawnSpec): { readonly pid: number; readonly pidfd: number } {
  const arena = new Arena();
  const table = memory(8 * SPAWN_SPEC.length);
  const view = new DataView(table.buffer);
  // SAFETY: every address in the table is of memory that is held until after the call; counts are those of the arrays;
  // the C side reads them only until the child has exec'd, which is before it returns.
  const result = holding(arena.buffers, () => {
    const values = fields(spec, arena);
    for (const [i, name] of SPAWN_SPEC.entries()) view.setBigInt64(8 * i, values[name], true);
    return callOurs("warren_spawn", table);
  });
  const out = (name: (typeof SPAWN_SPEC)[number]) => Number(view.getBigInt64(8 * SPAWN_SPEC.indexOf(name), true));
  if (result < 0) throw new NativeError(`spawn.${SPAWN_STEPS[out("step") - 1] ?? "unknown"}`, -result);
  return { pid: out("pid"), pidfd: out("pidfd") };
}
