/** Volumes: disks with a name that outlive sandboxes, written by one sandbox at a time or read by many. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import type { Contract } from "../route.ts";

export const VolumeName = Type.String({ pattern: "^[a-z0-9][a-z0-9_-]{0,62}$" });
const SandboxId = Type.String({ minLength: 1, maxLength: 64 });
const SizeMb = Type.Integer({ minimum: LIMITS.volumeMbMin, maximum: LIMITS.volumeMbMax });
const ByName = Type.Object({ name: VolumeName }, { additionalProperties: false });

const mounting = {
  name: VolumeName,
  /** Where it is mounted in the guest; default `/volumes/NAME`. */
  mount: Type.Optional(Type.String({ minLength: 1, maxLength: LIMITS.pathBytes })),
  /** Default false. Any number of sandboxes may read a volume at once, or one may write it. */
  readOnly: Type.Optional(Type.Boolean()),
};

/** A volume of a create, or one that is attached later. */
export const VolumeMount = Type.Object(mounting, { additionalProperties: false });
export type VolumeMount = Static<typeof VolumeMount>;

export const AttachedVolume = Type.Object({ name: VolumeName, mount: Type.String(), readOnly: Type.Boolean() });
export type AttachedVolume = Static<typeof AttachedVolume>;

export const VolumeInfo = Type.Object({
  name: VolumeName,
  sizeMb: Type.Integer(),
  /** What it takes on the host's disk: it grows with what is written, and shrinks with what is deleted. */
  usedBytes: Type.Integer(),
  /** RFC 3339, UTC. */
  createdAt: Type.String(),
  /** Ids of the sandboxes that have it. */
  attachedTo: Type.Array(Type.String()),
});
export type VolumeInfo = Static<typeof VolumeInfo>;

export const VolumeSize = Type.Object({ name: VolumeName, sizeMb: SizeMb }, { additionalProperties: false });
export type VolumeSize = Static<typeof VolumeSize>;

export const Attach = Type.Object({ id: SandboxId, ...mounting }, { additionalProperties: false });
export type Attach = Static<typeof Attach>;

export const volumeRoutes = {
  createVolume: {
    method: "POST",
    path: "/v1/volumes",
    scope: "sandbox:write",
    status: 201,
    says: "Create an empty volume with a file system",
    input: VolumeSize,
    returns: VolumeInfo,
    errors: ["invalid_request", "already_exists", "storage_exhausted", "capacity_exhausted", "host_unsupported"],
  },
  volumes: {
    method: "GET",
    path: "/v1/volumes",
    scope: "sandbox:read",
    says: "List volumes by name",
    input: Type.Object({}, { additionalProperties: false }),
    returns: Type.Array(VolumeInfo),
    errors: [],
  },
  getVolume: {
    method: "GET",
    path: "/v1/volumes/:name",
    scope: "sandbox:read",
    says: "Read one volume's size, use and where it is attached",
    input: ByName,
    returns: VolumeInfo,
    errors: ["invalid_request", "not_found"],
  },
  resizeVolume: {
    method: "POST",
    path: "/v1/volumes/:name/resize",
    scope: "sandbox:write",
    says: "Make a volume larger: at once where it is attached for writing here, else when it is next",
    input: VolumeSize,
    returns: VolumeInfo,
    errors: ["invalid_request", "not_found", "storage_exhausted", "driver_failed", "sandbox_lost", "unsupported"],
  },
  removeVolume: {
    method: "DELETE",
    path: "/v1/volumes/:name",
    scope: "sandbox:write",
    says: "Delete a volume and all in it; refused while a sandbox has it",
    input: ByName,
    returns: "nothing",
    errors: ["invalid_request", "not_found", "volume_in_use"],
  },
  attachVolume: {
    method: "POST",
    path: "/v1/sandboxes/:id/volumes",
    scope: "sandbox:write",
    status: 201,
    says: "Attach a volume to a running sandbox and mount it",
    input: Attach,
    returns: AttachedVolume,
    errors: [
      ...(["invalid_request", "not_found", "wrong_state", "unsupported", "volume_in_use"] as const),
      ...(["storage_exhausted", "driver_failed", "sandbox_lost", "guest_unresponsive"] as const),
    ],
  },
  detachVolume: {
    method: "DELETE",
    path: "/v1/sandboxes/:id/volumes/:name",
    scope: "sandbox:write",
    says: "Unmount a volume with all written to it on disk, and detach it",
    input: Type.Object({ id: SandboxId, name: VolumeName }, { additionalProperties: false }),
    returns: "nothing",
    errors: [
      ...(["invalid_request", "not_found", "wrong_state", "unsupported", "volume_in_use"] as const),
      ...(["driver_failed", "sandbox_lost", "guest_unresponsive"] as const),
    ],
  },
} as const satisfies Contract;
