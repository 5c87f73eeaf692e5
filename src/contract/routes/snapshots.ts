/** Snapshots: a sandbox's memory and disk of one instant, kept on disk. */
import { type Static, Type } from "@sinclair/typebox";
import type { Contract } from "../route.ts";
import { ById, Metadata } from "./sandboxes.ts";

export const SnapshotName = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" });

export const SnapshotInfo = Type.Object({
  id: Type.String(),
  name: Type.Union([Type.String(), Type.Null()]),
  /** The sandbox that it is of. */
  sandboxId: Type.String(),
  template: Type.String(),
  cpu: Type.Integer(),
  memoryMb: Type.Integer(),
  metadata: Metadata,
  /** RFC 3339, UTC. */
  createdAt: Type.String(),
  /** Bytes on the host's disk: memory, device state and disk together. */
  sizeBytes: Type.Integer(),
  /** Of these, memory in which it differs from its template; the template's own is kept once for all. */
  memoryBytes: Type.Integer(),
  /**
   * Of these, disk that only it has: what it shares with a running sandbox or another snapshot counts for none of them.
   * Where the file system does not tell, all that is allocated.
   */
  diskBytes: Type.Integer(),
  /** Milliseconds for which the sandbox stood still. */
  pauseMs: Type.Number(),
  /** The snapshot that its sandbox was restored from. */
  parentSnapshotId: Type.Union([Type.String(), Type.Null()]),
});
export type SnapshotInfo = Static<typeof SnapshotInfo>;

export const snapshotRoutes = {
  snapshot: {
    method: "POST",
    path: "/v1/sandboxes/:id/snapshots",
    scope: "sandbox:write",
    status: 201,
    says: "Keep a running sandbox's memory and disk of one instant; it goes on running",
    input: Type.Object(
      { id: ById.properties.id, name: Type.Optional(SnapshotName), metadata: Type.Optional(Metadata) },
      { additionalProperties: false },
    ),
    returns: SnapshotInfo,
    errors: [
      "invalid_request",
      "not_found",
      "wrong_state",
      "sandbox_lost",
      "unsupported",
      "storage_exhausted",
      "capacity_exhausted",
      "driver_failed",
      "guest_unresponsive",
      "cancelled",
    ],
  },
  snapshots: {
    method: "GET",
    path: "/v1/snapshots",
    scope: "sandbox:read",
    says: "List snapshots, newest first",
    input: Type.Object({ sandboxId: Type.Optional(ById.properties.id) }, { additionalProperties: false }),
    returns: Type.Array(SnapshotInfo),
    errors: ["invalid_request"],
  },
  getSnapshot: {
    method: "GET",
    path: "/v1/snapshots/:id",
    scope: "sandbox:read",
    says: "Read one snapshot",
    input: ById,
    returns: SnapshotInfo,
    errors: ["not_found"],
  },
  removeSnapshot: {
    method: "DELETE",
    path: "/v1/snapshots/:id",
    scope: "sandbox:write",
    says: "Delete a snapshot that nothing restored from it uses any more",
    input: ById,
    returns: "nothing",
    errors: ["not_found", "snapshot_in_use"],
  },
  promoteSnapshot: {
    method: "POST",
    path: "/v1/snapshots/:id/promote",
    scope: "template:write",
    says: "Make a template of a snapshot, which stays when the snapshot is deleted",
    input: Type.Object(
      { id: ById.properties.id, name: Type.String({ pattern: "^[a-z0-9][a-z0-9_-]{0,62}$" }) },
      { additionalProperties: false },
    ),
    returns: "nothing",
    errors: ["invalid_request", "not_found", "already_exists", "snapshot_invalid", "storage_exhausted"],
  },
} as const satisfies Contract;
