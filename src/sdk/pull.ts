/**
 * A stream that is read one piece at a time, when it is asked for the next, and can be left at any instant: before the first
 * piece and while one is awaited too, which a generator could not.
 */

export interface Source<T> {
  /** The next piece; null at the end. Never called twice at once. */
  next(): Promise<T | null>;
  /** Called once: after the end, a failure, or when it is left before. */
  over(how: "ended" | "failed" | "left"): void;
}

/** One reader may read it, once. */
export function pulled<T>(source: Source<T>): AsyncIterable<T> {
  let isOver = false;
  let turn: Promise<unknown> = Promise.resolve();
  const done: IteratorReturnResult<undefined> = { done: true, value: undefined };
  const end = (how: "ended" | "failed" | "left"): void => {
    if (isOver) return;
    isOver = true;
    source.over(how);
  };
  const read = async (): Promise<IteratorResult<T, undefined>> => {
    if (isOver) return done;
    try {
      const value = await source.next();
      if (isOver) return done;
      if (value !== null) return { done: false, value };
      end("ended");
      return done;
    } catch (cause) {
      if (isOver) return done; // it was left: what breaks then is of no interest
      end("failed");
      throw cause;
    }
  };
  const iterator: AsyncIterator<T, undefined> = {
    next: () => {
      const result = turn.then(read);
      turn = result.catch(() => undefined); // told to whoever asked for it
      return result;
    },
    return: async () => {
      end("left");
      return done;
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
