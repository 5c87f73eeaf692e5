/** Templates: what sandboxes are restored from. */
import { type Static, Type } from "@sinclair/typebox";
import { LIMITS } from "../../limits.ts";
import type { Contract } from "../route.ts";
import { TemplateName } from "./sandboxes.ts";

export const TemplateInfo = Type.Object({
  name: TemplateName,
  description: Type.String(),
  /** Sizes with a snapshot ready to restore; another size is baked on first use. */
  baked: Type.Array(
    Type.Object({
      cpu: Type.Integer(),
      memoryMb: Type.Integer(),
      digest: Type.String(),
      /** Bytes on disk: memory image and device state. */
      sizeBytes: Type.Integer(),
      bakedAt: Type.String(),
      accel: Type.String(),
    }),
  ),
  /** Bytes of the root disk that are allocated; 0 before the first bake. */
  diskBytes: Type.Integer(),
});
export type TemplateInfo = Static<typeof TemplateInfo>;

/** One line of a bake, for people: which step of how many, what it is doing. */
export const BakeEvent = Type.Object({
  step: Type.Integer(),
  steps: Type.Integer(),
  says: Type.String(),
  elapsedMs: Type.Number(),
});
export type BakeEvent = Static<typeof BakeEvent>;

export const templateRoutes = {
  templates: {
    method: "GET",
    path: "/v1/templates",
    scope: "template:read",
    says: "List templates",
    input: Type.Object({}, { additionalProperties: false }),
    returns: Type.Array(TemplateInfo),
    errors: [],
  },
  bake: {
    method: "POST",
    path: "/v1/templates/:name/bake",
    scope: "template:write",
    says: "Build what is missing of a template's image and snapshot, telling each step",
    input: Type.Object(
      {
        name: TemplateName,
        cpu: Type.Optional(Type.Integer({ minimum: 1, maximum: LIMITS.cpuMax })),
        memoryMb: Type.Optional(Type.Integer({ minimum: LIMITS.memoryMibMin, maximum: LIMITS.memoryMibMax })),
        /** Throw away what is there and build again. */
        force: Type.Optional(Type.Boolean()),
      },
      { additionalProperties: false },
    ),
    returns: { events: BakeEvent },
    errors: ["invalid_request", "template_not_found", "bake_failed", "storage_exhausted", "host_unsupported"],
  },
  removeTemplate: {
    method: "DELETE",
    path: "/v1/templates/:name",
    scope: "template:write",
    says: "Delete a template's image and snapshots; running sandboxes keep what they have",
    input: Type.Object({ name: TemplateName }, { additionalProperties: false }),
    returns: "nothing",
    errors: ["template_not_found"],
  },
} as const satisfies Contract;
