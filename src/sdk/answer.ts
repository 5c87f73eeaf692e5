/** What an answer's body is, by its row: a value, nothing, bytes or events, read as fast as the caller reads them. */
import { Kind, type TSchema } from "@sinclair/typebox";
import type { Clock } from "../base/clock.ts";
import type { EventCodec } from "../contract/wire/codec.ts";
import { wireOf } from "../contract/wire/wire.ts";
import { isWarrenError, WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import type { Answer } from "./exchange.ts";
import { pulled } from "./pull.ts";
import type { RowRequest } from "./request.ts";
import { BlockReader } from "./sse.ts";

/** A JSON answer beyond this is no answer: as much as one cell may say. */
const JSON_BYTES = LIMITS.cellBytes;

const notOurs = (says: string, cause?: unknown): WarrenError =>
  new WarrenError("connection_failed", `what answered is not this API, or something stands in between: ${says}`, {
    cause,
  });

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw notOurs(`it said ${JSON.stringify(text.slice(0, 80))}`, cause);
  }
}

/** Pieces of the body; leaving them ends the request. `wait` runs around each read. */
function piecesOf(
  answer: Answer,
  wait: <T>(read: Promise<T>) => Promise<T> = (read) => read,
): AsyncIterable<Uint8Array> {
  const reader = answer.response.body?.getReader();
  return pulled<Uint8Array>({
    next: async () => {
      for (;;) {
        const read = reader?.read() ?? Promise.resolve({ done: true, value: undefined } as const);
        const { done, value } = await wait(read).catch((cause: unknown) => {
          throw isWarrenError(cause) ? cause : answer.failed(cause);
        });
        if (done) return null;
        if (value.length > 0) return value;
      }
    },
    over: (how) => {
      if (how !== "ended") answer.abort(new WarrenError("cancelled", "the answer was left"));
      answer.over();
    },
  });
}

async function wholeOf(answer: Answer): Promise<unknown> {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let bytes = 0;
  for await (const piece of piecesOf(answer)) {
    bytes += piece.length;
    if (bytes > JSON_BYTES) throw notOurs(`more than ${JSON_BYTES} bytes of JSON`);
    parts.push(decoder.decode(piece, { stream: true }));
  }
  return jsonOf(parts.join("") + decoder.decode());
}

/** Rejects when `read` takes longer than a server is ever silent. */
function audible(clock: Clock): <T>(read: Promise<T>) => Promise<T> {
  return (read) =>
    new Promise((resolve, reject) => {
      const silent = () =>
        reject(new WarrenError("connection_failed", `the server was silent for ${LIMITS.clientSilenceMs} ms`));
      const cancel = clock.after(LIMITS.clientSilenceMs, silent, { background: true });
      read.then(resolve, reject).finally(cancel);
    });
}

function eventsOf(answer: Answer, codec: EventCodec, clock: Clock): AsyncIterable<unknown> {
  const pieces = piecesOf(answer, audible(clock))[Symbol.asyncIterator]();
  const blocks = new BlockReader(LIMITS.cellBytes);
  let ready: Iterator<{ readonly event: string; readonly data: string }> = [][Symbol.iterator]();
  return pulled<unknown>({
    next: async () => {
      for (;;) {
        for (let block = ready.next(); block.done !== true; block = ready.next()) {
          const event = codec.decode({ event: block.value.event, data: jsonOf(block.value.data) });
          if (event !== null) return event;
        }
        const { done, value } = await pieces.next();
        if (done === true) return null;
        ready = blocks.take(value);
      }
    },
    over: () => void pieces.return?.(),
  });
}

/** Roughly: a newer server may say more, and name states that are not known here, but what has to be there is. */
function fits(schema: TSchema, value: unknown): boolean {
  if (schema[Kind] === "Array")
    return Array.isArray(value) && value.every((item) => fits(schema["items"] as TSchema, item));
  if (schema[Kind] !== "Object") return true;
  const required = (schema["required"] ?? []) as string[];
  return typeof value === "object" && value !== null && required.every((key) => Object.hasOwn(value, key));
}

/** What the caller of the row gets. @throws {WarrenError} `connection_failed` – it breaks off, or is not what the row answers */
export async function answered(request: RowRequest, answer: Answer, clock: Clock): Promise<unknown> {
  const { returns } = request.row;
  const { output, events } = wireOf(request.name);
  if (returns === "bytes") return piecesOf(answer);
  if (events !== null) {
    const type = answer.response.headers.get("content-type") ?? "";
    if (type.startsWith("text/event-stream")) return eventsOf(answer, events, clock);
    for await (const _ of piecesOf(answer)) break;
    throw notOurs(`a stream of events was asked for, and ${type === "" ? "nothing" : type} came`);
  }
  if (returns === "nothing") {
    for await (const _ of piecesOf(answer)); // so that the connection can be used again
    return undefined;
  }
  const value = await wholeOf(answer);
  if (output === null) return value;
  if (!fits(output.schema, value)) throw notOurs("its answer is of another shape");
  return output.decode(value);
}
