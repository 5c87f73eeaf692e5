/** The body of a request: bytes at once, or a stream that is read as fast as the server takes it. */
import type { Body } from "../contract/route.ts";
import { WarrenError } from "../errors.ts";
import { LIMITS } from "../limits.ts";

export interface Upload {
  readonly body: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
  /** It can be sent once only. */
  readonly isStream: boolean;
  /** What broke the source; null while nothing has. */
  failure(): { readonly cause: unknown } | null;
  /** Nothing more is read of it. Twice is fine. */
  leave(): void;
}

function whole(body: Uint8Array | string): Upload {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : (body as Uint8Array<ArrayBuffer>);
  return { body: bytes, isStream: false, failure: () => null, leave: () => undefined };
}

function streamed(source: AsyncIterable<Uint8Array>, progress: () => void): Upload {
  const pieces = source[Symbol.asyncIterator]();
  let failure: { readonly cause: unknown } | null = null;
  let isOver = false;
  const leave = (): void => {
    if (isOver) return;
    isOver = true;
    void leaving(pieces);
  };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          // An empty piece would say nothing, and must not be taken for the end.
          let next = await pieces.next();
          while (next.done !== true && next.value.length === 0) next = await pieces.next();
          progress();
          if (next.done !== true) return controller.enqueue(next.value);
          isOver = true;
          controller.close();
        } catch (cause) {
          isOver = true;
          failure = { cause };
          controller.error(cause);
        }
      },
      cancel: leave,
    },
    { highWaterMark: 0 },
  );
  return { body, isStream: true, failure: () => failure, leave };
}

async function leaving(pieces: AsyncIterator<Uint8Array>): Promise<void> {
  try {
    await pieces.return?.();
  } catch {
    // Who leaves a source has no use for how it ends.
  }
}

/** @throws {WarrenError} `too_large` – where requests cannot be streamed; what `source` throws */
async function collected(source: AsyncIterable<Uint8Array>): Promise<Upload> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of source) {
    bytes += part.length;
    if (bytes > LIMITS.clientUploadBytes) {
      const says = `here a request cannot be streamed, and this one is larger than ${LIMITS.clientUploadBytes} bytes`;
      throw new WarrenError("too_large", says, { details: { maxBytes: LIMITS.clientUploadBytes } });
    }
    parts.push(part.slice());
  }
  return whole(new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer()));
}

/** `progress` is told of each piece that is asked for. @throws as `collected` says */
export async function uploadOf(body: Body, streams: boolean, progress: () => void): Promise<Upload> {
  if (typeof body === "string" || body instanceof Uint8Array) return whole(body);
  return streams ? streamed(body, progress) : collected(body);
}
