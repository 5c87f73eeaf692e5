/** Best of N over forks, on fakes: who wins, who is ended, and what goes wrong on the way. */
import { describe, expect, test } from "bun:test";
import { Sandbox } from "../../src/sandbox.ts";
import { FakeClock } from "../harness/clock.ts";
import { World } from "../harness/fakes.ts";

async function withParent(job: (parent: Sandbox, ids: () => Promise<string[]>) => Promise<void>): Promise<void> {
  const world = new World(new FakeClock());
  const engine = world.engine();
  const host = engine.as("local");
  const parent = await Sandbox.create({}, host);
  const ids = async () => (await host.list({})).map(({ id }) => id).sort();
  await job(parent, ids);
  await world.end(engine);
  world.expectNothingLeft();
  expect([...world.host.openFiles]).toEqual([]);
}

const answering = (value: number) => ({ label: `${value}`, run: async () => value });

describe("Sandbox.explore", () => {
  test("keeps the winner and ends the losers; the parent goes on", async () => {
    await withParent(async (parent, ids) => {
      const seen: string[] = [];
      const result = await parent.explore([answering(3), answering(9), answering(5)], {
        score: (_, { value }) => value as number,
        onOutcome: ({ label }) => seen.push(label),
        concurrency: 2,
      });
      expect(result.winnerOutcome?.label).toBe("9");
      expect(result.outcomes.map(({ score }) => score)).toEqual([3, 9, 5]);
      expect(seen.sort()).toEqual(["3", "5", "9"]);
      expect(result.reaped).toHaveLength(2);
      expect(await ids()).toEqual([parent.id, result.winner!.id].sort());
      expect((await result.winner!.info()).metadata["fork_tree_id"]).toBe(result.treeId);
    });
  });

  test("takes the least when asked to, or whatever a function picks; of equals the first", async () => {
    await withParent(async (parent) => {
      const score = (_: Sandbox, { value }: { value: unknown }) => value as number;
      const least = await parent.explore([answering(3), answering(1)], { score, select: "min" });
      expect(least.winnerOutcome?.label).toBe("1");
      const second = await parent.explore([answering(3), answering(1)], { score, select: (all) => all[1]! });
      expect(second.winnerOutcome?.label).toBe("1");
      const equal = await parent.explore([answering(2), { label: "b", run: async () => 2 }], { score });
      expect(equal.winnerOutcome?.label).toBe("2");
    });
  });

  test("has no winner when nothing succeeds, unless failures may win", async () => {
    const failing = (label: string) => ({
      label,
      run: async () => {
        throw new Error(`${label} is broken`);
      },
    });
    await withParent(async (parent, ids) => {
      const none = await parent.explore([failing("a"), failing("b")]);
      expect(none.winner).toBeNull();
      expect(none.outcomes.map(({ error }) => error)).toEqual(["a is broken", "b is broken"]);
      expect(none.reaped).toHaveLength(2);
      expect(await ids()).toEqual([parent.id]);
      expect((await parent.explore([failing("a")], { allowFailed: true })).winner).not.toBeNull();
    });
  });

  test("tells a score that throws as the candidate's failure", async () => {
    await withParent(async (parent) => {
      const score = (_: Sandbox, { label }: { label: string }) => {
        if (label === "1") throw new Error("no idea");
        return -5;
      };
      const { winnerOutcome, outcomes } = await parent.explore([answering(1), answering(2)], { score });
      expect(winnerOutcome?.label).toBe("2");
      expect(outcomes[0]).toMatchObject({ ok: false, error: "it could not be scored: no idea" });
    });
  });

  test("refuses no candidates, labels used twice, and a candidate that is nothing to run", async () => {
    await withParent(async (parent, ids) => {
      for (const wrong of [[], ["a", "a"], [{ label: "x" }]]) {
        await expect(parent.explore(wrong)).rejects.toMatchObject({ code: "invalid_request" });
      }
      expect(await ids()).toEqual([parent.id]);
    });
  });

  test("ends all children when picking a winner throws", async () => {
    await withParent(async (parent, ids) => {
      const select = () => {
        throw new Error("undecided");
      };
      await expect(parent.explore([answering(1), answering(2)], { select })).rejects.toThrow("undecided");
      expect(await ids()).toEqual([parent.id]);
    });
  });
});

describe("Sandbox.promote", () => {
  test("ends the siblings of one tree only, once; a sandbox of no tree has none", async () => {
    await withParent(async (parent, ids) => {
      const one = await parent.forkTree(2);
      const other = await parent.forkTree(1);
      const promoted = await one.children[0]!.promote({ cleanupSiblings: true });
      expect(promoted).toMatchObject({
        winner: one.children[0]!.id,
        treeId: one.treeId,
        deleted: [one.children[1]!.id],
      });
      expect((await one.children[0]!.promote({ cleanupSiblings: true })).deleted).toEqual([]);
      expect((await parent.promote({ cleanupSiblings: true })).deleted).toEqual([]);
      await expect(parent.promote({ treeId: "x" })).rejects.toMatchObject({ code: "invalid_request" });
      expect(await ids()).toEqual([parent.id, one.children[0]!.id, other.children[0]!.id].sort());
    });
  });
});
