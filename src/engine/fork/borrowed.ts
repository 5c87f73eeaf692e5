/**
 * A sandbox that another process made, for one job here that concerns it as a whole: fork, snapshot, pause, hibernation. Its
 * machine is reached through the register; what it has changed is taken since its template, as nobody here knows what its
 * maker has captured of it in between.
 */

import { WarrenError } from "../../errors.ts";
import type { SandboxParts } from "../create/clone.ts";
import { type AwakeClone, undoAll } from "../create/clone.ts";
import { Live } from "../live.ts";
import type { Neighbours } from "../neighbours.ts";
import { type NetworkFacts, restored } from "../network/policies.ts";
import type { SandboxSpec } from "../plan.ts";
import type { SandboxRecord } from "../registry.ts";
import type { OpenTemplate, TemplateStore } from "../templates.ts";

export interface BorrowParts extends Pick<SandboxParts, "driver" | "host" | "log" | "networks"> {
  readonly templates: TemplateStore;
}

/**
 * Runs `job` on it. @throws {WarrenError} `unsupported` – its template has been baked anew since; `wrong_state`, `sandbox_lost`
 */
export async function borrow<T>(
  parts: BorrowParts,
  neighbours: Neighbours,
  record: SandboxRecord,
  job: (live: Live) => Promise<T>,
): Promise<T> {
  const origin = await baseOf(parts.templates, record);
  const { vmm, agent } = await reached(parts, neighbours, record);
  const undo = new AsyncDisposableStack();
  try {
    const roFd = parts.host.diskOf(record.ref);
    undo.defer(() => parts.host.close(roFd));
    const live = new Live(record.account, specOf(record, parts.networks.facts), record.info);
    const { id } = record;
    // Of its lease only the disk is ours to use; the rest is its maker's, or the sweep's when that has ended.
    const lease = { id, disk: { rwFd: -1, roFd }, carry: (_bytes: number) => undefined } as AwakeClone["lease"];
    live.body = { id, lease, vmm, agent, origin, ahead: null, undo, resumedMs: record.time?.resumedMs ?? 0 };
    Object.assign(live, timeOf(record));
    live.layers = origin.snapshot.layers;
    live.borrowed = true;
    return await job(live);
  } finally {
    await undoAll(undo, parts.log, record.id);
  }
}

/** What it goes on with is what it has had. */
function timeOf({ time }: SandboxRecord): Partial<Live> {
  if (time === undefined) return {};
  const { axisMs, movedMs, endsMs, cpuBeforeMs } = time;
  return { axisMs, movedMs, endsMs, cpuBeforeMs };
}

/** Nobody speaks to the agent of a paused guest, which would not answer: there is none of it then. */
async function reached(
  { driver }: BorrowParts,
  neighbours: Neighbours,
  record: SandboxRecord,
): Promise<Pick<AwakeClone, "vmm" | "agent">> {
  const contact = neighbours.known(record.id) ?? (record.info.state === "paused" ? null : neighbours.contact(record));
  if (contact !== null) return contact;
  const { id, ref } = record;
  const vmm = await driver.adopt(ref);
  if (vmm === null)
    throw new WarrenError("sandbox_lost", `sandbox ${id} is gone: its VMM has ended`, { details: { id } });
  return { vmm, agent: null as unknown as AwakeClone["agent"] };
}

async function baseOf(templates: TemplateStore, { id, base }: SandboxRecord): Promise<OpenTemplate> {
  const says = `sandbox ${id} was made by another process, from a template that is not here any more: only its maker can do that`;
  if (base === null) throw new WarrenError("unsupported", says, { details: { id } });
  const open = await templates.open(base);
  if (open.digest !== base.digest) throw new WarrenError("unsupported", says, { details: { id, template: base.name } });
  return open;
}

function specOf(record: SandboxRecord, facts: NetworkFacts): SandboxSpec {
  const { info, env, workdir } = record;
  const { template, cpu, memoryMb, metadata, snapshotId } = info;
  const ttlSeconds = info.expiresAt === null ? null : (Date.parse(info.expiresAt) - Date.parse(info.createdAt)) / 1000;
  const idle = info.idle ?? null;
  const policy = restored(record, facts);
  const rest = { ttlSeconds, idle, detached: true, metadata, env, workdir, snapshotId, policy, anyPolicy: false };
  return { template, cpu, memoryMib: memoryMb, ...rest };
}
