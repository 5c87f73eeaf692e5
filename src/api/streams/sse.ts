/**
 * Events of a row as server-sent events: `event: NAME`, `data: JSON`, a blank line, LF only; a comment when nothing happens
 * for a while; a failure after the start is an event named `error`.
 */
import type { EventCodec, EventEncoder, WireEvent } from "../../contract/wire/codec.ts";

const encoder = new TextEncoder();

/** One block. JSON has no line breaks, and no name has any. */
export function block({ event, data }: WireEvent): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

export const PING = encoder.encode(": ping\n\n");

/** Events as blocks: what one of them says is one piece, and those that say nothing are passed over. */
export async function* blocks(
  events: AsyncIterable<unknown>,
  codec: EventCodec,
  wireInput: unknown,
): AsyncGenerator<Uint8Array> {
  const encode = codec.encoder(wireInput);
  for await (const event of events) {
    const text = encode.encode(event).map(block).join("");
    if (text !== "") yield encoder.encode(text);
  }
  yield* rest(encode);
}

function* rest(encode: EventEncoder): Generator<Uint8Array> {
  const text = encode.end().map(block).join("");
  if (text !== "") yield encoder.encode(text);
}

/** The same of a failure. */
export function errorBlock(data: unknown): Uint8Array {
  return encoder.encode(block({ event: "error", data }));
}
