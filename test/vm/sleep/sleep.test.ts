/**
 * Hibernation of real guests: nothing is left of the machine, and whoever calls finds it as it stood, files, memory, processes,
 * connections and contexts, with the time of day and randomness of a new one.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Warren } from "../../../src/compose.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { expectNoLeaks, traces } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, TEST_HOME, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { fails } from "../../suites/sandbox/subject.ts";
import { ask, isGone, PIDS, refOf, settle, sh } from "./world.ts";

const CYCLES = 10;
const DROP = "echo 3 >/proc/sys/vm/drop_caches";
/** What a machine has for its own. */
const IDENTITY = "cat /proc/sys/kernel/random/boot_id /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1";

/** How far the guest's time of day is off, beyond what the exec itself takes. */
async function clockOffMs(sandbox: Sandbox): Promise<number> {
  const before = Date.now();
  const guestMs = Number(await sh(sandbox, "date +%s.%N")) * 1000;
  const after = Date.now();
  return guestMs < before ? before - guestMs : Math.max(0, guestMs - after);
}

if (gate("vm")) {
  guardLeaks("base", "code-interpreter");
  describe("A sandbox that hibernates", tests);
}

function tests(): void {
  let warren: Warren;
  beforeAll(async () => {
    warren = await openTestWarren({ prepared: 0 });
    for (const template of ["base", "code-interpreter"]) await warren.engine.prepare({ template });
  }, VM_BAKE_MS);
  afterAll(() => warren[Symbol.asyncDispose]());
  const create = (options = {}) => Sandbox.create({ template: "base", ...options }, warren.sandboxes);
  const imageOf = async ({ id }: Sandbox) => (await warren.snapshots.findImage(id))?.info ?? null;
  const does = (says: string, body: () => Promise<void>) => test(says, body, VM_TEST_MS);

  does("has no process, memory or lease; an exec wakes it with its files, memory, pids and connections", async () => {
    const before = traces(TEST_HOME);
    await using sandbox = await create({ env: { OF: "create" } });
    await settle(sandbox);
    await sh(sandbox, "head -c 3000000 /dev/urandom >/root/bytes; echo tmpfs >/run/memory");
    const sleeper = await sandbox.spawn(["sleep", "1000"]);
    await sh(sandbox, `echo ${sleeper.pid} >/run/sleeper.pid`);
    await ask(sandbox, "set of memory");
    const sums = "cd /root && sha256sum bytes world.py; cat /run/memory; echo $OF; hostname";
    const [files, pids] = [await sh(sandbox, sums), await sh(sandbox, PIDS)];
    const [identity, echoes] = [await sh(sandbox, IDENTITY), Number((await ask(sandbox, "echoes"))[0])];
    const ref = await refOf(warren, sandbox);

    await sandbox.hibernate();
    expect((await sandbox.info()).state).toBe("hibernated");
    expect(ref !== null && isGone(ref)).toBe(true);
    await expectNoLeaks(before, TEST_HOME);
    expect(warren.engine.memoryMib() ?? 0).toBe(0);

    expect(await sh(sandbox, sums)).toBe(files);
    expect((await sandbox.info()).state).toBe("running");
    expect(await imageOf(sandbox)).toBeNull();
    expect(await sh(sandbox, `${DROP}; ${sums}`)).toBe(files);
    expect(await sh(sandbox, PIDS)).toBe(pids);
    expect(await ask(sandbox, "get of", "check")).toEqual(["memory", "0"]);
    await until("the old connection goes on", async () => Number((await ask(sandbox, "echoes"))[0]) > echoes);
    expect(await clockOffMs(sandbox)).toBeLessThan(500);
    const now = (await sh(sandbox, IDENTITY)).split("\n");
    expect(now).toHaveLength(3);
    for (const [i, line] of identity.split("\n").entries()) expect(now[i]).not.toBe(line);
  });

  does("keeps the variables of its contexts, and a new Python's randomness is another each time", async () => {
    await using sandbox = await create({ template: "code-interpreter" });
    const context = await sandbox.contexts.create();
    await context.run("import random, os\nkept = {'n': list(range(1000))}\nstate = random.getstate()");
    const seen = new Set<string>();
    for (let i = 0; i < 3; i++) {
      await sandbox.hibernate();
      expect((await context.run("sum(kept['n'])")).text).toBe("499500");
      const { stdout } = await sandbox.python(
        "import random, os, uuid\nprint(random.random(), os.urandom(8).hex(), uuid.uuid4())",
      );
      for (const word of stdout.trim().split(" ")) seen.add(word);
      expect((await context.run("kept['n'].append(0); len(kept['n'])")).text).toBe(String(1001 + i));
    }
    expect(seen.size).toBe(9);
  });

  does("is woken once by any number of calls at once", async () => {
    await using sandbox = await create();
    await sh(sandbox, "echo 0 >/run/count");
    await sandbox.hibernate();
    const jails = () => traces("/nowhere").filter((line) => line.startsWith("process warren-init")).length;
    const before = jails();
    const add = () => sh(sandbox, "flock /run/lock sh -c 'n=$(cat /run/count); echo $((n + 1)) >/run/count'");
    expect(await Promise.all([add(), sandbox.wake(), add(), add(), sandbox.wake(), add()])).toContain("");
    expect(jails()).toBe(before + 1);
    expect(await sh(sandbox, "cat /run/count")).toBe("4");
    expect(warren.engine.moves.of(sandbox.id).filter(({ event }) => event === "woken")).toHaveLength(1);
  });

  does(
    `sleeps and wakes ${CYCLES} times in a row; its image has few layers and does not grow beyond what changes`,
    async () => {
      await using sandbox = await create();
      await settle(sandbox);
      const pids = await sh(sandbox, PIDS);
      const sizes: number[] = [];
      for (let i = 0; i < CYCLES; i++) {
        await sh(sandbox, `echo ${i} >>/root/log; head -c 4000000 /dev/urandom >/run/dirt`);
        await sandbox.hibernate();
        sizes.push((await imageOf(sandbox))!.memoryBytes);
        const path = join(warren.host.data.dir, "hibernated", sandbox.id);
        const layers = [...new Bun.Glob("memory-*").scanSync({ cwd: path })].length;
        expect(layers).toBeLessThanOrEqual(LIMITS.layerDepth);
        expect(await ask(sandbox, "check")).toEqual(["0"]);
      }
      expect(await sh(sandbox, PIDS)).toBe(pids);
      expect(await sh(sandbox, "cat /root/log | tr '\\n' ' '")).toBe("0 1 2 3 4 5 6 7 8 9");
      // Each time 4 MB anew, and what the commands touch; when layers are merged, what was written over is counted once.
      const deepest = Math.max(...sizes);
      expect(deepest).toBeLessThan(sizes[0]! + LIMITS.layerDepth * 16e6);
      expect(sizes.at(-1)).toBeLessThan(deepest);
    },
  );

  does("ends at its time to live, asleep or woken", async () => {
    const ttlSeconds = 8;
    const [asleep, woken] = [await create({ ttlSeconds }), await create({ ttlSeconds })];
    await Promise.all([asleep.hibernate(), woken.hibernate()]);
    expect(await sh(woken, "echo up")).toBe("up");
    const ref = await refOf(warren, woken);
    const endMs = Date.parse((await woken.info()).expiresAt!);
    expect(Date.now()).toBeLessThan(endMs);
    await until("both are over", async () => {
      const states = await Promise.all([asleep, woken].map(async (one) => (await one.info()).state));
      return states.every((state) => state === "deleted");
    });
    expect(Date.now() - endMs).toBeWithin(-500, 2_000);
    expect(ref !== null && isGone(ref)).toBe(true);
    expect(await imageOf(asleep)).toBeNull();
    await fails("wrong_state", asleep.exec("true"));
  });

  does("may have been paused, and runs when it wakes", async () => {
    await using sandbox = await create();
    await settle(sandbox);
    await ask(sandbox, "set k v");
    await sandbox.pause();
    await sandbox.hibernate();
    await sandbox.hibernate();
    await sandbox.wake();
    expect((await sandbox.info()).state).toBe("running");
    expect(await ask(sandbox, "get k", "check")).toEqual(["v", "0"]);
  });

  does("is forked and kept where it stood, and closed while it sleeps leaves nothing", async () => {
    const sandbox = await create();
    await sh(sandbox, "echo kept >/run/f");
    await sandbox.hibernate();
    await using child = await sandbox.fork();
    expect(await sh(child, "cat /run/f")).toBe("kept");
    await sandbox.hibernate();
    const snapshot = await sandbox.snapshot();
    expect((await snapshot.info()).sandboxId).toBe(sandbox.id);
    await snapshot.remove();
    await sandbox.hibernate();
    await sandbox.close();
    expect(await imageOf(sandbox)).toBeNull();
    await fails("wrong_state", sandbox.wake());
  });
}
