/**
 * What a child has of its parent, and what it does not: every byte of files and of running processes as of the fork, and
 * nothing of what either does later. The world that both live in is `WORLD`: a process with a table, a connection to itself
 * and memory that it keeps changing.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Warren } from "../../../src/compose.ts";
import { LIMITS } from "../../../src/limits.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";
import { Ground, say } from "./ground.ts";
import { ASK, WORLD } from "./programs.ts";

/** A torn child hangs or answers within this. */
const TORN_MS = 15_000;
/** Beyond this many forks of a fork, layers are merged. */
const DEEP = LIMITS.layerDepth + 2;
const DROP = "echo 3 >/proc/sys/vm/drop_caches";

async function settle(sandbox: Sandbox, mib = 8): Promise<void> {
  await sandbox.files.write("/root/world.py", WORLD);
  await sandbox.files.write("/root/ask.sh", ASK);
  await sandbox.spawn(["python3", "/root/world.py", String(mib)]);
  await until("the world answers", async () => (await ask(sandbox, "check").catch(() => [""]))[0] === "0", 60_000);
}

async function ask(sandbox: Sandbox, ...lines: string[]): Promise<string[]> {
  const { stdout, stderr } = await sandbox.exec(["bash", "/root/ask.sh", ...lines]);
  if (stderr !== "") throw new Error(stderr);
  return stdout.trimEnd().split("\n");
}

async function sh(sandbox: Sandbox, command: string): Promise<string> {
  const { stdout, stderr } = await sandbox.exec(command);
  return (stdout + stderr).trimEnd();
}

/** The old connection still talks, without anyone having connected anew. */
async function talks(sandbox: Sandbox): Promise<void> {
  const before = Number((await ask(sandbox, "echoes"))[0]);
  await until("the old connection goes on", async () => Number((await ask(sandbox, "echoes"))[0]) > before);
}

