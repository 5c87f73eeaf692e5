/** A request to a port and its answer over one connection of the handle's own, for runtimes whose clients cannot be given one. */
import { WarrenError } from "../../../errors.ts";
import { hostOf } from "../address.ts";
import { dialPort, type PortTarget } from "../splice.ts";
import { requestBytes } from "./request.ts";
import { answerOf } from "./response.ts";

export interface Dialed {
  readonly response: Response;
  /** Why it broke; null while it has not. */
  readonly failure: () => unknown;
  /** Ends all of it. Twice is fine. */
  readonly end: () => void;
}

/** Of these a `Response` may have no body. */
const EMPTY: ReadonlySet<number> = new Set([204, 205, 304]);

/** A failure is thrown as what broke it. @throws {WarrenError} as `dial` says; `guest_protocol` – the answer is no HTTP */
export async function exchangeOver(target: PortTarget, url: URL, init: RequestInit): Promise<Dialed> {
  const over = new AbortController();
  const signal = init.signal ?? undefined;
  const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  const request = await requestBytes(url, init, hostOf(target.port));
  const pieces = await dialPort(target, request, either);
  let failure: unknown = null;
  const end = (): void => over.abort(new WarrenError("cancelled", "the exchange is over"));
  try {
    const { status, statusText, headers, body } = await answerOf(pieces, (init.method ?? "GET").toUpperCase());
    const failed = (cause: unknown): void => {
      failure = cause;
    };
    const isEmpty = body === null || EMPTY.has(status);
    if (isEmpty) end();
    const stream = isEmpty ? null : streamOf(body, failed, end);
    return { response: new Response(stream, { status, statusText, headers }), failure: () => failure, end };
  } catch (cause) {
    end();
    throw cause;
  }
}

/** Pieces as they are asked for. */
function streamOf(
  body: AsyncIterable<Uint8Array>,
  failed: (cause: unknown) => void,
  end: () => void,
): ReadableStream<Uint8Array> {
  const pieces = body[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await pieces.next();
          if (done !== true) return controller.enqueue(value);
          controller.close();
          end();
        } catch (cause) {
          failed(cause);
          controller.error(cause);
          end();
        }
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
}
