/** A running sandbox in several: forks with its memory and its disk, trees of them, and standing still. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import type { Contract } from "../route.ts";
import { Egress } from "./network.ts";
import { ById, Metadata, SandboxInfo } from "./sandboxes.ts";

export const Fork = Type.Object(
  {
    id: ById.properties.id,
    /** Children; all of them come to be, or none. */
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: LIMITS.forkChildren })),
    metadata: Type.Optional(Metadata),
    /** Seconds from now; at most what the parent has left, which is the default. */
    ttlSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: LIMITS.ttlSecondsMax })),
    /** Nothing that the parent's does not allow; that is the default. */
    egress: Type.Optional(Egress),
  },
  { additionalProperties: false },
);
export type Fork = Static<typeof Fork>;

export const ForkResult = Type.Object({
  parentId: Type.String(),
  children: Type.Array(SandboxInfo),
  /** Milliseconds for which the parent stood still. */
  pauseMs: Type.Number(),
  /** Bytes of memory that the parent had changed since it was restored or last forked: what the children share with it. */
  changedBytes: Type.Integer(),
});
export type ForkResult = Static<typeof ForkResult>;

export const ForkTreeResult = Type.Composite([ForkResult, Type.Object({ treeId: Type.String() })]);
export type ForkTreeResult = Static<typeof ForkTreeResult>;

export const Promote = Type.Object(
  {
    id: ById.properties.id,
    /** Default: the tree that its own metadata names. */
    treeId: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    /** Ends every other child of the tree. */
    cleanupSiblings: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);
export type Promote = Static<typeof Promote>;

export const PromoteResult = Type.Object({
  winner: Type.String(),
  treeId: Type.Union([Type.String(), Type.Null()]),
  /** Siblings that were ended. */
  deleted: Type.Array(Type.String()),
  /** Those that could not be: id → why. */
  failures: Type.Record(Type.String(), Type.String()),
});
export type PromoteResult = Static<typeof PromoteResult>;

/** Metadata of a tree's children that names it. */
export const TREE_KEY = "fork_tree_id";

const NOT_NOW = ["not_found", "invalid_request", "wrong_state", "sandbox_lost", "unsupported"] as const;

const FORK_ERRORS = [
  ...NOT_NOW,
  "capacity_exhausted",
  "queue_full",
  "create_timeout",
  "storage_exhausted",
  "driver_failed",
  "guest_unresponsive",
  "guest_protocol",
  "cancelled",
] as const;

export const forkRoutes = {
  fork: {
    method: "POST",
    path: "/v1/sandboxes/:id/fork",
    scope: "sandbox:write",
    status: 201,
    says: "Fork a running sandbox, memory and disk of one instant; it goes on running",
    input: Fork,
    returns: ForkResult,
    errors: FORK_ERRORS,
  },
  forkTree: {
    method: "POST",
    path: "/v1/sandboxes/:id/fork-tree",
    scope: "sandbox:write",
    status: 201,
    says: "Fork, with children that know their siblings: each has the tree's id in its metadata",
    input: Fork,
    returns: ForkTreeResult,
    errors: FORK_ERRORS,
  },
  promote: {
    method: "POST",
    path: "/v1/sandboxes/:id/promote",
    scope: "sandbox:write",
    says: "Make a child of a tree stand alone, and end its siblings when asked to; doing so twice is fine",
    input: Promote,
    returns: PromoteResult,
    errors: ["not_found", "invalid_request"],
  },
  pause: {
    method: "POST",
    path: "/v1/sandboxes/:id/pause",
    scope: "sandbox:write",
    says: "Stop a sandbox where it stands; memory stays, no vCPU is billed; pausing it twice is fine",
    input: ById,
    returns: "nothing",
    errors: [...NOT_NOW, "driver_failed"],
  },
  resume: {
    method: "POST",
    path: "/v1/sandboxes/:id/resume",
    scope: "sandbox:write",
    says: "Let a paused sandbox go on; of a running one this is no error",
    input: ById,
    returns: "nothing",
    errors: [...NOT_NOW, "driver_failed"],
  },
  hibernate: {
    method: "POST",
    path: "/v1/sandboxes/:id/hibernate",
    aliases: ["/v1/sandboxes/:id/stop"],
    scope: "sandbox:write",
    says: "Keep a sandbox on disk alone: no memory, no vCPU; any call wakes it; doing so twice is fine",
    input: ById,
    returns: "nothing",
    errors: [...NOT_NOW, "driver_failed", "storage_exhausted", "capacity_exhausted"],
  },
  wake: {
    method: "POST",
    path: "/v1/sandboxes/:id/wake",
    aliases: ["/v1/sandboxes/:id/start"],
    scope: "sandbox:write",
    says: "Bring a hibernated sandbox back where it stood; of one that runs this is no error",
    input: ById,
    returns: "nothing",
    errors: [...FORK_ERRORS, "snapshot_invalid"],
  },
} as const satisfies Contract;
