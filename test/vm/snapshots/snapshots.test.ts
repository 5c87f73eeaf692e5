/** Snapshots of real guests: restored by another process than made them, when that is gone; in use while anything runs of them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Warren } from "../../../src/compose.ts";
import type { SnapshotInfo } from "../../../src/contract/routes/snapshots.ts";
import { Snapshot } from "../../../src/sandbox/snapshots.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { cli } from "../../harness/cli.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { openTestWarren, TEST_HOME, VM_TEST_MS } from "../../harness/vm.ts";
import { fails } from "../../suites/sandbox/subject.ts";

interface Made {
  readonly snapshot: SnapshotInfo;
  readonly pid: number;
}

async function made(name: string, ending: "exit" | "SIGKILL"): Promise<Made> {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "maker.ts"), name, ending], {
    env: { ...process.env, WARREN_HOME: TEST_HOME },
    stdout: "pipe",
    stderr: "inherit",
  });
  const said = await new Response(child.stdout).text();
  await child.exited;
  expect(child.signalCode).toBe(ending === "exit" ? null : "SIGKILL");
  return JSON.parse(said) as Made;
}

const LOOK = "cat /root/mark /dev/shm/mark; kill -0 $PID && echo alive; echo $MADE; pwd";
const SEEN = (name: string) => `on-disk\nin-memory\nalive\n${name}\n/work\n`;

if (gate("vm")) {
  guardLeaks("base");
  describe("Snapshots of real guests", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
    });
    afterAll(() => warren[Symbol.asyncDispose]());

    for (const ending of ["exit", "SIGKILL"] as const) {
      test(
        `are restored after their maker ended (${ending}), memory, disk, processes and environment`,
        async () => {
          const name = `of-${ending}`;
          const { snapshot, pid } = await made(name, ending);
          await using first = await Sandbox.fromSnapshot(snapshot.id, {}, warren.sandboxes);
          await using second = await Sandbox.fromSnapshot(name, { env: { MORE: "1" } }, warren.sandboxes);
          for (const sandbox of [first, second]) {
            const { stdout } = await sandbox.exec(LOOK, { env: { PID: String(pid) } });
            expect(stdout).toBe(SEEN(name));
            expect(await sandbox.info()).toMatchObject({ snapshotId: snapshot.id, template: "base" });
          }
          await first.exec("echo other > /root/mark; echo other > /dev/shm/mark");
          expect((await second.exec("cat /root/mark /dev/shm/mark")).stdout).toBe("on-disk\nin-memory\n");
          const ids = await Promise.all(
            [first, second].map((s) => s.exec("cat /proc/sys/kernel/random/boot_id /etc/machine-id")),
          );
          expect(ids[0]?.stdout).not.toBe(ids[1]?.stdout);
          // What a second snapshot changes is kept over the first's.
          const again = await first.snapshot();
          expect(await again.info()).toMatchObject({ parentSnapshotId: snapshot.id, sandboxId: first.id });
          await first.close();
          await second.close();
          await new Snapshot(warren.sandboxes, snapshot.id).remove();
          await using third = await Sandbox.fromSnapshot(again, {}, warren.sandboxes);
          expect((await third.exec("cat /root/mark /dev/shm/mark")).stdout).toBe("other\nother\n");
          await third.close();
          await again.remove();
          expect(await Snapshot.list({}, warren.sandboxes)).toEqual([]);
        },
        VM_TEST_MS,
      );
    }

    test(
      "are in use while a sandbox of an ended process runs of them, and templates made of them stay",
      async () => {
        const { snapshot, pid } = await made("of-cli", "exit");
        const created = await cli(["create", "--snapshot", "of-cli", "--ttl", "5m"]);
        expect(created.code).toBe(0);
        const id = created.out.trim();
        await fails("snapshot_in_use", warren.sandboxes.removeSnapshot({ id: snapshot.id }));
        expect((await cli(["snapshots", "rm", "of-cli"])).code).toBe(69);
        expect((await cli(["snapshots", "promote", "of-cli", "mine"])).code).toBe(0);
        const { out } = await cli(["exec", id, "cat /dev/shm/mark"]);
        expect(out).toBe("in-memory\n");
        expect((await cli(["rm", id])).code).toBe(0);
        expect((await cli(["snapshots", "rm", "of-cli"])).out).toBe("of-cli\n");
        await using sandbox = await Sandbox.create({ template: "mine" }, warren.sandboxes);
        expect(
          (await sandbox.exec("cat /dev/shm/mark; kill -0 $PID && echo alive", { env: { PID: String(pid) } })).stdout,
        ).toBe("in-memory\nalive\n");
        await sandbox.close();
        expect((await cli(["templates", "rm", "mine"])).code).toBe(0);
        await fails("template_not_found", Sandbox.create({ template: "mine" }, warren.sandboxes));
      },
      VM_TEST_MS,
    );
  });
}