if (gate("vm")) {
  guardLeaks("base");

  describe("A fork", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
      await warren.engine.prepare({ template: "base" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());
    const create = () => Sandbox.create({ template: "base" }, warren.sandboxes);
    const closeAll = (sandboxes: readonly Sandbox[]) => Promise.all(sandboxes.map((one) => one.close()));

    test(
      "has every byte of the parent's files, cached and from the disk; processes, pids and connections live on in it",
      async () => {
        await using parent = await create();
        await settle(parent);
        const sums = "cd /root && sha256sum bytes; cat /run/memory; sha256sum world.py";
        const pids = "for p in $(cat /run/*.pid); do cut -d' ' -f1,2,22 /proc/$p/stat; done";
        await sh(parent, "head -c 3000000 /dev/urandom >/root/bytes; echo tmpfs >/run/memory");
        const sleeper = await parent.spawn(["sleep", "1000"]);
        await sh(parent, `echo ${sleeper.pid} >/run/sleeper.pid`);
        await ask(parent, "set of parent");
        const [files, world] = [await sh(parent, sums), await sh(parent, pids)];
        expect(world.split("\n")).toHaveLength(2);
        const children = await parent.forks(2);
        for (const child of children) {
          expect(await sh(child, sums)).toBe(files);
          expect(await sh(child, `${DROP}; ${sums}`)).toBe(files);
          expect(await sh(child, pids)).toBe(world);
          expect(await ask(child, "get of", "check")).toEqual(["parent", "0"]);
          await talks(child);
        }
        await closeAll(children);
        await talks(parent);
      },
      VM_TEST_MS,
    );

    test(
      "and its parent differ from then on, both ways, in files and in the memory of running processes",
      async () => {
        await using parent = await create();
        await settle(parent);
        await ask(parent, "set k before");
        await sh(parent, "echo before >/root/f");
        const [one, two] = await parent.forks(2);
        const all = [parent, one!, two!];
        for (const [i, sandbox] of all.entries()) {
          await ask(sandbox, `set k ${i}`);
          await sh(sandbox, `echo ${i} >/root/f; head -c 500000 /dev/urandom >/root/own${i}; sync`);
        }
        for (const [i, sandbox] of all.entries()) {
          expect(await ask(sandbox, "get k", "check")).toEqual([String(i), "0"]);
          expect(await sh(sandbox, `${DROP}; cat /root/f; cd /root; echo own*`)).toBe(`${i}\nown${i}`);
        }
        await closeAll([one!, two!]);
      },
      VM_TEST_MS,
    );

    test(
      "sees the state of its own instant when a parent is forked again and again, and at once",
      async () => {
        await using parent = await create();
        await settle(parent);
        const children: Sandbox[] = [];
        for (let i = 0; i < 3; i++) {
          await ask(parent, `set k ${i}`);
          await sh(parent, `echo ${i} >/root/f`);
          children.push(await parent.fork());
        }
        for (const [i, child] of children.entries()) {
          expect(await ask(child, "get k", "check")).toEqual([String(i), "0"]);
          expect(await sh(child, `${DROP}; cat /root/f`)).toBe(String(i));
        }
        await closeAll(children);
        await ask(parent, "stir");
        const together = await Promise.all([parent.fork(), parent.fork(), parent.fork()]);
        for (const child of together) expect(await ask(child, "get k", "check")).toEqual(["2", "0"]);
        await closeAll(together);
        expect(await ask(parent, "get k", "check")).toEqual(["2", "0"]);
      },
      VM_TEST_MS,
    );

    test(
      `of a fork, ${DEEP} deep, has what each of its forebears wrote, also when those are gone and layers were merged`,
      async () => {
        let sandbox = await create();
        try {
          await settle(sandbox);
          for (let i = 0; i < DEEP; i++) {
            await ask(sandbox, `set k${i} v${i}`);
            await sh(sandbox, `echo ${i} >>/root/f`);
            const child = await sandbox.fork();
            await sandbox.close();
            sandbox = child;
          }
          const levels = Array.from({ length: DEEP }, (_, i) => i);
          expect(await ask(sandbox, ...levels.map((i) => `get k${i}`), "check")).toEqual([
            ...levels.map((i) => `v${i}`),
            "0",
          ]);
          expect(await sh(sandbox, `${DROP}; cat /root/f`)).toBe(levels.join("\n"));
          await talks(sandbox);
        } finally {
          await sandbox.close();
        }
      },
      VM_TEST_MS,
    );

    test(
      "can be forked before it has let go of the disk that it was taken with",
      async () => {
        const generations = [await create()];
        try {
          for (let i = 0; i < 6; i++) generations.push(await generations.at(-1)!.fork());
          expect(await sh(generations.at(-1)!, "echo 1 >/root/f && sync && cat /root/f")).toBe("1");
        } finally {
          await closeAll(generations);
        }
      },
      VM_TEST_MS,
    );

    test(
      "leaves its parent as much memory as before, however much the forks together hold of what it once had",
      async () => {
        const ground = new Ground(warren);
        await using undo = new AsyncDisposableStack();
        const parent = await ground.boot(undo, { template: "base", memoryMb: 128 });
        const { agent } = parent.body;
        await agent.writeFile({ path: "/root/world.py", body: WORLD });
        await agent.writeFile({ path: "/root/ask.sh", body: ASK });
        await say(agent, { argv: ["python3", "/root/world.py", "16"], background: true, timeoutSeconds: 600 });
        const renew = ["bash", "/root/ask.sh", "renew", "check"];
        await until("the world answers", async () => (await say(agent, renew)) === "ok\n0\n", 60_000);
        let heldBytes = 0;
        while (heldBytes < (128 + LIMITS.vmmOverheadMib) * 2 ** 20) {
          const point = await ground.point(parent);
          undo.defer(() => point.release());
          heldBytes += point.changedBytes;
          expect(await say(agent, renew)).toBe("ok\n0\n");
        }
      },
      VM_TEST_MS,
    );

    test(
      "of a paused sandbox runs, from the memory that nothing was written out of; the parent stays paused",
      async () => {
        await using parent = await create();
        await settle(parent);
        await sh(parent, "head -c 2000000 /dev/urandom >/root/bytes; sha256sum /root/bytes >/root/sum");
        await parent.pause();
        const children = await parent.forks(2);
        expect((await parent.info()).state).toBe("paused");
        for (const child of children) {
          expect((await child.info()).state).toBe("running");
          expect(await sh(child, `${DROP}; sha256sum -c /root/sum`)).toBe("/root/bytes: OK");
          expect(await ask(child, "check")).toEqual(["0"]);
        }
        await closeAll(children);
        await parent.resume();
        await talks(parent);
      },
      VM_TEST_MS,
    );

    test(
      "leaves a command that someone waits for in the parent as it is, to the byte",
      async () => {
        await using parent = await create();
        const count = parent.exec("i=0; while [ $i -lt 6000 ]; do echo $i; i=$((i+1)); done; cat >&2", {
          stdin: "in\n",
        });
        const children = [await parent.fork(), await parent.fork()];
        await closeAll(children);
        const { stdout, stderr, exitCode } = await count;
        expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "in\n" });
        expect(stdout).toBe(`${Array.from({ length: 6000 }, (_, i) => i).join("\n")}\n`);
      },
      VM_TEST_MS,
    );

    test(
      "has whole memory however hard its guest changes it; one that was taken without a pause has not",
      async () => {
        const ground = new Ground(warren);
        await using undo = new AsyncDisposableStack();
        const parent = await ground.boot(undo, { template: "base" });
        const { agent } = parent.body;
        await agent.writeFile({ path: "/root/world.py", body: WORLD });
        await agent.writeFile({ path: "/root/ask.sh", body: ASK });
        await say(agent, { argv: ["python3", "/root/world.py", "24"], background: true, timeoutSeconds: 600 });
        const check = ["bash", "/root/ask.sh", "check"];
        await until("the world answers", async () => (await say(agent, check)) === "0\n");
        await say(agent, ["bash", "/root/ask.sh", "stir"]);
        for (let i = 0; i < 5; i++) {
          const point = await ground.point(parent);
          await using child = new AsyncDisposableStack();
          child.defer(() => point.release());
          const { body } = await ground.child(child, parent, point);
          expect(await say(body.agent, check)).toBe("0\n");
        }
        expect(await say(agent, check)).toBe("0\n");
        // Without the pause the parent loses writes too, and may hang of that before there is a child to look at.
        await using last = new AsyncDisposableStack();
        const seen = await (async () => {
          const torn = await ground.faulty(parent, { kind: "no pause" });
          last.defer(() => torn.release());
          const { body } = await ground.child(last, parent, torn, AbortSignal.timeout(TORN_MS));
          return await say(body.agent, { argv: check, timeoutSeconds: 15 });
        })().catch((cause: unknown) => `torn: ${String(cause)}`);
        expect(seen).not.toBe("0\n");
      },
      VM_TEST_MS,
    );

    test(
      "does not have its bytes on disk when the disk was taken before they were written",
      async () => {
        const ground = new Ground(warren);
        await using undo = new AsyncDisposableStack();
        const parent = await ground.boot(undo, { template: "base" });
        const write = (text: string) => say(parent.body.agent, ["sh", "-c", `echo ${text} >/root/f; sync`]);
        await write("first");
        const point = await ground.faulty(parent, { kind: "disk first", between: () => write("other") });
        undo.defer(() => point.release());
        const child = await ground.child(undo, parent, point);
        expect(await say(child.body.agent, ["cat", "/root/f"])).toBe("other\n");
        expect(await say(child.body.agent, ["sh", "-c", `${DROP}; cat /root/f`])).not.toBe("other\n");
      },
      VM_TEST_MS,
    );
  });
}
