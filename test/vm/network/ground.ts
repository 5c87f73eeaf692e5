/** What the network tests of real guests stand on: sandboxes whose names are asked of the test's internet, and the probe that runs in them. */
import { afterAll, beforeAll } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Warren } from "../../../src/compose.ts";
import type { Egress } from "../../../src/contract/routes/network.ts";
import { type SlotAddresses, slotAddresses } from "../../../src/host/net/plan.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { NAME_SERVER } from "../../harness/internet.ts";
import { more, traces } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import type { Target } from "./destinations.ts";

export type Outcome =
  | { readonly reached: string; readonly ms: number }
  | { readonly refused: string; readonly ms: number }
  | { readonly silent: true; readonly ms: number };

const PROBE = readFileSync(join(import.meta.dir, "probe.py"), "utf8");
/** Emulated guests, two cores: whatever answers does so within a few tens of milliseconds. */
const QUIET_SECONDS = 1.5;

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
export async function probe(sandbox: Sandbox, targets: readonly Target[]): Promise<ReadonlyMap<string, Outcome>> {
  const plain = targets.map(({ id, kind, address, port }) => ({ id, kind, address, port }));
  const said = await python(sandbox, PROBE, JSON.stringify({ targets: plain, quiet: QUIET_SECONDS }));
  return new Map(Object.entries(JSON.parse(said) as Record<string, Outcome>));
}

/** Ids of what was reached, sorted. */
export function reached(outcomes: ReadonlyMap<string, Outcome>): string[] {
  return [...outcomes].flatMap(([id, outcome]) => ("reached" in outcome ? [id] : [])).sort();
}

/** Where a sandbox is on this host: a process of its jail, and its slot's network. */
export interface Machine {
  readonly pid: number;
  readonly slot: SlotAddresses;
}

export async function machineOf(warren: Warren, { id }: Sandbox): Promise<Machine> {
  const record = await warren.host.registry.get(id);
  if (record === null) throw new Error(`${id} has no record`);
  const { pid } = record.ref;
  const uid = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  return { pid, slot: slotAddresses(Math.floor((uid - LIMITS.slotUidBase) / 2)) };
}

/** Locks of slots are seen within one network namespace only: whose slot a control group is of cannot be told in this one. */
function ownTraces(): string[] {
  const links = [...readFileSync("/proc/net/dev", "utf8").matchAll(/\bwrn\d+(?=:)/g)].map(([name]) => `link ${name}`);
  return [...traces(TEST_HOME).filter((line) => !line.startsWith("control group ")), ...links];
}

/** For a file of network tests, as `guardLeaks` for others: nothing of it is left, no link and no namespace either. */
export function guardNetworkLeaks(): void {
  let before: readonly string[] = [];
  beforeAll(async () => {
    {
      await using warren = await openNetworkWarren();
      await warren.engine.prepare({ template: "base" });
    }
    before = ownTraces();
  }, VM_BAKE_MS);
  afterAll(async () => {
    let left: readonly string[] = [];
    await until("nothing is left", () => {
      left = more(before, ownTraces());
      return left.length === 0;
    }).catch((cause: unknown) => {
      throw new Error(`left behind: ${left.join(", ")}`, { cause });
    });
  }, VM_TEST_MS);
}
