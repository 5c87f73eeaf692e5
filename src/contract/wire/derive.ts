/**
 * A codec out of a schema: keys of objects travel in snake_case, unless a shape names them otherwise; keys of records are
 * a user's and stay as they are; bytes are base64. What does not change keeps its very schema, so that what validates it is
 * compiled once.
 */
import { Kind, OptionalKind, type TObject, type TSchema, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { fromBase64, toBase64 } from "./base64.ts";
import type { Codec, ObjectCodec } from "./codec.ts";

/** `input` refuses fields that are not known, `result` drops them. */
export type Direction = "input" | "result";

/** How an object differs from what its schema says. */
export interface Shape {
  /** Key in the contract → key on the wire. */
  readonly rename?: Readonly<Record<string, string>>;
  /** Key in the contract → its own codec. */
  readonly fields?: Readonly<Record<string, Codec>>;
}

/** `stdoutBase64` → `stdout_base64`. */
export function snake(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `stdout_base64` → `stdoutBase64`: back, of any key that `snake` made. */
export function camel(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const same = (value: unknown): unknown => value;

/** Travels as it is. */
export function plain(schema: TSchema): Codec {
  return { schema, encode: same, decode: same };
}

const isPlain = ({ encode }: Codec): boolean => encode === same;

const BASE64 = Type.String({
  contentEncoding: "base64",
  pattern: "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
});
const bytes: Codec = {
  schema: BASE64,
  encode: (value) => toBase64(value as Uint8Array),
  decode: (wire) => fromBase64(wire as string) ?? new Uint8Array(),
};

interface Field {
  readonly key: string;
  readonly wire: string;
  readonly codec: Codec;
}

/** Values of `names`' fields under their other names; never by assignment, as a key may be `__proto__`. */
function renamed(
  value: Record<string, unknown>,
  fields: readonly Field[],
  way: "encode" | "decode",
): [string, unknown][] {
  const entries: [string, unknown][] = [];
  for (const { key, wire, codec } of fields) {
    const [from, to] = way === "encode" ? [key, wire] : [wire, key];
    if (!Object.hasOwn(value, from) || value[from] === undefined) continue;
    entries.push([to, codec[way](value[from])]);
  }
  return entries;
}

/** Of an object. `shape` is for its own keys, not for those of objects in it. */
export function object(schema: TObject, direction: Direction, shape: Shape = {}): ObjectCodec {
  const fields = Object.entries(schema.properties).map(([key, value]): Field => {
    const codec = shape.fields?.[key] ?? derive(value, direction);
    return { key, wire: shape.rename?.[key] ?? snake(key), codec };
  });
  const known = new Set(fields.map(({ key }) => key));
  const properties = fields.map(({ key, wire, codec }): [string, TSchema] => {
    const optional = schema.properties[key]?.[OptionalKind] === "Optional";
    return [wire, optional && codec.schema[OptionalKind] === undefined ? Type.Optional(codec.schema) : codec.schema];
  });
  const options = direction === "input" ? { additionalProperties: false } : {};
  return {
    schema: Type.Object(Object.fromEntries(properties), options),
    names: Object.fromEntries(fields.map(({ key, wire }) => [key, wire])),
    encode: (value) => {
      const given = value as Record<string, unknown>;
      const entries = renamed(given, fields, "encode");
      // Who reads an input refuses what it does not know, by name: it is not for the sender to leave it out.
      if (direction === "input")
        for (const key of Object.keys(given)) if (!known.has(key)) entries.push([key, given[key]]);
      return Object.fromEntries(entries);
    },
    decode: (wire) => Object.fromEntries(renamed(wire as Record<string, unknown>, fields, "decode")),
  };
}

export function array(item: Codec, schema: TSchema = {} as TSchema): Codec {
  const { minItems, maxItems, uniqueItems } = schema as Record<string, unknown>;
  const options = Object.fromEntries(
    Object.entries({ minItems, maxItems, uniqueItems }).filter(([, bound]) => bound !== undefined),
  );
  return {
    schema: Type.Array(item.schema, options),
    encode: (value) => (value as unknown[]).map((one) => item.encode(one)),
    decode: (wire) => (wire as unknown[]).map((one) => item.decode(one)),
  };
}

function record(schema: TSchema, direction: Direction): Codec {
  const [pattern, value] = Object.entries(schema["patternProperties"] as Record<string, TSchema>)[0] ?? [];
  if (pattern === undefined || value === undefined) return plain(schema);
  const codec = derive(value, direction);
  if (isPlain(codec)) return plain(schema);
  const all = (way: "encode" | "decode") => (given: unknown) =>
    Object.fromEntries(Object.entries(given as Record<string, unknown>).map(([key, one]) => [key, codec[way](one)]));
  return {
    schema: Type.Record(Type.String({ pattern }), codec.schema),
    encode: all("encode"),
    decode: all("decode"),
  };
}

/** The first member that a value fits: of `schemas` when it is the contract's, of their codecs' when it is the wire's. */
function union(schema: TSchema, direction: Direction): Codec {
  const members = schema["anyOf"] as TSchema[];
  const codecs = members.map((member) => derive(member, direction));
  if (codecs.every(isPlain)) return plain(schema);
  const fitting = (schemas: readonly TSchema[], value: unknown): Codec | undefined =>
    codecs[schemas.findIndex((member) => Value.Check(member, value))];
  const wires = codecs.map((codec) => codec.schema);
  return {
    schema: Type.Union(wires),
    encode: (value) => fitting(members, value)?.encode(value) ?? value,
    decode: (wire) => fitting(wires, wire)?.decode(wire) ?? wire,
  };
}

/** What a schema of the contract is on the wire. */
export function derive(schema: TSchema, direction: Direction): Codec {
  switch (schema[Kind]) {
    case "Object":
      return object(schema as TObject, direction);
    case "Array": {
      const item = derive(schema["items"] as TSchema, direction);
      return isPlain(item) ? plain(schema) : array(item, schema);
    }
    case "Record":
      return record(schema, direction);
    case "Union":
      return union(schema, direction);
    case "Uint8Array":
      return bytes;
    default:
      return plain(schema);
  }
}
