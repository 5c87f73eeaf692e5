/**
 * TypeBox schemas as JSON Schema for people: what has a name is told once and referred to, a choice of words is an `enum`,
 * and what may be null says so in its type.
 */
import type { TSchema } from "@sinclair/typebox";
import { BillTo } from "../routes/api/billing.ts";
import { SandboxEventInfo } from "../routes/api/calls.ts";
import { ErrorBody, ExecTimeoutBody } from "../status.ts";
import type { RowName } from "../table.ts";
import { derive } from "../wire/derive.ts";
import { wireOf } from "../wire/wire.ts";
import { worded } from "./words.ts";

export type Json = { [key: string]: unknown };

const input = (name: RowName, key: string): TSchema => wireOf(name).input.schema.properties[key] as TSchema;
const output = (name: RowName): TSchema => wireOf(name).output?.schema as TSchema;
const inOutput = (name: RowName, key: string): TSchema =>
  (output(name)["properties"] as Record<string, TSchema>)[key] as TSchema;
const itemOf = (list: TSchema): TSchema => list["items"] as TSchema;

/** What has a name in the document. */
function named(): Readonly<Record<string, TSchema>> {
  return {
    Error: ErrorBody,
    ExecTimeout: ExecTimeoutBody,
    Sandbox: output("get"),
    Metadata: input("create", "metadata"),
    Environment: input("create", "env"),
    Egress: input("setNetwork", "egress"),
    EffectiveEgress: inOutput("network", "egress"),
    VolumeMount: itemOf(input("create", "volumes")),
    AttachedVolume: output("attachVolume"),
    Lifecycle: output("lifecycle"),
    SandboxMetrics: output("metrics"),
    Network: output("network"),
    CommandResult: output("run"),
    CodeResult: output("runCell"),
    Process: itemOf(output("processes")),
    CodeContext: output("createContext"),
    File: output("stat"),
    Port: itemOf(output("ports")),
    ExposedPort: output("exposePort"),
    Fork: output("fork"),
    ForkTree: output("forkTree"),
    Snapshot: output("getSnapshot"),
    Volume: output("getVolume"),
    Template: output("template"),
    SandboxEvent: derive(SandboxEventInfo, "result").schema,
    Account: output("account"),
    Token: itemOf(inOutput("tokens", "items")),
    NewToken: output("createToken"),
    AuditEntry: itemOf(inOutput("audit", "items")),
    Webhook: itemOf(inOutput("webhooks", "items")),
    Usage: output("usage"),
    SandboxUsage: output("sandboxUsage"),
    Price: itemOf(inOutput("pricing", "prices")),
    Plan: output("setPlan"),
    PriceList: output("setPrices"),
    Pricing: output("pricing"),
    BillTo: derive(BillTo, "result").schema,
    InvoiceHead: itemOf(inOutput("invoices", "items")),
    Invoice: output("invoice"),
    Settlement: output("settleBooks"),
    Difference: itemOf(inOutput("reconcileBooks", "differences")),
    Sink: output("createSink"),
  };
}

const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

/** Symbols and `undefined` are gone. */
const bare = (schema: TSchema): Json => JSON.parse(JSON.stringify(schema)) as Json;

/** `anyOf` of words → `enum`; of one sort and null → that sort, nullable. */
function choice(members: readonly Json[], rest: Json): Json {
  const some = members.filter(({ type }) => type !== "null");
  const isNullable = some.length < members.length;
  const [first] = some;
  const types = new Set(some.map(({ type }) => type));
  const nullable = (type: unknown): unknown => (isNullable ? [type, "null"] : type);
  if (first !== undefined && types.size === 1 && some.every((member) => "const" in member)) {
    const words = some.map((member) => member["const"]);
    return { ...rest, type: nullable(first["type"]), enum: isNullable ? [...words, null] : words };
  }
  if (first !== undefined && some.length === 1 && typeof first["type"] === "string" && !("const" in first))
    return { ...rest, ...first, type: nullable(first["type"]) };
  return { ...rest, anyOf: members };
}

export interface Schemas {
  /** Of the document's `components`. */
  readonly components: Json;
  /** A schema, in which what has a name is referred to. */
  refer(schema: TSchema): Json;
}

export function schemas(): Schemas {
  const all = Object.entries(named()).map(([name, schema]): [string, Json] => [name, bare(schema)]);
  const names = new Map(all.map(([name, schema]) => [JSON.stringify(schema), name]));
  const tidy = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(tidy);
    if (!isJson(value)) return value;
    const name = names.get(JSON.stringify(value));
    return name === undefined ? inside(value) : { $ref: `#/components/schemas/${name}` };
  };
  const inside = (schema: Json): Json => {
    const { anyOf, ...rest } = Object.fromEntries(
      Object.entries(schema).map(([key, value]): [string, unknown] => [key, key === "const" ? value : tidy(value)]),
    ) as Json & { anyOf?: Json[] };
    return anyOf === undefined ? rest : choice(anyOf, rest);
  };
  return {
    components: Object.fromEntries(all.map(([name, schema]) => [name, worded(name, inside(schema))])),
    refer: (schema) => tidy(bare(schema)) as Json,
  };
}
