/**
 * The road of one clone: lease → VMM process → state loaded → guest runs → agent answers. Each step registers its undo in
 * the line after it succeeds, on the clone's own stack; whoever holds the clone holds that stack and disposes it once.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Driver, VmExit, Vmm } from "../../driver/driver.ts";
import type { Policy } from "../../egress/policy.ts";
import { isWarrenError, WarrenError } from "../../errors.ts";
import { GuestAgent } from "../../guest/agent.ts";
import type { Host, Lease } from "../../host/host.ts";
import type { Networks } from "../network/networks.ts";
import { newIdentity, vmPlan } from "../plan.ts";
import type { OpenTemplate } from "../templates.ts";

export interface CloneParts {
  readonly driver: Driver;
  readonly host: Host;
  readonly clock: Clock;
  readonly log: Log;
  /** False only for the control run that shows what reseeding is for. */
  readonly reseed: boolean;
}

/** And what makes a sandbox of a clone. */
export interface SandboxParts extends CloneParts {
  readonly networks: Networks;
}

/** A VMM process waiting for its state; no guest memory, no tenant data. */
export interface Clone {
  readonly id: string;
  readonly lease: Lease;
  readonly vmm: Vmm;
  /** What it was restored from. */
  readonly origin: OpenTemplate;
  /** What may leave it by the home's keeper already, before it has a user; null: nothing, and the keeper does not know of it. */
  readonly ahead: Policy | null;
  readonly undo: AsyncDisposableStack;
}

/** A clone whose agent has answered. It still has the identity of the snapshot. */
export interface AwakeClone extends Clone {
  readonly agent: GuestAgent;
  /** Monotonic clock when the VMM said that the guest runs. */
  readonly resumedMs: number;
}

/** When a VMM ends by itself, at the latest. */
export interface Life {
  readonly deadlineNs: bigint | null;
  readonly detached: boolean;
}

/** Leases what a clone stands on and starts its VMM. When it throws, all that `undo` held is given back. */
export async function prepareClone(
  parts: CloneParts,
  id: string,
  template: OpenTemplate,
  life: Life,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Clone> {
  try {
    const { cpu, memoryMib } = template.size;
    const ask = { id, cpu, memoryMib, snapshot: template.snapshot, detached: life.detached };
    undo.defer(template.hold());
    const lease = undo.use(await parts.host.lease(ask));
    signal.throwIfAborted();
    const vmm = await parts.driver.prepare(vmPlan(template, lease, life), signal);
    undo.defer(() => vmm.kill());
    lease.handedOver();
    return { id, lease, vmm, origin: template, ahead: null, undo };
  } catch (cause) {
    await undoAll(undo, parts.log, id);
    throw cause;
  }
}

/**
 * Restores a prepared clone and waits for its agent; `beforeRun` is called in between, when there is no way back. The caller
 * disposes `clone.undo` when it throws.
 */
export async function wakeClone(
  parts: CloneParts,
  clone: Clone,
  signal: AbortSignal,
  beforeRun?: () => Promise<void>,
): Promise<AwakeClone> {
  const alive = whileRunning(clone.vmm, signal);
  await clone.vmm.load(alive);
  await beforeRun?.();
  await clone.vmm.resume(alive);
  const resumedMs = parts.clock.monotonicMs();
  const link = await clone.vmm.connect(0, alive);
  clone.undo.defer(() => link.close());
  const agent = await GuestAgent.connect(link, { clock: parts.clock, signal: alive });
  clone.undo.defer(() => agent.close());
  return { ...clone, agent, resumedMs };
}

/** Makes an awake clone a machine of its own; only after this may a user's byte run in it. */
export async function identify(parts: CloneParts, clone: AwakeClone, signal: AbortSignal): Promise<void> {
  const identity = newIdentity(clone.id, parts.clock.wallMs(), parts.reseed);
  await clone.agent.identity(identity, whileRunning(clone.vmm, signal));
}

/** Aborts with `signal`, and when the VMM ends. */
export function whileRunning(vmm: Vmm, signal: AbortSignal): AbortSignal {
  const gone = new AbortController();
  void vmm.exited.then((exit) => gone.abort(endedTooEarly(exit)));
  return AbortSignal.any([signal, gone.signal]);
}

export function endedTooEarly(exit: VmExit): WarrenError {
  return new WarrenError("driver_failed", `the VMM ended too early: ${describeExit(exit)}`);
}

/** Why a VMM is gone, for people; holds no byte that a guest chose. */
export function describeExit(exit: VmExit): string {
  switch (exit.reason) {
    case "deadline":
      return "its time to live ran out";
    case "owner_gone":
      return "the process that owned it ended";
    case "killed":
      return "it was killed from outside";
    case "vmm_exit":
      return exit.signal === null ? `its VMM exited with ${exit.code}` : `its VMM was ended by signal ${exit.signal}`;
    case "unknown":
      return "its VMM is gone for an unknown reason";
  }
}

/** Runs every undo; a failing one is reported as what it is, a leak, and does not stop the others. */
export async function undoAll(undo: AsyncDisposableStack, log: Log, id: string): Promise<void> {
  try {
    await undo.disposeAsync();
  } catch (cause) {
    log.error("a sandbox could not give back all it held", { id, cause: String(cause) });
  }
}

/** Any failure as the one error class; a cause that is none of ours is a driver's or host's defect. */
export function asWarrenError(cause: unknown, says: string): WarrenError {
  if (isWarrenError(cause)) return cause;
  return new WarrenError("driver_failed", says, { cause });
}
