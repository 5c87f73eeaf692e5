/**
 * What travels and what it means: each row's input, result and events have a codec between the contract's values (camelCase)
 * and those on the wire (snake_case). Server and client use the same ones, so that they cannot disagree. Types only; the
 * codecs are in `wire.ts`.
 */
import type { TSchema } from "@sinclair/typebox";

/** Between a value of the contract and JSON on the wire. */
export interface Codec {
  /** Of the JSON on the wire: for validation and for the OpenAPI document. */
  readonly schema: TSchema;
  encode(value: unknown): unknown;
  /** Of what fits `schema`. Fields that are not known are dropped from results, so that a newer server is understood. */
  decode(wire: unknown): unknown;
}

/** One block of server-sent events. */
export interface WireEvent {
  readonly event: string;
  readonly data: unknown;
}

export interface EventCodec {
  /** Name of each event → what its data is. */
  readonly schemas: Readonly<Record<string, TSchema>>;
  /** A new one for each stream: text that is cut between two bytes of a character is put together. */
  encoder(input: unknown): { encode(event: unknown): readonly WireEvent[]; end(): readonly WireEvent[] };
  /** Null: an event that is not known, or says nothing. */
  decode(event: WireEvent): unknown | null;
}

export interface WireRow {
  /** Path, query and body together; which field travels where is the row's `placeOf`. */
  readonly input: Codec;
  readonly output: Codec | null;
  readonly events: EventCodec | null;
}
