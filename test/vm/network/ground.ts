/** What the network tests of real guests stand on: sandboxes whose names are asked of the test's internet, and the probe that runs in them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Warren } from "../../../src/compose.ts";
import type { Egress } from "../../../src/contract/routes/network.ts";
import { type SlotAddresses, slotAddresses } from "../../../src/host/net/plan.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { NAME_SERVER } from "../../harness/internet.ts";
import { openTestWarren } from "../../harness/vm.ts";
import type { Target } from "./destinations.ts";

export type Outcome =
  | { readonly reached: string; readonly ms: number }
  | { readonly refused: string; readonly ms: number }
  | { readonly silent: true; readonly ms: number };

const PROBE = readFileSync(join(import.meta.dir, "probe.py"), "utf8");
/** Emulated guests, two cores: what is refused is so within a few tens of milliseconds, what answers too. */
const PROBE_SECONDS = 3;

export function openNetworkWarren(): Promise<Warren> {
  return openTestWarren({ networkReserve: LIMITS.networkReserve, config: { dns: NAME_SERVER } });
}

export function create(warren: Warren, egress: Egress): Promise<Sandbox> {
  return Sandbox.create({ template: "base", ttlSeconds: 300, egress }, warren.sandboxes);
}

/** More than the default, since a probe tries everything at once. */
export const FAST = { newConnectionsPerSecond: 10_000 } as const;

/** Runs Python in a guest and gives what it printed. @throws with its traceback */
export async function python(sandbox: Sandbox, code: string, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await sandbox.python(code, { args, timeoutSeconds: 60 });
  if (exitCode !== 0) throw new Error(`exit ${exitCode}: ${stderr}`);
  return stdout;
}

/** Tries all targets at once; how each ended, by its id. */
export async function probe(
  sandbox: Sandbox,
  targets: readonly Target[],
  seconds = PROBE_SECONDS,
): Promise<ReadonlyMap<string, Outcome>> {
  const plain = targets.map(({ id, kind, address, port }) => ({ id, kind, address, port }));
  const said = await python(sandbox, PROBE, JSON.stringify({ targets: plain, seconds }));
  return new Map(Object.entries(JSON.parse(said) as Record<string, Outcome>));
}

/** Ids of what was reached, sorted. */
export function reached(outcomes: ReadonlyMap<string, Outcome>): string[] {
  return [...outcomes].flatMap(([id, outcome]) => ("reached" in outcome ? [id] : [])).sort();
}

interface Process {
  readonly pid: number;
  readonly name: string;
  readonly parent: number;
  readonly uid: number;
}

function processOf(pid: number): Process | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const field = (name: string) => new RegExp(`^${name}:\\t(\\S*)`, "m").exec(status)?.[1] ?? "";
    return { pid, name: field("Name"), parent: Number(field("PPid")), uid: Number(field("Uid")) };
  } catch {
    return null; // it ended meanwhile
  }
}

export interface Machine {
  readonly vmm: number;
  readonly slot: SlotAddresses;
}

/** The VMMs that this process has started, below the first process of a jail each, and where their networks are. */
export function machines(): Machine[] {
  return readdirSync("/proc").flatMap((entry) => {
    const found = /^\d+$/.test(entry) ? processOf(Number(entry)) : null;
    if (found?.name !== "qemu" || processOf(found.parent)?.parent !== process.pid) return [];
    return [{ vmm: found.pid, slot: slotAddresses((found.uid - LIMITS.slotUidBase) / 2) }];
  });
}

/** A sandbox, and the machine that it is; for creates one at a time. */
export async function createWithMachine(warren: Warren, egress: Egress): Promise<[Sandbox, Machine]> {
  const before = new Set(machines().map(({ vmm }) => vmm));
  const sandbox = await create(warren, egress);
  const machine = machines().find(({ vmm }) => !before.has(vmm));
  if (machine === undefined) throw new Error("the new sandbox has no VMM");
  return [sandbox, machine];
}
