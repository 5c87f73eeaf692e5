/** Forks, hibernation, snapshots and templates on the wire: lists with a name around them, states that are told, sums. */
import { Type } from "@sinclair/typebox";
import { ForkResult, ForkTreeResult } from "../routes/forks.ts";
import { SnapshotInfo } from "../routes/snapshots.ts";
import { TemplateInfo } from "../routes/templates.ts";
import type { Codec, ObjectCodec } from "./codec.ts";
import { array, object } from "./derive.ts";
import { sandboxes, widened } from "./sandbox.ts";

function forked(base: ObjectCodec): Codec {
  return {
    ...widened(base, {
      snapshot_id: Type.Null({ description: "A fork leaves no snapshot" }),
      at: Type.String({ description: "When the first child was made" }),
    }),
    encode: (value) => ({
      ...(base.encode(value) as object),
      snapshot_id: null,
      at: (value as ForkResult).children[0]?.createdAt ?? "",
    }),
    decode: base.decode,
  };
}

const children = { fields: { children: sandboxes } };
export const fork = forked(object(ForkResult, "result", children));
export const forkTree = forked(object(ForkTreeResult, "result", children));

/** Of what returns nothing, and is answered with the state that it leads to. */
export function status(state: "hibernated" | "running"): Codec {
  return {
    schema: Type.Object({ status: Type.Literal(state) }),
    encode: () => ({ status: state }),
    decode: () => undefined,
  };
}

const infos = array(object(SnapshotInfo, "result"));
export const snapshots: Codec = {
  schema: Type.Object({ snapshots: infos.schema }),
  encode: (value) => ({ snapshots: infos.encode(value) }),
  decode: (wire) => infos.decode((wire as { snapshots: unknown }).snapshots),
};

const templateBase = object(TemplateInfo, "result");

function beside(info: TemplateInfo): object {
  const [first] = info.baked;
  return {
    size_bytes: info.baked.reduce((sum, { sizeBytes }) => sum + sizeBytes, info.diskBytes),
    ...(first === undefined ? {} : { cpu: first.cpu, memory_mb: first.memoryMb, created_at: first.bakedAt }),
    is_global: true,
    tools: [],
  };
}

export const template: ObjectCodec = {
  ...widened(templateBase, {
    size_bytes: Type.Integer({ description: "On the host's disk: root disk and every baked size" }),
    cpu: Type.Optional(Type.Integer({ description: "Of the first size that is baked" })),
    memory_mb: Type.Optional(Type.Integer({ description: "Of the first size that is baked" })),
    created_at: Type.Optional(Type.String()),
    is_global: Type.Boolean({ description: "Open to every account" }),
    tools: Type.Array(Type.String()),
  }),
  encode: (value) => ({ ...(templateBase.encode(value) as object), ...beside(value as TemplateInfo) }),
  decode: templateBase.decode,
};
export const templates: Codec = array(template);
