/** One connection to a port of a sandbox, as standard streams. */
import { WarrenError } from "../../errors.ts";
import { piecesOf } from "./http/request.ts";
import { dialPort, type PortTarget } from "./splice.ts";

export interface PortConnection {
  /** What the program in the sandbox sends; cancelling it resets the connection. */
  readonly readable: ReadableStream<Uint8Array>;
  /** What is sent to it, as fast as it reads; closing it ends this direction alone. */
  readonly writable: WritableStream<Uint8Array>;
  /** Ends both directions at once; what is under way is lost. Twice is fine. */
  close(): void;
}

/** @throws {WarrenError} `wrong_state` – nothing listens there; what listens is in `details.listening`; as `dial` says */
export async function connectPort(target: PortTarget, signal?: AbortSignal): Promise<PortConnection> {
  const over = new AbortController();
  let outgoing: TransformStreamDefaultController<Uint8Array> | null = null;
  const { readable: body, writable } = new TransformStream<Uint8Array, Uint8Array>({
    start: (controller) => {
      outgoing = controller;
    },
  });
  const fail = (cause: unknown): void => outgoing?.error(cause);
  const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  const pieces = (await dialPort(target, chunksOf(body), either))[Symbol.asyncIterator]();
  const readable = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = await pieces.next();
          if (done === true) controller.close();
          else controller.enqueue(value);
        } catch (cause) {
          fail(cause);
          if (over.signal.aborted) controller.close();
          else controller.error(cause);
        }
      },
      cancel: async () => {
        fail(new WarrenError("cancelled", "the connection's reader has left"));
        await pieces.return?.();
      },
    },
    { highWaterMark: 0 },
  );
  const close = (): void => {
    const closed = new WarrenError("cancelled", "the connection was closed");
    over.abort(closed);
    fail(closed);
    // Without this nothing would happen while nobody reads. What is being read ends with the abort.
    void (async () => pieces.return?.())().catch(() => undefined);
  };
  return { readable, writable, close };
}

async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of piecesOf(stream)) if (chunk.length > 0) yield chunk;
}
