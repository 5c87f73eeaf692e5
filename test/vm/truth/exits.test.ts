/**
 * When a VMM ended, as the kernel writes it down, against CLOCK_MONOTONIC on both sides of its end: never later than the truth,
 * and 30 ms earlier at most, whoever was killed.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { EXITS, parseExits, readVmmEnd } from "../../../src/host/jail/exits.ts";
import { hostClock } from "../../../src/host/slots/host-clock.ts";
import { startTicksOf } from "../../../src/host/slots/process-name.ts";
import { gate } from "../../harness/gates.ts";
import { expectNoLeaks, type Traces, traces } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { type Jail, JailGround } from "../jail-ground.ts";

/** What a record may lack of the truth: a tick of 10 ms, and the time in which the process is made and unmade. */
const SHORT_MS = 30;

let ground: JailGround;
let before: Traces;

function vmmOf(jail: Jail): number {
  const { pid } = jail.jailed;
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim());
}

function exitsOf(jail: Jail): string {
  return join(jail.lease.socketDir, EXITS);
}

/** Ends it by `kill` and says how the kernel's word compares with clocks read right before and right after. */
async function endedBy(jail: Jail, kill: (jail: Jail) => void): Promise<void> {
  const fromMs = hostClock.monotonicMs();
  kill(jail);
  const { end } = await jail.jailed.exited;
  const toMs = hostClock.monotonicMs();
  expect(end?.atMs).toBeLessThanOrEqual(toMs);
  expect(end?.atMs).toBeGreaterThanOrEqual(fromMs - SHORT_MS);
}

if (gate("root", "gcc")) {
  describe("The kernel's word on a VMM's end", () => {
    beforeAll(async () => {
      ground = await JailGround.make();
      await (await ground.start(["list=/"])).end(); // what is opened once and kept is open now
    }, 60_000);
    afterAll(() => ground[Symbol.asyncDispose]());
    beforeEach(() => {
      before = traces(ground.home);
    });
    afterEach(() => expectNoLeaks(before, ground.home));

    test("is there when the VMM, the jail's first process, or both are killed, and when it is asked to end", async () => {
      const ways: ((jail: Jail) => void)[] = [
        (jail) => process.kill(vmmOf(jail), "SIGKILL"),
        (jail) => process.kill(jail.jailed.pid, "SIGKILL"),
        (jail) => void jail.jailed.kill(),
        (jail) => jail.jailed.setDeadline(1n),
      ];
      for (const way of ways) {
        const jail = await ground.start(["hold"]);
        expect(jail.jailed.exitsMissing).toBeNull();
        await endedBy(jail, way);
        await jail.end();
      }
    }, 20_000);

    test("begins to count no earlier than the VMM is made, and no later", async () => {
      const fromMs = hostClock.monotonicMs();
      const jail = await ground.start(["hold"]);
      const toMs = hostClock.monotonicMs();
      expect(jail.jailed.startMs).toBeGreaterThanOrEqual(fromMs);
      expect(jail.jailed.startMs).toBeLessThanOrEqual(toMs);
      await jail.end();
    });

    test("is of each process once, of the first twice, and of nobody before", async () => {
      const jail = await ground.start(["hold"]);
      expect(statSync(exitsOf(jail))).toMatchObject({ size: 0, mode: 0o100600, uid: 0, gid: 0 });
      process.kill(jail.jailed.pid, "SIGKILL");
      await jail.jailed.exited;
      expect(parseExits(readFileSync(exitsOf(jail))).map(({ pid }) => pid)).toEqual([1, 2, 1]);
      await jail.end();
    });

    test("is there for whoever comes later, when all who could have seen it were killed with it", async () => {
      const script = join(import.meta.dir, "../jail-owner.ts");
      const owner = Bun.spawn([process.execPath, script, ground.home, ground.root, "detached"], {
        ...{ stdin: "ignore", stdout: "pipe", stderr: "inherit" },
      });
      const { value } = await owner.stdout.getReader().read();
      const ref = JSON.parse(new TextDecoder().decode(value));
      owner.kill("SIGKILL");
      const fromMs = hostClock.monotonicMs();
      process.kill(ref.pid, "SIGKILL");
      await until("the jail is gone", () => startTicksOf(ref.pid) !== ref.startTicks);
      const toMs = hostClock.monotonicMs();
      const end = readVmmEnd(join(ref.socketDir, EXITS), ref.startMs);
      expect(end?.atMs).toBeGreaterThanOrEqual(fromMs - SHORT_MS);
      expect(end?.atMs).toBeLessThanOrEqual(toMs);
      await owner.exited;
      await ground.host.sweep();
    }, 20_000);
  });
}
