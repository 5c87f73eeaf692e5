/** Server-sent events out of a schema: what has a `kind` is named by it, and all else is one sort of event, `message`. */
import { Kind, type TObject, type TSchema, Type } from "@sinclair/typebox";
import { errorOf } from "../status.ts";
import type { Codec, EventCodec, WireEvent } from "./codec.ts";
import { isRecord, object, type Shape } from "./derive.ts";

/** Name of an event with no kind: what an `EventSource` gives to `onmessage`. */
const UNNAMED = "message";

/** How a stream's events differ from what their schema says, by kind. */
export type EventShapes = Readonly<Record<string, Shape & { readonly event?: string }>>;

interface Sort {
  /** Null: its events have none. */
  readonly kind: string | null;
  readonly event: string;
  readonly codec: Codec;
}

function kindsOf(schema: TObject): (string | null)[] {
  const kind = schema.properties["kind"];
  if (kind === undefined) return [null];
  if (kind[Kind] === "Literal") return [String(kind["const"])];
  return (kind["anyOf"] as TSchema[]).map((literal) => String(literal["const"]));
}

function sorts(schema: TSchema, shapes: EventShapes): Sort[] {
  const members = (schema[Kind] === "Union" ? schema["anyOf"] : [schema]) as TObject[];
  return members.flatMap((member) => {
    const { kind: _, ...properties } = member.properties;
    return kindsOf(member).map((kind): Sort => {
      const shape = kind === null ? undefined : shapes[kind];
      const codec = object(Type.Object(properties), "result", shape);
      return { kind, event: shape?.event ?? kind ?? UNNAMED, codec };
    });
  });
}

/** An `error` event's failure, when it is one. @throws {WarrenError} what it says */
export function raise({ event, data }: WireEvent): void {
  if (event === "error") throw errorOf(null, data);
}

/** Events that each travel by themselves. */
export function events(schema: TSchema, shapes: EventShapes = {}): EventCodec {
  const all = sorts(schema, shapes);
  const byKind = new Map(all.map((sort) => [sort.kind, sort]));
  const byEvent = new Map(all.map((sort) => [sort.event, sort]));
  const encode = (event: unknown): WireEvent[] => {
    const kind = isRecord(event) && typeof event["kind"] === "string" ? event["kind"] : null;
    const sort = byKind.get(kind) ?? byKind.get(null);
    return sort === undefined ? [] : [{ event: sort.event, data: sort.codec.encode(event) }];
  };
  return {
    schemas: Object.fromEntries(all.map(({ event, codec }) => [event, codec.schema])),
    encoder: () => ({ encode, end: () => [] }),
    decode(event) {
      raise(event);
      const sort = byEvent.get(event.event);
      if (sort === undefined || !isRecord(event.data)) return null;
      const rest = sort.codec.decode(event.data) as Record<string, unknown>;
      return sort.kind === null ? rest : { kind: sort.kind, ...rest };
    },
  };
}
