/**
 * Events of a row as server-sent events: `event: NAME`, `data: JSON`, a blank line, LF only; a comment when nothing happens
 * for a while; a failure after the start is an event named `error`.
 */
import type { EventCodec, WireEvent } from "../../contract/wire/codec.ts";

const encoder = new TextEncoder();

/** One block. JSON has no line breaks, and no name has any. */
export function block({ event, data }: WireEvent): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

export const PING = encoder.encode(": ping\n\n");

/**
 * Events as blocks: what one of them says is one piece, and those that say nothing are passed over. Written out rather than as a
 * generator, since leaving a generator that was never read would not end its source.
 */
export function blocks(
  events: AsyncIterable<unknown>,
  codec: EventCodec,
  wireInput: unknown,
): AsyncIterator<Uint8Array> {
  const source = events[Symbol.asyncIterator]();
  const encode = codec.encoder(wireInput);
  let isOver = false;
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    while (!isOver) {
      const { done, value } = await source.next();
      isOver = done === true;
      const text = (isOver ? encode.end() : encode.encode(value)).map(block).join("");
      if (text !== "") return { done: false, value: encoder.encode(text) };
    }
    return { done: true, value: undefined };
  };
  const leave = async (): Promise<IteratorResult<Uint8Array>> => {
    isOver = true;
    await source.return?.();
    return { done: true, value: undefined };
  };
  return { next, return: leave };
}

/** The same of a failure. */
export function errorBlock(data: unknown): Uint8Array {
  return encoder.encode(block({ event: "error", data }));
}
