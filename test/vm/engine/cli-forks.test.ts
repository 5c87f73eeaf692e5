/** A sandbox forked, put to sleep and woken by the command line, each step another process: its memory and its disk go along. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ForkResult } from "../../../src/contract/routes/forks.ts";
import type { SandboxInfo } from "../../../src/contract/routes/sandboxes.ts";
import { cli } from "../../harness/cli.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { VM_TEST_MS } from "../../harness/vm.ts";

/** What a command says that has to succeed, without the line's end. */
async function said(...args: string[]): Promise<string> {
  const { code, out, err } = await cli(args);
  expect({ args, code, why: code === 0 ? "" : err }).toEqual({ args, code: 0, why: "" });
  return out.trim();
}

async function listed(): Promise<SandboxInfo[]> {
  return JSON.parse(await said("ls", "--json")) as SandboxInfo[];
}

if (gate("vm")) {
  guardLeaks("base");
  describe("The command line", () => {
    let dir = "";
    beforeEach(() => {
      dir = mkdtempSync(join(tmpdir(), "warren-forks-"));
    });
    afterEach(async () => {
      rmSync(dir, { recursive: true });
      await cli(["rm", "--all"]);
    });

    test(
      "forks a sandbox with its memory, and wakes it where it slept",
      async () => {
        const id = await said("create", "--ttl", "5m");
        await said(
          "exec",
          id,
          "echo disk > /root/mark; echo memory > /dev/shm/mark; sleep 1000 & echo $! > /dev/shm/pid",
        );
        const LOOK = "cat /root/mark /dev/shm/mark; kill -0 $(cat /dev/shm/pid) && echo alive";
        const SEEN = "disk\nmemory\nalive";

        const { parentId, children } = JSON.parse(await said("fork", id, "-n", "2", "--json")) as ForkResult;
        expect([parentId, children.length]).toEqual([id, 2]);
        for (const child of children) expect(await said("exec", child.id, LOOK)).toBe(SEEN);
        await said("exec", children[0]!.id, "echo other > /dev/shm/mark; echo other > /root/mark");
        expect(await said("exec", id, LOOK)).toBe(SEEN);

        expect(await said("hibernate", id, children[1]!.id)).toBe(`${id}\n${children[1]!.id}`);
        const states = (await listed()).map((info) => [info.id, info.state, info.parentId]);
        expect(states.sort()).toEqual(
          [
            [id, "hibernated", null],
            [children[0]!.id, "running", id],
            [children[1]!.id, "hibernated", id],
          ].sort(),
        );
        expect(await said("exec", id, LOOK)).toBe(SEEN);
        const copy = join(dir, "copy");
        await said("cp", `${children[1]!.id}:/dev/shm/mark`, copy);
        expect(readFileSync(copy, "utf8")).toBe("memory\n");
        await said("hibernate", id);
        expect(await said("wake", id, children[1]!.id)).toBe(`${id}\n${children[1]!.id}`);
        expect((await listed()).map(({ state }) => state)).toEqual(["running", "running", "running"]);

        expect(await said("pause", id)).toBe(id);
        expect((await cli(["exec", id, "true"])).code).toBe(69);
        expect(await said("resume", id)).toBe(id);
        expect(await said("exec", id, LOOK)).toBe(SEEN);
        expect((await said("rm", "--all")).split("\n").sort()).toEqual([id, ...children.map((c) => c.id)].sort());
        expect(await listed()).toEqual([]);
      },
      VM_TEST_MS,
    );
  });
}
