/** The batch over the real engine on a fake driver: lifecycle, retries, bills and clean ends as they are in earnest. */
import { describe, expect, test } from "bun:test";
import { type BatchOptions, type BatchParts, batch } from "../../src/batch/batch.ts";
import { Bill } from "../../src/batch/bill.ts";
import type { Item } from "../../src/batch/items/item.ts";
import type { Row } from "../../src/batch/row.ts";
import { WarrenError } from "../../src/errors.ts";
import { World } from "../harness/fakes.ts";

async function over(
  world: World,
  items: readonly Item[],
  options: BatchOptions = {},
): Promise<{ rows: Row[]; bill: Bill }> {
  await using engine = world.engine();
  const bill = new Bill();
  const parts: BatchParts = {
    host: engine.as("local"),
    moves: (listener) => engine.moves.subscribe(listener),
    cores: 2,
    bill,
  };
  return { rows: await Array.fromAsync(batch(parts, items, options)), bill };
}

const numbered = (count: number, cmd: (id: number) => string) =>
  Array.from({ length: count }, (_, id) => ({ id, cmd: cmd(id) }));

describe("batch over the engine", () => {
  test("batch runs each item in a machine of its own, in order, and leaves nothing", async () => {
    const world = new World();
    const { rows } = await over(
      world,
      numbered(40, (id) => `echo ${id}; exit ${id % 3}`),
      { concurrency: 6 },
    );
    expect(rows.map((row) => [row.id, row.stdout, row.exit_code])).toEqual(
      Array.from({ length: 40 }, (_, id) => [id, `${id}\n`, id % 3]),
    );
    expect(world.host.made).toBe(40);
    world.expectNothingLeft();
  });

  test("batch charges rows and totals from the engine's own moves", async () => {
    const world = new World();
    const { rows, bill } = await over(
      world,
      numbered(5, () => "sleep 0.05"),
    );
    const { usd, vcpuSeconds, gibSeconds } = bill.totals();
    expect(vcpuSeconds).toBeGreaterThanOrEqual(0.25);
    expect(gibSeconds).toBeCloseTo(vcpuSeconds / 2, 9);
    expect(rows.reduce((sum, row) => sum + row.cost_usd, 0)).toBeCloseTo(usd, 8);
  });

  test("batch tries again when machines do not start, and tells when they never do", async () => {
    let prepared = 0;
    const flaky = new World(undefined, {
      vmm: (step) => {
        if (step === "prepare" && ++prepared % 2 === 1) throw new WarrenError("driver_failed", "no luck");
      },
    });
    const { rows } = await over(
      flaky,
      numbered(4, (id) => `echo ${id}`),
      { concurrency: 1 },
    );
    expect(rows.map((row) => row.ok)).toEqual([true, true, true, true]);
    flaky.expectNothingLeft();

    const never = new World(undefined, {
      vmm: (step) => {
        if (step === "load") throw new WarrenError("driver_failed", "never");
      },
    });
    const failed = await over(
      never,
      numbered(2, () => "echo x"),
      { retry: 0 },
    );
    expect(failed.rows.map((row) => [row.ok, row.error?.startsWith("no sandbox could be created")])).toEqual([
      [false, true],
      [false, true],
    ]);
    never.expectNothingLeft();
  });

  test("batch makes a row of a machine that dies under its program, and the others go on", async () => {
    const world = new World();
    const rows = over(
      world,
      numbered(6, (id) => (id === 2 ? "echo half; sleep 30" : `echo ${id}`)),
      { concurrency: 2 },
    );
    const stop = setInterval(() => {
      // The only one that is still there after a while is the one that sleeps.
      const alive = [...world.driver.machines.values()];
      if (world.host.made === 6 && alive.length === 1) alive[0]?.die({ reason: "vmm_exit", code: 1 });
    }, 20);
    try {
      const { rows: done } = await rows;
      expect(done.map((row) => row.ok)).toEqual([true, true, false, true, true, true]);
      expect(done[2]).toMatchObject({ exit_code: null, stdout: "half\n" });
      expect(done[2]?.error).toContain("while it ran");
    } finally {
      clearInterval(stop);
    }
    world.expectNothingLeft();
  });

  test("batch stops at an abort in the middle of everything and leaves nothing", async () => {
    for (const afterRows of [0, 1, 5]) {
      const world = new World();
      const stop = new AbortController();
      const engine = world.engine();
      const parts = { host: engine.as("local"), moves: () => () => undefined, cores: 2 };
      const items = numbered(30, (id) => (id < 6 ? `echo ${id}` : "sleep 30"));
      const rows = batch(parts, items, { concurrency: 8, signal: stop.signal });
      for (let i = 0; i < afterRows; i++) await rows.next();
      const next = rows.next();
      stop.abort(new WarrenError("cancelled", "enough"));
      await next.catch(() => undefined); // a row that was ready, or the abort
      await expect(Array.fromAsync(rows)).resolves.toEqual([]);
      await engine.close();
      world.expectNothingLeft();
    }
  });
});
