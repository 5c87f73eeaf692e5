/**
 * Whose a sleeping sandbox is: its home's. When its maker is killed it is there for every process, detached or not; one that
 * ends in good order takes along what was not detached. Also what ends it without being asked: idleness, and a full disk not.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../../src/base/clock.ts";
import type { Warren } from "../../../src/compose.ts";
import { availableIn, canReflink } from "../../../src/host/home/disk.ts";
import { runOk } from "../../../src/host/run.ts";
import { Snapshot } from "../../../src/sandbox/snapshots.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { fails } from "../../suites/sandbox/subject.ts";
import { ask, settle, sh, start } from "./world.ts";

const MIB = 2 ** 20;

interface Made {
  readonly id: string;
  readonly pid: number;
}

async function made(kind: "detached" | "bound", ending: "close" | "SIGKILL"): Promise<Made> {
  const child = start("maker.ts", [kind, ending]);
  const said = await new Response(child.stdout).text();
  await child.exited;
  expect(child.signalCode).toBe(ending === "close" ? null : "SIGKILL");
  return JSON.parse(said) as Made;
}

if (gate("vm")) {
  guardLeaks("base");
  describe("A sandbox that sleeps", tests);
}

function tests(): void {
  let warren: Warren;
  beforeAll(async () => {
    warren = await openTestWarren({ prepared: 0 });
    await warren.engine.prepare({ template: "base" });
  }, VM_BAKE_MS);
  afterAll(() => warren[Symbol.asyncDispose]());
  const does = (says: string, body: () => Promise<void>) => test(says, body, VM_TEST_MS);

  for (const [kind, ending] of [
    ["detached", "SIGKILL"],
    ["detached", "close"],
    ["bound", "SIGKILL"],
  ] as const) {
    does(`wakes in another process when its maker is gone (${kind}, ${ending})`, async () => {
      const { id, pid } = await made(kind, ending);
      const listed = await Sandbox.list({}, warren.sandboxes);
      expect(listed.map((info) => [info.id, info.state, info.detached])).toEqual([
        [id, "hibernated", kind === "detached"],
      ]);
      const sandbox = new Sandbox(warren.sandboxes, id);
      expect(await sh(sandbox, `cat /root/mark /run/mark; kill -0 ${pid} && echo alive; echo $OF`)).toBe(
        "on-disk\nin-memory\nalive\nmaker",
      );
      expect((await sandbox.info()).state).toBe("running");
      await sandbox.close();
      expect(await warren.snapshots.findImage(id)).toBeNull();
    });
  }

  does("ends with a maker that ends in good order, when it is not detached", async () => {
    const { id } = await made("bound", "close");
    await fails("not_found", warren.sandboxes.get({ id }));
    expect(await warren.snapshots.findImage(id)).toBeNull();
  });

  does(
    "was not used for its idle time; a stream is use, a background process is none, and a call wakes it",
    async () => {
      const options = { template: "base", idleSeconds: 2, idleAction: "hibernate" } as const;
      await using sandbox = await Sandbox.create(options, warren.sandboxes);
      const closed = await Sandbox.create({ template: "base", idleSeconds: 1 }, warren.sandboxes);
      const stateOf = async (one: Sandbox) => (await one.info()).state;
      await sandbox.spawn("while :; do sleep 1; done");
      expect((await sandbox.exec("sleep 3; echo done")).stdout).toBe("done\n");
      expect(await stateOf(sandbox)).toBe("running");
      const fromMs = systemClock.monotonicMs();
      await until("it sleeps", async () => (await stateOf(sandbox)) === "hibernated");
      expect(systemClock.monotonicMs() - fromMs).toBeGreaterThan(1_900);
      expect(await sh(sandbox, "echo up")).toBe("up");
      await until("it sleeps again", async () => (await stateOf(sandbox)) === "hibernated");
      expect(await closed.info()).toMatchObject({ state: "deleted", reason: "nobody used it for 1 s" });
    },
  );

  // Where the home's own file system reflinks there is no image of ours that could be filled.
  test.skipIf(canReflink(TEST_HOME))(
    "or is to be kept while the disk is full is told so, and goes on",
    async () => {
      await using sandbox = await Sandbox.create({ template: "base" }, warren.sandboxes);
      await settle(sandbox);
      await sh(sandbox, "head -c 30000000 /dev/urandom >/run/dirt");
      const { dir } = warren.host.data;
      const filler = join(dir, "filler");
      try {
        const leave = Math.max(0, availableIn(dir) - 4 * MIB);
        await runOk(["fallocate", "-l", String(leave), filler], { deadlineMs: 20_000 });
        for (let i = 0; i < 2; i++) {
          expect((await fails("storage_exhausted", sandbox.snapshot({ name: "full" }))).message).toContain("room");
          expect(await ask(sandbox, "check")).toEqual(["0"]);
          expect((await fails("storage_exhausted", sandbox.hibernate())).message).toContain("room");
          expect((await sandbox.info()).state).toBe("running");
          expect(await ask(sandbox, "check")).toEqual(["0"]);
        }
        expect(await Snapshot.list({}, warren.sandboxes)).toEqual([]);
        expect(readdirSync(join(dir, "hibernated"))).toEqual([]);
      } finally {
        rmSync(filler, { force: true });
      }
      await sandbox.hibernate();
      expect(await ask(sandbox, "check")).toEqual(["0"]);
    },
    VM_TEST_MS,
  );
}
