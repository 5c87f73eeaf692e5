/**
 * A sandbox on the wire: all of `SandboxInfo`, with what other clients look for beside it. Create and list take their words
 * for the same things too: `from_snapshot`, `persistent`, `idle_timeout_seconds`, `cursor`.
 */
import { type TSchema, Type } from "@sinclair/typebox";
import { WarrenError } from "../../errors.ts";
import {
  type SandboxCreate,
  SandboxCreate as SandboxCreateSchema,
  SandboxInfo,
  SandboxList,
} from "../routes/sandboxes.ts";
import type { Codec, ObjectCodec } from "./codec.ts";
import { array, isRecord, object, plain } from "./derive.ts";

/** Other systems' names for templates of ours. */
const ALIASES: Readonly<Record<string, string>> = { "ubuntu-24.04": "base" };

/** A template's name, or another system's name for it. */
export function templateName(name: string): string {
  return Object.hasOwn(ALIASES, name) ? (ALIASES[name] ?? name) : name;
}

/** Of a template that is named: aliases are resolved as it comes. */
export function named(schema: TSchema): Codec {
  return { ...plain(schema), decode: (wire) => templateName(wire as string) };
}

/** @throws {WarrenError} `invalid_request`, with the field's name on the wire */
export function refuse(field: string, says: string): never {
  throw new WarrenError("invalid_request", `${field}: ${says}`, { details: { field } });
}

/** `base` with more fields on the wire. */
export function widened(
  base: ObjectCodec,
  more: Readonly<Record<string, TSchema>>,
): Pick<ObjectCodec, "schema" | "names"> {
  const { additionalProperties } = base.schema;
  const options = additionalProperties === undefined ? {} : { additionalProperties };
  return { schema: Type.Object({ ...base.schema.properties, ...more }, options), names: base.names };
}

/** The address that every guest has on its own side of its network. */
const GUEST_ADDRESS = "10.99.0.2";
const ENDED = new Set(["deleted", "failed"]);

const base = object(SandboxInfo, "result", { rename: { state: "status" } });

function beside(info: SandboxInfo): Record<string, unknown> {
  const lifeMs = info.expiresAt === null ? null : Date.parse(info.expiresAt) - Date.parse(info.createdAt);
  return {
    ...(info.snapshotId === null ? {} : { from_snapshot: info.snapshotId }),
    persistent: info.idle?.action === "hibernate" || info.expiresAt === null,
    guest_ip: ENDED.has(info.state) ? null : GUEST_ADDRESS,
    boot_ms: info.createMs,
    boot_mode: info.woken === true ? "wake" : info.parentId === null ? "restore" : "fork",
    ttl_seconds: lifeMs === null ? null : lifeMs / 1000,
    node: "local",
    price_per_second_usd: null,
  };
}

export const sandbox: ObjectCodec = {
  ...widened(base, {
    from_snapshot: Type.Optional(Type.String({ description: "The same as snapshot_id, when there is one" })),
    persistent: Type.Boolean({ description: "It has no end of its own, or hibernates instead" }),
    guest_ip: Type.Union([Type.String(), Type.Null()], { description: "Its own address, which is the same in each" }),
    boot_ms: Type.Number({ description: "The same as create_ms" }),
    boot_mode: Type.Union((["restore", "fork", "cold", "wake"] as const).map((mode) => Type.Literal(mode))),
    ttl_seconds: Type.Union([Type.Number(), Type.Null()], { description: "From its create to its end by itself" }),
    node: Type.String({ description: "The host that it is on" }),
    price_per_second_usd: Type.Union([Type.Number(), Type.String(), Type.Null()]),
  }),
  encode: (value) => ({ ...(base.encode(value) as object), ...beside(value as SandboxInfo) }),
  decode: base.decode,
};

export const sandboxes: Codec = array(sandbox);

/** Every sandbox in an answer that is encoded: for what a server knows of them and an engine does not, as `node`. */
export function* sandboxesIn(wire: unknown): Iterable<Record<string, unknown>> {
  if (Array.isArray(wire)) for (const one of wire) yield* sandboxesIn(one);
  else if (!isRecord(wire)) return;
  else if (typeof wire["id"] === "string" && "boot_mode" in wire) yield wire;
  else yield* sandboxesIn(wire["children"]);
}

const createBase = object(SandboxCreateSchema, "input", {
  rename: { snapshot: "from_snapshot" },
  fields: { template: named(SandboxCreateSchema.properties.template) },
});

function created(wire: Record<string, unknown>): SandboxCreate {
  const { persistent, idle_timeout_seconds: idle, ...rest } = wire;
  if (idle !== undefined && rest["idle_seconds"] !== undefined)
    refuse("idle_timeout_seconds", "the same as idle_seconds");
  const asked = createBase.decode(idle === undefined ? rest : { ...rest, idle_seconds: idle }) as SandboxCreate;
  // Clients send their default template beside a snapshot.
  if (asked.snapshot !== undefined) delete asked.template;
  if (persistent !== true) return asked;
  if (asked.idleAction === "close") refuse("idle_action", `got "close", allowed with persistent is "hibernate"`);
  return { ...asked, idleAction: "hibernate" };
}

/** `persistent` alone leaves `idleAction` without `idleSeconds`: after how long is the server's to say. */
export const create: ObjectCodec = {
  ...widened(createBase, {
    persistent: Type.Optional(
      Type.Boolean({ description: "It hibernates when idle, and has no end of its own unless given one" }),
    ),
    idle_timeout_seconds: Type.Optional({
      ...SandboxCreateSchema.properties.idleSeconds,
      description: "The same as idle_seconds",
    }),
  }),
  encode: createBase.encode,
  decode: (wire) => created(wire as Record<string, unknown>),
};

export const list: ObjectCodec = object(SandboxList, "input", {
  rename: { state: "status", after: "cursor" },
  fields: { template: named(SandboxList.properties.template) },
});
