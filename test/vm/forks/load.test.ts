/**
 * Forks of a guest that writes hard: memory, device state and disk of each child are of one instant, its log and its database
 * are whole from the disk, and `e2fsck -fn` of its disk, in another guest, finds nothing. Each with a control that a torn
 * fork does not pass. FORKS is how many (default 8; the recorded run takes 50).
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import type { ForkPoint } from "../../../src/engine/fork/checkpoint.ts";
import { machineFacts, record } from "../../bench/record.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { Ground, type Guest, say } from "./ground.ts";
import { CHECK, LOAD } from "./programs.ts";

/** From so many on it is the recorded run, which appends its line to test/bench/results.ndjson. */
const RECORDED = 50;
const FORKS = Number(process.env["FORKS"] ?? 8);
/** A torn child hangs or answers within this. */
const TORN_MS = 15_000;
const TORN_TRIES = 4;
const WHOLE = { went: true, damaged: 0, whole: true, lost: 0, ahead: 0, gap: 0, kernel: "0" };

if (gate("vm")) {
  guardLeaks("base");

  describe("A guest that writes hard", () => {
    let warren: Warren;
    let ground: Ground;
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
      await warren.engine.prepare({ template: "base" });
      ground = new Ground(warren);
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    const counted = async ({ body }: Guest): Promise<number> =>
      Number(await say(body.agent, ["cat", "/run/rows"]).catch(() => "NaN"));

    async function loaded(undo: AsyncDisposableStack): Promise<Guest> {
      const guest = await ground.boot(undo, { template: "base" });
      const { agent } = guest.body;
      await agent.writeFile({ path: "/root/load.py", body: LOAD });
      await agent.writeFile({ path: "/root/check.py", body: CHECK });
      await say(agent, { argv: ["python3", "/root/load.py"], background: true, timeoutSeconds: 3000 });
      const there = ["sh", "-c", "test -e /run/log && test -e /run/rows && echo yes"];
      await until("the load counts", async () => (await say(agent, there)) === "yes\n");
      return guest;
    }

    /** What the check says in a child; text where it did not come so far. */
    async function look(parent: Guest, point: ForkPoint, deadlineMs?: number): Promise<unknown> {
      await using undo = new AsyncDisposableStack();
      const signal = deadlineMs === undefined ? undefined : AbortSignal.timeout(deadlineMs);
      try {
        const child = await ground.child(undo, parent, point, signal);
        const timeoutSeconds = Math.ceil((deadlineMs ?? 100_000) / 1000);
        const said = await say(child.body.agent, { argv: ["python3", "/root/check.py"], timeoutSeconds });
        return JSON.parse(said);
      } catch (cause) {
        if (deadlineMs === undefined) throw cause;
        return String(cause);
      }
    }

    test(
      `is whole in every child, memory and disk, over ${FORKS} forks`,
      async () => {
        await using undo = new AsyncDisposableStack();
        const parent = await loaded(undo);
        const checker = await ground.boot(undo, { template: "base" });
        const pauses: number[] = [];
        for (let i = 0; i < FORKS; i++) {
          const before = await counted(parent);
          const point = await ground.point(parent);
          undo.defer(() => point.release());
          expect(await look(parent, point)).toEqual(WHOLE);
          const { code, says } = await ground.checkDisk(checker, point);
          expect({ code, says }).toEqual({ code: 0, says: expect.stringContaining("Pass 5") });
          pauses.push(point.pauseMs);
          point.release();
          await until("the parent goes on", async () => (await counted(parent)) > before);
        }
        expect(JSON.parse(await say(parent.body.agent, ["python3", "/root/check.py"]))).toEqual(WHOLE);
        const pauseMs = Math.max(...pauses);
        if (FORKS >= RECORDED)
          record({
            bench: "forks under load",
            forks: FORKS,
            damaged: 0,
            e2fsck: 0,
            pauseMs,
            ...(await machineFacts()),
          });
      },
      FORKS * 20_000 + VM_TEST_MS,
    );

    test(
      "is not whole in a child whose disk or memory is of another instant",
      async () => {
        await using undo = new AsyncDisposableStack();
        const parent = await loaded(undo);
        const later = async (): Promise<void> => {
          const before = await counted(parent);
          await until("the load goes on", async () => (await counted(parent)) > before + 60);
        };
        for (const kind of ["disk first", "disk last", "memory first"] as const) {
          // A child may write over what was torn before it is looked at: that this shows is likely each time, not certain.
          let seen: unknown = WHOLE;
          for (let tries = 0; tries < TORN_TRIES && Bun.deepEquals(seen, WHOLE); tries++) {
            const point = await ground.faulty(parent, { kind, between: later });
            seen = await look(parent, point, TORN_MS).finally(() => point.release());
          }
          expect({ kind, seen }).not.toEqual({ kind, seen: WHOLE });
        }
      },
      4 * VM_TEST_MS,
    );

    test(
      "leaves a disk that e2fsck finds fault with when it is not frozen",
      async () => {
        await using undo = new AsyncDisposableStack();
        const parent = await loaded(undo);
        const checker = await ground.boot(undo, { template: "base" });
        const codes: number[] = [];
        for (let i = 0; i < 3; i++) {
          const point = await ground.faulty(parent, { kind: "no freeze" });
          codes.push((await ground.checkDisk(checker, point).finally(() => point.release())).code);
        }
        expect(Math.max(...codes)).toBeGreaterThan(0);
      },
      VM_TEST_MS,
    );
  });
}
