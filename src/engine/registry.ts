/**
 * What the engine needs in order to be one of several processes of the same home: who has which sandbox, and a free agent
 * port in a sandbox made elsewhere. One implementation on files (`host/home/registry.ts`), one in memory in the fake host.
 */
import type { Egress, Secret } from "../contract/routes/network.ts";
import type { SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { VmRef } from "../driver/driver.ts";
import type { Clone } from "./create/clone.ts";
import type { Live } from "./live.ts";
import { writtenOf } from "./network/policies.ts";
import type { TemplateSize } from "./templates.ts";

/** One running sandbox as its maker wrote it down; plain JSON. */
export interface SandboxRecord {
  readonly id: string;
  readonly account: string;
  readonly info: SandboxInfo;
  readonly ref: VmRef;
  /** Defaults of every exec in it. */
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string | null;
  /** What may leave it; secrets are in the file that only root can read. */
  readonly egress: Egress;
  readonly secrets: readonly Secret[];
  /** The template whose RAM is under its memory; null when another process could not open that. */
  readonly base: (TemplateSize & { readonly digest: string }) | null;
  /** Absent from one that an earlier version wrote. */
  readonly time?: RecordTime;
}

/** What another process, a later one too, needs to go on with its bill. On the monotonic clock of the boot that `ref` names. */
export interface RecordTime {
  /** Added to that clock, its own axis (`Live.axisMs`). */
  readonly axisMs: number;
  /** When its guest first ran on this machine; null: it has not yet. */
  readonly resumedMs: number | null;
  /** Since when it is in the state that `info` tells. */
  readonly movedMs: number;
  /** The end of its lifetime. */
  readonly endsMs: number | null;
  /** CPU time that its VMM had used when its guest began to run; null where the host does not tell. */
  readonly cpuBeforeMs: number | null;
}

/** What the home's other processes are told of a sandbox. */
export function recordOf(live: Live, { vmm, origin }: Pick<Clone, "vmm" | "origin">): SandboxRecord {
  const { id, account, info, spec } = live;
  const { env, workdir } = spec;
  const { axisMs, endsMs, movedMs, cpuBeforeMs, body } = live;
  const time = { axisMs, endsMs, movedMs, cpuBeforeMs, resumedMs: body?.resumedMs ?? null };
  return { id, account, info, ref: vmm.ref, env, workdir, ...writtenOf(live.policy), base: origin.base ?? null, time };
}

/** An agent port that this process alone has until it gives it back or ends. */
export interface PortClaim {
  readonly index: number;
  release(): void;
}

export interface Registry {
  /** Writes or replaces the record, whole or not at all. */
  put(record: SandboxRecord): Promise<void>;
  /** Forgets it, and frees what a VMM that is gone left of its lease when nobody else will; unknown ids are fine. */
  remove(id: string): Promise<void>;
  /** Null when unknown, or when its VMM is gone (a stale record is then removed). */
  get(id: string): Promise<SandboxRecord | null>;
  /** Every sandbox of the home whose VMM lives; stale records are removed on the way. */
  list(): Promise<SandboxRecord[]>;
  /** The lowest free port of 1 … `LIMITS.agentPorts` − 1 (0 is the maker's); null when all are taken. */
  claimPort(id: string): Promise<PortClaim | null>;
}
