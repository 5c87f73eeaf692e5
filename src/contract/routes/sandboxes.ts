/** Sandboxes: made, looked up, listed, closed. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import type { Contract } from "../route.ts";
import { Egress, EgressAllowlist, Secrets } from "./network.ts";
import { AttachedVolume, VolumeMount } from "./volumes.ts";

export const SandboxState = Type.Union([
  Type.Literal("creating"),
  Type.Literal("running"),
  /** Its processes stand still; its memory stays where it is. */
  Type.Literal("paused"),
  /** Memory and disk are an image on the host's disk; any call wakes it. */
  Type.Literal("hibernated"),
  Type.Literal("stopping"),
  Type.Literal("deleted"),
  Type.Literal("failed"),
]);
export type SandboxState = Static<typeof SandboxState>;

export const TemplateName = Type.String({ pattern: "^[a-z0-9][a-z0-9._-]{0,62}$" });
const Id = Type.String({ minLength: 1, maxLength: 64 });
export const ById = Type.Object({ id: Id }, { additionalProperties: false });
export const Metadata = Type.Record(
  Type.String({ pattern: "^[^\\u0000]{1,128}$" }),
  Type.String({ maxLength: LIMITS.metadataBytes }),
  { maxProperties: LIMITS.metadataEntries, additionalProperties: false },
);
export const Environment = Type.Record(
  Type.String({ pattern: "^[^=\\u0000]+$" }),
  Type.String({ pattern: "^[^\\u0000]*$" }),
  { additionalProperties: false },
);

/** What becomes of a sandbox that nobody has used for so long: no call and no stream of one under way. */
export const Idle = Type.Object({
  seconds: Type.Number(),
  action: Type.Union([Type.Literal("close"), Type.Literal("hibernate")]),
});
export type Idle = Static<typeof Idle>;

/** What a caller may ask for; everything optional is filled by `resolve` in the engine, so embedded and HTTP agree. */
export const SandboxCreate = Type.Object(
  {
    template: Type.Optional(TemplateName),
    /** Id or name of a snapshot to restore instead of a template; template and size are then the snapshot's. */
    snapshot: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    /** vCPUs. */
    cpu: Type.Optional(Type.Integer({ minimum: 1, maximum: LIMITS.cpuMax })),
    /** MiB of guest RAM. */
    memoryMb: Type.Optional(Type.Integer({ minimum: LIMITS.memoryMibMin, maximum: LIMITS.memoryMibMax })),
    /** Wall-clock self-destruct, seconds from the create; none by default for a sandbox that dies with its process. */
    ttlSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.ttlSecondsMax })),
    /** After so long without a call or a stream under way `idleAction` is done; what runs in the guest by itself is no use. */
    idleSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.ttlSecondsMax })),
    /** Default `close`. */
    idleAction: Type.Optional(Idle.properties.action),
    /** Outlives its maker until close or ttl. */
    detached: Type.Optional(Type.Boolean()),
    metadata: Type.Optional(Metadata),
    /** Defaults of every exec in this sandbox. */
    env: Type.Optional(Environment),
    workdir: Type.Optional(Type.String({ pattern: "^/", maxLength: LIMITS.pathBytes })),
    /** What may leave it. Default: the public internet; of a snapshot, what its sandbox had, which may only be narrowed. */
    egress: Type.Optional(Egress),
    /** The same as `egress` of mode `allowlist` with these entries. */
    egressAllowlist: Type.Optional(EgressAllowlist),
    /** Headers that are set on its requests outside of it. */
    secrets: Type.Optional(Secrets),
    /** Attached before the create returns; when one cannot be, there is no sandbox. */
    volumes: Type.Optional(Type.Array(VolumeMount, { maxItems: LIMITS.volumesPerSandbox })),
  },
  { additionalProperties: false },
);
export type SandboxCreate = Static<typeof SandboxCreate>;

export const SandboxInfo = Type.Object({
  id: Type.String(),
  template: Type.String(),
  cpu: Type.Integer(),
  memoryMb: Type.Integer(),
  state: SandboxState,
  /** Why it is `failed`, or how it ended; for people. */
  reason: Type.Union([Type.String(), Type.Null()]),
  detached: Type.Boolean(),
  metadata: Metadata,
  /** RFC 3339, UTC. */
  createdAt: Type.String(),
  expiresAt: Type.Union([Type.String(), Type.Null()]),
  /** Left out when idleness has no consequence. */
  idle: Type.Optional(Idle),
  /** Milliseconds from admission to the agent's confirmation, and which of the three paths it took. */
  createMs: Type.Number(),
  createPath: Type.Union([Type.Literal("none"), Type.Literal("prepared"), Type.Literal("ready")]),
  /** It has been brought back from disk since; left out when it has not. */
  woken: Type.Optional(Type.Literal(true)),
  /** The sandbox that it was forked from. */
  parentId: Type.Union([Type.String(), Type.Null()]),
  /** The snapshot that it, or what it was forked from, was restored from. */
  snapshotId: Type.Union([Type.String(), Type.Null()]),
  volumes: Type.Array(AttachedVolume),
  /** What may leave it, as it is now. */
  egress: Egress,
  /** Host process that owns it; for `warren ls`. */
  ownerPid: Type.Integer(),
  /** What was granted with a reservation, for people: for instance more vCPUs than the host has cores. */
  notes: Type.Array(Type.String()),
});
export type SandboxInfo = Static<typeof SandboxInfo>;

