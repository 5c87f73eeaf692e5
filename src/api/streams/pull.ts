/**
 * A response body out of an async iterable, read only as fast as the client takes it: one piece is asked for when the one
 * before has left. A client that is gone, or that takes nothing for minutes, ends the source.
 */
import type { Clock } from "../../base/clock.ts";
import { isWarrenError } from "../../errors.ts";
import { BOUNDS } from "../bounds.ts";

export interface PullOptions {
  readonly clock: Clock;
  /** Aborted when the client is gone, which the runtime tells no body that it has not begun to send. */
  readonly gone: AbortSignal;
  /** Ends what the source waits for, which leaving it could not. */
  readonly abort: (why: Error) => void;
  /** When the body is over, however it ended. */
  readonly done: () => void;
  /** What to send when nothing came for `pingMs`; null: nothing. */
  readonly ping?: { readonly everyMs: number; readonly bytes: Uint8Array };
  /** What to send at once: without a first byte the runtime keeps back the head too. */
  readonly first?: Uint8Array;
  /** What to send for a failure; left out: the connection is cut, since the status was told already. */
  readonly failed?: (cause: unknown) => Uint8Array;
}

type Read = IteratorResult<Uint8Array> | "ping" | { readonly failure: unknown };

export function pulled(source: AsyncIterator<Uint8Array>, options: PullOptions): ReadableStream<Uint8Array> {
  const { clock, gone, abort, done, ping, failed, first } = options;
  let next: Promise<Read> | null = null;
  let cancelStall = (): void => undefined;
  let over = false;
  const finish = () => {
    if (over) return;
    over = true;
    cancelStall();
    gone.removeEventListener("abort", left);
    done();
  };
  const left = () => {
    // A server that ends has the source say so, to whoever is still there.
    if (!isWarrenError(gone.reason, "shutting_down")) leave(new Error("the client is gone"));
  };
  const leave = (why: Error) => {
    if (over) return;
    finish();
    abort(why);
    // A source that was told to end has nothing to say any more.
    Promise.resolve(source.return?.()).catch(() => undefined);
  };
  if (gone.aborted) left();
  else gone.addEventListener("abort", left, { once: true });
  const read = async (): Promise<Read> => {
    next ??= source.next().catch((failure: unknown) => ({ failure }));
    const got = ping === undefined ? await next : await within(clock, ping.everyMs, next);
    if (got !== "ping") next = null;
    return got;
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (first !== undefined) controller.enqueue(first);
      },
      async pull(controller) {
        cancelStall();
        const got = await read();
        if (over) return;
        if (got === "ping") controller.enqueue(ping?.bytes ?? new Uint8Array());
        else if ("failure" in got) {
          finish();
          if (failed === undefined) return controller.error(got.failure);
          controller.enqueue(failed(got.failure));
          controller.close();
        } else if (got.done === true) {
          finish();
          controller.close();
        } else controller.enqueue(got.value);
        if (over) return;
        const stalled = () => {
          leave(new Error("the reader takes nothing"));
          controller.error(new Error("the reader takes nothing"));
        };
        cancelStall = clock.after(BOUNDS.stallMs, stalled, { background: true });
      },
      cancel(reason) {
        leave(reason instanceof Error ? reason : new Error("the client is gone"));
      },
    },
    { highWaterMark: 0 },
  );
}

/** What comes first. The promise stays good for the next time. */
export async function within<T>(clock: Clock, ms: number, promise: Promise<T>): Promise<T | "ping"> {
  const { promise: late, resolve } = Promise.withResolvers<"ping">();
  const cancel = clock.after(ms, () => resolve("ping"), { background: true });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel();
  }
}
