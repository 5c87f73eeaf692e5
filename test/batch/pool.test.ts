/** The pool of lanes: bounds, order, and an end in every case. */
import { describe, expect, test } from "bun:test";
import { pooled, type Unit } from "../../src/batch/pool.ts";

async function* units(count: number, size = 1): AsyncGenerator<Unit<number>> {
  for (let i = 0; i < count; i++) yield { first: i * size, work: size };
}

const options = { concurrency: 3, window: 6, ordered: true };

describe("pooled", () => {
  test("pooled gives results of units of many pieces in order, or as they come", async () => {
    const worker = async ({ first, work }: Unit<number>, emit: (index: number, result: number) => void) => {
      for (let i = 0; i < work; i++) {
        // Later units are quicker: out of order unless it is asked for.
        for (let turn = 0; turn < 50 - first; turn++) await Promise.resolve();
        emit(first + i, first + i);
      }
    };
    const ordered = await Array.fromAsync(pooled(units(10, 3), worker, options));
    expect(ordered).toEqual(Array.from({ length: 30 }, (_, i) => i));
    const loose = await Array.fromAsync(pooled(units(10, 3), worker, { ...options, ordered: false }));
    expect(loose).not.toEqual(ordered);
    expect(loose.sort((a, b) => a - b)).toEqual(ordered);
  });

  test("pooled ends with what a unit threw, after every lane has ended", async () => {
    let ended = 0;
    const worker = async ({ first }: Unit<number>, _: unknown, signal: AbortSignal) => {
      if (first === 2) throw new Error("unit 2");
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      ended += 1;
    };
    await expect(Array.fromAsync(pooled(units(9), worker, options))).rejects.toThrow("unit 2");
    expect(ended).toBe(2);
  });

  test("pooled ends with what its source threw", async () => {
    async function* broken(): AsyncGenerator<Unit<number>> {
      yield { first: 0, work: 1 };
      throw new Error("the source");
    }
    const worker = async ({ first }: Unit<number>, emit: (index: number, result: number) => void) => emit(first, first);
    await expect(Array.fromAsync(pooled(broken(), worker, options))).rejects.toThrow("the source");
  });

  test("pooled ends at an abort though its source waits for something that never comes", async () => {
    async function* silent(): AsyncGenerator<Unit<number>> {
      await new Promise(() => undefined);
    }
    const stop = new AbortController();
    const rows = Array.fromAsync(pooled(silent(), async () => undefined, { ...options, signal: stop.signal }));
    stop.abort(new Error("enough"));
    await expect(rows).rejects.toThrow("enough");
    await expect(
      Array.fromAsync(
        pooled(silent(), async () => undefined, { ...options, signal: AbortSignal.abort(new Error("before")) }),
      ),
    ).rejects.toThrow("before");
  });

  test("pooled stops its lanes and its source when the reader leaves", async () => {
    let closed = false;
    async function* source(): AsyncGenerator<Unit<number>> {
      try {
        yield* units(1000);
      } finally {
        closed = true;
      }
    }
    let running = 0;
    const worker = async ({ first }: Unit<number>, emit: (index: number, result: number) => void) => {
      running += 1;
      emit(first, first);
      await Promise.resolve();
      running -= 1;
    };
    for await (const index of pooled(source(), worker, options)) if (index === 10) break;
    expect([closed, running]).toEqual([true, 0]);
  });
});