export const SandboxList = Type.Object(
  {
    state: Type.Optional(SandboxState),
    template: Type.Optional(TemplateName),
    /** Only those that have all of these entries. */
    metadata: Type.Optional(Metadata),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
    /** Only those that come after the one with this cursor ({@link cursorOf}), which may have ended since. */
    after: Type.Optional(Type.String({ pattern: "^[^/]+/[^/]+$", maxLength: 128 })),
  },
  { additionalProperties: false },
);

/** How long a sandbox lives. What is left out stays as it is. */
export const LifecycleChange = Type.Object(
  {
    id: Id,
    /** Wall-clock self-destruct, seconds from now; null takes it away. */
    ttlSeconds: Type.Optional(
      Type.Union([Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.ttlSecondsMax }), Type.Null()]),
    ),
    /** True: it hibernates when it is idle; false: it ends then. */
    persistent: Type.Optional(Type.Boolean()),
    /** Null: idleness has no consequence. */
    idleTimeoutSeconds: Type.Optional(
      Type.Union([Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.ttlSecondsMax }), Type.Null()]),
    ),
  },
  { additionalProperties: false },
);
export type LifecycleChange = Static<typeof LifecycleChange>;

export const LifecycleInfo = Type.Object({
  /** As last asked for; null: no end of its own. */
  ttlSeconds: Type.Union([Type.Number(), Type.Null()]),
  persistent: Type.Boolean(),
  /** Since its last use: no call and no stream of one under way. */
  idleSeconds: Type.Number(),
  idleTimeoutSeconds: Type.Union([Type.Number(), Type.Null()]),
  /** RFC 3339, UTC. */
  expiresAt: Type.Union([Type.String(), Type.Null()]),
});
export type LifecycleInfo = Static<typeof LifecycleInfo>;

/** Of one sandbox now; null where this host or its guest does not tell. */
export const SandboxMetrics = Type.Object({
  /** Milliseconds of CPU time that its VMM has used on the host. */
  hostCpuMs: Type.Union([Type.Number(), Type.Null()]),
  /** Bytes charged to it on the host. */
  hostMemoryBytes: Type.Union([Type.Integer(), Type.Null()]),
  /** Proportional and resident bytes of its VMM process. */
  hostPssBytes: Type.Union([Type.Integer(), Type.Null()]),
  hostRssBytes: Type.Union([Type.Integer(), Type.Null()]),
  /** As its guest says, which may lie. */
  guestCpuMs: Type.Union([Type.Number(), Type.Null()]),
  guestMemoryTotalBytes: Type.Union([Type.Integer(), Type.Null()]),
  guestMemoryAvailableBytes: Type.Union([Type.Integer(), Type.Null()]),
  guestDiskTotalBytes: Type.Union([Type.Integer(), Type.Null()]),
  guestDiskFreeBytes: Type.Union([Type.Integer(), Type.Null()]),
  networkBytesOut: Type.Union([Type.Integer(), Type.Null()]),
  networkBytesIn: Type.Union([Type.Integer(), Type.Null()]),
});
export type SandboxMetrics = Static<typeof SandboxMetrics>;

/** Where a listing goes on after this sandbox. */
export function cursorOf({ createdAt, id }: Pick<SandboxInfo, "createdAt" | "id">): string {
  return `${createdAt}/${id}`;
}

export const sandboxRoutes = {
  create: {
    method: "POST",
    path: "/v1/sandboxes",
    scope: "sandbox:write",
    status: 201,
    says: "Create a sandbox and wait until its agent has confirmed its new identity",
    input: SandboxCreate,
    returns: SandboxInfo,
    errors: [
      "invalid_request",
      "template_not_found",
      "not_found",
      "volume_in_use",
      "capacity_exhausted",
      "queue_full",
      "create_timeout",
      "storage_exhausted",
      "host_unsupported",
      "permission_denied",
      "bake_failed",
      "snapshot_invalid",
      "driver_failed",
      "guest_unresponsive",
      "cancelled",
    ],
  },
  get: {
    method: "GET",
    path: "/v1/sandboxes/:id",
    scope: "sandbox:read",
    says: "Read one sandbox",
    input: ById,
    returns: SandboxInfo,
    errors: ["not_found"],
  },
  list: {
    method: "GET",
    path: "/v1/sandboxes",
    scope: "sandbox:read",
    says: "List sandboxes, newest first; ended ones are remembered a while and told where that state is asked for",
    input: SandboxList,
    returns: Type.Array(SandboxInfo),
    errors: [],
  },
  lifecycle: {
    method: "GET",
    path: "/v1/sandboxes/:id/lifecycle",
    scope: "sandbox:read",
    says: "Read when a sandbox ends by itself",
    input: ById,
    returns: LifecycleInfo,
    errors: ["not_found"],
  },
  setLifecycle: {
    method: "PATCH",
    path: "/v1/sandboxes/:id/lifecycle",
    scope: "sandbox:write",
    says: "Change when a sandbox ends by itself",
    input: LifecycleChange,
    returns: LifecycleInfo,
    errors: ["invalid_request", "not_found", "wrong_state", "unsupported", "sandbox_lost", "driver_failed"],
  },
  metrics: {
    method: "GET",
    path: "/v1/sandboxes/:id/metrics",
    scope: "sandbox:read",
    says: "Read what a sandbox uses of its host, and what its guest says of itself",
    input: ById,
    returns: SandboxMetrics,
    errors: ["not_found", "unsupported"],
  },
  close: {
    method: "DELETE",
    path: "/v1/sandboxes/:id",
    scope: "sandbox:write",
    says: "End a sandbox and free all it held; ending it twice is not an error",
    input: ById,
    returns: "nothing",
    errors: ["not_found"],
  },
} as const satisfies Contract;
