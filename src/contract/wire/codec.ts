/**
 * What travels and what it means: each row's input, result and events have a codec between the contract's values (camelCase)
 * and those on the wire (snake_case). Server and client use the same ones, so that they cannot disagree. Types only; the
 * codecs are in `wire.ts`.
 */
import type { TObject, TSchema } from "@sinclair/typebox";

/** Between a value of the contract and JSON on the wire. */
export interface Codec {
  /** Of the JSON on the wire: for validation and for the OpenAPI document. An input's refuses fields that it does not know. */
  readonly schema: TSchema;
  /** Of a result, `input` is what was asked for, as the contract has it: some answers repeat a part of it. */
  encode(value: unknown, input?: unknown): unknown;
  /**
   * Of what fits `schema`. Fields that are not known are dropped from results, so that a newer server is understood.
   * @throws {WarrenError} `invalid_request` – fields that each fit, but not together; with the field's name on the wire
   */
  decode(wire: unknown): unknown;
}

/** Of an object. */
export interface ObjectCodec extends Codec {
  readonly schema: TObject;
  /** Key in the contract → key on the wire. */
  readonly names: Readonly<Record<string, string>>;
}

/** One block of server-sent events. */
export interface WireEvent {
  readonly event: string;
  readonly data: unknown;
}

export interface EventEncoder {
  encode(event: unknown): readonly WireEvent[];
  /** What is left when the stream ends: the first bytes of a character whose last never came. */
  end(): readonly WireEvent[];
}

export interface EventCodec {
  /** Name of each event → what its data is. `error` is not among them, as every stream may end with one, of the error's shape. */
  readonly schemas: Readonly<Record<string, TSchema>>;
  /**
   * A new one for each stream: text that is cut between two bytes of a character is put together.
   * `input` is what was asked for as it was on the wire, since how bytes are to travel is said there alone.
   */
  encoder(input: unknown): EventEncoder;
  /**
   * Null: an event that is not known, or says nothing.
   * @throws {WarrenError} what an `error` event says
   */
  decode(event: WireEvent): unknown | null;
}

export interface WireRow {
  /** Path, query and body together; which field travels where is the row's `placeOf`. Without the bytes of an upload. */
  readonly input: ObjectCodec;
  readonly output: Codec | null;
  readonly events: EventCodec | null;
}
