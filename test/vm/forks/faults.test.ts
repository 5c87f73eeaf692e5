/**
 * Forks that are cut short: aborted at any instant, the VMM killed under them, the owner killed. The parent lives or is
 * cleanly gone, and nothing is left. FORK_ABORTS (default 20) and FORK_KILLS (default 8; the recorded run takes 30) are how often.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { systemClock } from "../../../src/base/clock.ts";
import type { Warren } from "../../../src/compose.ts";
import { isWarrenError } from "../../../src/errors.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { machineFacts, record } from "../../bench/record.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../../harness/leaks.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

/** From so many on it is the recorded run, which appends its line to test/bench/results.ndjson. */
const RECORDED = 30;
const ABORTS = Number(process.env["FORK_ABORTS"] ?? 20);
const KILLS = Number(process.env["FORK_KILLS"] ?? 8);
const VMM_KILLS = 6;
/** From nothing made yet to several forks deep. */
const LONGEST_MS = 2_500;

/** Spread evenly over [0, 1), the same in every run. */
function spread(n: number): number {
  return (n * 0.618_033_988_75 + 0.414_213_562_37) % 1;
}

/** What became of a fork; no other error than one of ours. */
async function outcome(job: Promise<Sandbox[]>): Promise<{ readonly children: Sandbox[]; readonly code: string }> {
  try {
    return { children: await job, code: "forked" };
  } catch (cause) {
    if (!isWarrenError(cause)) throw cause;
    return { children: [], code: cause.code };
  }
}

async function killVmm(warren: Warren, { id }: Sandbox): Promise<void> {
  const init = (await warren.host.registry.get(id))?.ref.pid;
  const vmm = readFileSync(`/proc/${init}/task/${init}/children`, "utf8").trim().split(" ")[0];
  process.kill(Number(vmm), "SIGKILL");
}

async function killOwner(n: number): Promise<void> {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/fork-child.ts`], {
    env: { ...process.env, WARREN_HOME: TEST_HOME },
    stdout: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  expect(new TextDecoder().decode(value)).toStartWith("go");
  await systemClock.sleep(spread(n) * LONGEST_MS);
  child.kill("SIGKILL");
  await child.exited;
  await reader.cancel();
}

if (gate("vm")) {
  guardLeaks("base");

  describe("A fork that is cut short", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
      await warren.engine.prepare({ template: "base" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());
    const create = () => Sandbox.create({ template: "base" }, warren.sandboxes);

    /** Forks and closes what came of it; how long the fork took. */
    async function whole(parent: Sandbox): Promise<number> {
      const startMs = systemClock.monotonicMs();
      const children = await parent.forks(2);
      const ms = systemClock.monotonicMs() - startMs;
      for (const child of children) expect((await child.exec("cat /root/f")).stdout).toBe("kept\n");
      await Promise.all(children.map((child) => child.close()));
      return ms;
    }

    test(
      `by its caller, ${ABORTS} times, leaves the parent and nothing else`,
      async () => {
        await using parent = await create();
        await parent.exec("echo kept >/root/f");
        const fastestMs = Math.min(await whole(parent), await whole(parent));
        const codes: string[] = [];
        for (let n = 0; n < ABORTS; n++) {
          const before = traces(TEST_HOME);
          const signal = AbortSignal.timeout(Math.floor(spread(n) * fastestMs));
          const { children, code } = await outcome(parent.forks(2, { signal }));
          await Promise.all(children.map((child) => child.close()));
          codes.push(code);
          expect((await parent.exec("cat /root/f")).stdout).toBe("kept\n");
          // What was captured before the abort is the parent's memory from then on; at times layers are merged as well.
          const layer = "descriptor /memfd:warren-layer (deleted)";
          await expectNoLeaks([...before, layer, layer], TEST_HOME);
        }
        expect(new Set(codes)).toContain("cancelled");
        expect((await Sandbox.list({ state: "running" }, warren.sandboxes)).map(({ id }) => id)).toEqual([parent.id]);
        await whole(parent);
        expect(traces(TEST_HOME).filter((line) => line.includes("warren-layer")).length).toBeLessThanOrEqual(
          LIMITS.layerDepth,
        );
      },
      VM_TEST_MS,
    );

    test(
      "by the end of its VMM is a typed error, and others live on",
      async () => {
        await using other = await create();
        const codes: string[] = [];
        const before = traces(TEST_HOME);
        for (let n = 0; n < VMM_KILLS; n++) {
          await using parent = await create();
          await parent.exec("echo kept >/root/f; head -c 60000000 /dev/urandom >/run/dirt");
          const fork = outcome(parent.forks(1));
          await systemClock.sleep((n / VMM_KILLS) * 150);
          await killVmm(warren, parent);
          const { children, code } = await fork;
          codes.push(code);
          for (const child of children) {
            expect((await child.exec("cat /root/f")).stdout).toBe("kept\n"); // it was taken before
            await child.close();
          }
          expect((await outcome(parent.forks(1))).code).toMatch(/^(wrong_state|sandbox_lost)$/);
        }
        expect(codes.filter((code) => code !== "forked").length).toBeGreaterThan(0);
        for (const code of codes) expect(code).toMatch(/^(forked|driver_failed|sandbox_lost|guest_unresponsive)$/);
        expect((await other.exec(["/bin/true"])).exitCode).toBe(0);
        await expectNoLeaks(before, TEST_HOME);
      },
      VM_TEST_MS,
    );
  });

  test(
    `An owner that is killed while it forks leaves nothing that the next start does not remove, ${KILLS} times`,
    async () => {
      const before = traces(TEST_HOME);
      for (let n = 0; n < KILLS; n++) {
        await killOwner(n);
        await using _next = await openTestWarren();
        await _next[Symbol.asyncDispose]();
        await expectNoLeaks(before, TEST_HOME, 1_000);
      }
      if (KILLS >= RECORDED) record({ bench: "kills while forking", kills: KILLS, left: 0, ...(await machineFacts()) });
    },
    KILLS * 20_000,
  );
}
