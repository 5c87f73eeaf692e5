/** From what was asked to plain, complete data: the only place where defaults are resolved. Pure. */
import { randomBytes, uuid } from "../base/id.ts";
import type { Idle, SandboxCreate, SandboxInfo } from "../contract/routes/sandboxes.ts";
import type { VmPlan } from "../driver/driver.ts";
import { egressOf, type Policy } from "../egress/policy.ts";
import { WarrenError } from "../errors.ts";
import type { GuestIdentity } from "../guest/agent.ts";
import { TRUST_ENV } from "../guest/trust/trust.ts";
import type { Lease } from "../host/host.ts";
import { createPolicy, type NetworkFacts } from "./network/policies.ts";
import type { SavedSnapshot } from "./snapshots.ts";
import type { OpenTemplate, TemplateSize } from "./templates.ts";

export const DEFAULT_TEMPLATE = "base";

/** A create with nothing left open. */
export interface SandboxSpec {
  readonly template: string;
  /** Restored from this snapshot, not from the template. */
  readonly snapshotId: string | null;
  readonly cpu: number;
  readonly memoryMib: number;
  readonly ttlSeconds: number | null;
  readonly idle: Idle | null;
  readonly detached: boolean;
  readonly metadata: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string | null;
  /** What may leave it when it begins; `anyPolicy` when nobody said so, and a host without networks may give it none. */
  readonly policy: Policy;
  readonly anyPolicy: boolean;
}

type SizeOf = (template: string) => { readonly cpu: number; readonly memoryMib: number };

/**
 * Fills what a create left open; `sizeOf` knows each template's own size. A snapshot decides over template and size.
 * @throws {WarrenError} `invalid_request` – another size than the snapshot's
 */
export function resolve(
  input: SandboxCreate,
  sizeOf: SizeOf,
  saved: SavedSnapshot | null,
  network: NetworkFacts,
): SandboxSpec {
  const template = saved?.meta.template ?? input.template ?? DEFAULT_TEMPLATE;
  const size = saved?.size ?? sizeOf(template);
  if (saved !== null) {
    refuseOther("cpu", input.cpu, size.cpu);
    refuseOther("memoryMb", input.memoryMb, size.memoryMib);
  }
  const policy = createPolicy(input, saved?.meta ?? null, network);
  return {
    template,
    snapshotId: saved?.meta.id ?? null,
    cpu: input.cpu ?? size.cpu,
    memoryMib: input.memoryMb ?? size.memoryMib,
    ttlSeconds: input.ttlSeconds ?? null,
    idle: idleOf(input),
    detached: input.detached ?? false,
    metadata: input.metadata ?? {},
    // Where a secret is set, TLS ends at this host: its programs have to believe the certificate that they are shown.
    env: { ...(policy.secrets.length > 0 && TRUST_ENV), ...saved?.meta.env, ...input.env },
    workdir: input.workdir ?? saved?.meta.workdir ?? null,
    policy,
    anyPolicy:
      saved === null &&
      input.egress === undefined &&
      input.egressAllowlist === undefined &&
      policy.secrets.length === 0,
  };
}

function idleOf({ idleSeconds: seconds, idleAction }: SandboxCreate): Idle | null {
  if (seconds !== undefined) return { seconds, action: idleAction ?? "close" };
  if (idleAction === undefined) return null;
  const says = "idleAction: after how long is said by idleSeconds, which is missing";
  throw new WarrenError("invalid_request", says, { details: { field: "idleAction", got: idleAction } });
}

function refuseOther(field: string, got: number | undefined, allowed: number): void {
  if (got === undefined || got === allowed) return;
  throw new WarrenError("invalid_request", `${field}: got ${got}, allowed is the snapshot's own ${allowed}`, {
    details: { field, got, allowed },
  });
}

export function sizeOf(spec: SandboxSpec): TemplateSize {
  return { name: spec.template, cpu: spec.cpu, memoryMib: spec.memoryMib };
}

/** Granted, but not quite as it sounds. */
export function notesOn(spec: SandboxSpec, cores: number): string[] {
  if (spec.cpu <= cores) return [];
  return [`${spec.cpu} vCPUs share the host's ${cores} core${cores === 1 ? "" : "s"}`];
}

/** The VMM process for one clone of a template, on what was leased for it. */
export function vmPlan(
  template: OpenTemplate,
  lease: Lease,
  life: { readonly deadlineNs: bigint | null; readonly detached: boolean },
): VmPlan {
  return {
    id: lease.id,
    machine: template.machine,
    start: { kind: "restore", stateFd: lease.stateFd },
    memory: { kind: "image", image: template.snapshot.memory },
    disk: lease.disk,
    socketDir: lease.socketDir,
    jail: { ...lease.jail, hostname: hostname(lease.id), ...life },
  };
}

/** An id as a host name, where `_` is not allowed. */
export function hostname(id: string): string {
  return id.replaceAll("_", "-");
}

/** What makes a clone another machine than its siblings; new at every call. */
export function newIdentity(id: string, wallMs: number, reseed: boolean): GuestIdentity {
  return {
    entropy: randomBytes(64),
    wallNs: BigInt(Math.round(wallMs * 1000)) * 1000n,
    hostname: hostname(id),
    bootId: uuid(),
    machineId: uuid().replaceAll("-", ""),
    reseed,
  };
}

/** The first info of a sandbox. Times are filled as they become known. */
export function newInfo(
  id: string,
  spec: SandboxSpec,
  at: {
    readonly wallMs: number;
    readonly cores: number;
    readonly ownerPid: number;
    readonly path: SandboxInfo["createPath"];
    readonly parentId: string | null;
  },
): SandboxInfo {
  return {
    id,
    template: spec.template,
    cpu: spec.cpu,
    memoryMb: spec.memoryMib,
    state: "creating",
    reason: null,
    detached: spec.detached,
    metadata: { ...spec.metadata },
    createdAt: new Date(at.wallMs).toISOString(),
    expiresAt: spec.ttlSeconds === null ? null : new Date(at.wallMs + spec.ttlSeconds * 1000).toISOString(),
    ...(spec.idle && { idle: spec.idle }),
    createMs: 0,
    createPath: at.path,
    parentId: at.parentId,
    snapshotId: spec.snapshotId,
    volumes: [],
    egress: egressOf(spec.policy),
    ownerPid: at.ownerPid,
    notes: notesOn(spec, at.cores),
  };
}
