/**
 * Freezing in real guests: writers stand still and everything else goes on, over and over under a heavy write load; and a
 * copy of the disk from within a freeze is whole, as `e2fsck -fn` of it in another guest says. Its control, a copy without a
 * freeze, is not. FREEZE_ROUNDS is how often a guest under load is frozen (default 50).
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { closeAll } from "../../../ffi/files.ts";
import { nonce } from "../../../src/base/id.ts";
import { createLog } from "../../../src/base/log.ts";
import type { Warren } from "../../../src/compose.ts";
import { type AwakeClone, identify, prepareClone, wakeClone } from "../../../src/engine/create/clone.ts";
import { type ExecRequest, GuestAgent } from "../../../src/guest/agent.ts";
import { cloneDisk } from "../../../src/host/slots/leases.ts";
import { Sandbox } from "../../../src/sandbox.ts";
import { gate } from "../../harness/gates.ts";
import { guardLeaks } from "../../harness/leak-guard.ts";
import { until } from "../../harness/until.ts";
import { openTestWarren, VM_BAKE_MS, VM_TEST_MS } from "../../harness/vm.ts";

const ROUNDS = Number(process.env["FREEZE_ROUNDS"] ?? 50);
/** Sending 400 MiB of a disk to an emulated guest takes most of it. */
const CHECK_MS = 300_000;

/** Rows in a database, files that come, grow, are renamed and go, some of them flushed. No file is open when it is deleted. */
const LOAD = `
import os, random, sqlite3, threading
def rows():
    db = sqlite3.connect("/root/db", timeout=60)
    db.execute("create table t(a integer primary key, b)")
    while True:
        with db: db.executemany("insert into t(b) values(?)", [(os.urandom(200),)] * 20)
        with open("/root/count", "a") as f: f.write("x")
        if random.random() < .05:
            with db: db.execute("delete from t where a % 2 = 0")
def files(k):
    for i in range(1 << 40):
        folder = f"/root/files{k}/{i % 50}/"
        os.makedirs(folder, exist_ok=True)
        with open(folder + str(random.randrange(20)), "wb") as f:
            f.write(os.urandom(random.randrange(60000)))
            if i % 4 == 0: os.fsync(f.fileno())
        if i % 3 == 0:
            try:
                os.rename(folder + str(random.randrange(20)), folder + "x")
                os.unlink(folder + "x")
            except FileNotFoundError: pass
for job in [(rows, ()), (files, (1,)), (files, (2,))]: threading.Thread(target=job[0], args=job[1]).start()
`;

async function run(agent: GuestAgent, request: ExecRequest): Promise<string> {
  let out = "";
  for await (const event of agent.exec({ cwd: "/root", timeoutSeconds: 60, ...request })) {
    if (event.kind === "stdout" || event.kind === "stderr") out += Buffer.from(event.bytes).toString();
    if (event.kind === "exit" && event.exitCode !== 0) out += `[${event.exitCode ?? event.signal}]`;
  }
  return out;
}

/** Bytes that the writer has counted. */
async function counted(agent: GuestAgent): Promise<number> {
  return (await agent.stat({ path: "/root/count" })).size;
}

if (gate("vm")) {
  guardLeaks("base");

  describe("Freezing a guest", () => {
    let warren: Warren;
    beforeAll(async () => {
      warren = await openTestWarren({ prepared: 0 });
      await warren.engine.prepare({ template: "base" });
    }, VM_BAKE_MS);
    afterAll(() => warren[Symbol.asyncDispose]());

    /** A guest under load, with its agent at hand. */
    async function loaded(undo: AsyncDisposableStack): Promise<AwakeClone> {
      const { driver, host, clock } = warren;
      const parts = { driver, host, clock, log: createLog("error"), reseed: true };
      const template = await warren.templates.open({ name: "base", cpu: 1, memoryMib: 512 });
      const { signal } = new AbortController();
      const life = { deadlineNs: null, detached: false };
      const clone = await prepareClone(parts, `freeze-${nonce().slice(0, 8)}`, template, life, undo, signal);
      const body = await wakeClone(parts, clone, signal);
      await identify(parts, body, signal);
      await body.agent.writeFile({ path: "/root/load.py", body: LOAD });
      await body.agent.writeFile({ path: "/root/six.py", body: "print(6 * 7)\n" });
      await run(body.agent, { argv: ["python3", "/root/load.py"], background: true, timeoutSeconds: 600 });
      await until("the writer counts", async () => (await counted(body.agent).catch(() => 0)) > 0);
      return body;
    }

    test(
      "Freezing a guest stops its writers, and neither its agent nor commands nor Python, until it is thawed",
      async () => {
        await using undo = new AsyncDisposableStack();
        const { agent } = await loaded(undo);
        await agent.freeze();
        const before = await counted(agent);
        await agent.ping();
        expect((await agent.processes()).map(({ running }) => running)).toEqual([true]);
        expect(await run(agent, { argv: ["/bin/true"] })).toBe("");
        expect(await run(agent, { python: { path: "/root/six.py" } })).toBe("42\n"); // the child that waited, and its next one
        expect(await run(agent, { python: { path: "/root/six.py" } })).toBe("42\n");
        expect(await run(agent, { argv: ["/bin/sh", "-c", "echo x > /run/memory && cat /run/memory"] })).toBe("x\n");
        expect(await counted(agent)).toBe(before);
        expect(await agent.thaw()).toBe(true);
        await until("the writer goes on", async () => (await counted(agent)) > before);
      },
      VM_TEST_MS,
    );

    test(
      `Freezing a guest ${ROUNDS} times under load holds each time, and its writers get on in between`,
      async () => {
        await using undo = new AsyncDisposableStack();
        const { agent } = await loaded(undo);
        for (let i = 0; i < ROUNDS; i++) {
          await agent.freeze();
          const before = await counted(agent);
          expect(await agent.thaw()).toBe(true);
          await until("the writer goes on", async () => (await counted(agent)) > before);
        }
        expect(await run(agent, { argv: ["/bin/sh", "-c", "dmesg | grep -ci 'ext4-fs error\\|blocked for'"] })).toBe(
          "0\n[1]",
        );
      },
      2 * VM_TEST_MS,
    );

    test(
      "Freezing a guest ends with the host that asked for it, and when another host greets the guest",
      async () => {
        await using undo = new AsyncDisposableStack();
        const { agent, vmm } = await loaded(undo);
        const { clock } = warren;
        // The guest's own end of patience, 30 s, is beyond what `until` waits.
        const second = await GuestAgent.connect(await vmm.connect(1), { clock });
        await second.freeze();
        const first = await counted(agent);
        second.close();
        await until("the writer goes on", async () => (await counted(agent)) > first);
        await agent.freeze();
        const then = await counted(agent);
        const third = await GuestAgent.connect(await vmm.connect(2), { clock });
        undo.defer(() => third.close());
        await until("the writer goes on", async () => (await counted(agent)) > then);
        expect(await agent.thaw()).toBe(false);
      },
      VM_TEST_MS,
    );

    /** What e2fsck in another guest says of a copy of the disk that is taken while the load runs. */
    async function checked(frozen: boolean): Promise<{ code: number | null; says: string }> {
      const copies: number[] = [];
      {
        await using undo = new AsyncDisposableStack();
        const { agent, vmm, lease } = await loaded(undo);
        if (frozen) await agent.freeze();
        await vmm.pause();
        const { rwFd, roFd } = cloneDisk(warren.host.data, lease.disk.roFd);
        closeSync(rwFd);
        copies.push(roFd);
        await vmm.resume();
        if (frozen) expect(await agent.thaw()).toBe(true);
      }
      try {
        await using other = await Sandbox.create({ template: "base" }, warren.sandboxes);
        const argv = ["tar", "--sparse", "--dereference", "--transform=s|.*|image|", "-cPf", "-", "/proc/self/fd/3"];
        const tar = Bun.spawn(argv, { stdio: ["ignore", "pipe", "inherit", copies[0] ?? -1] });
        await warren.sandboxes.archiveIn({ id: other.id, path: "/root", body: tar.stdout });
        const { exitCode, stdout, stderr } = await other.exec(["e2fsck", "-fn", "/root/image"]);
        return { code: exitCode, says: stdout + stderr };
      } finally {
        closeAll(copies);
      }
    }

    test(
      "Freezing a guest leaves a disk to copy that e2fsck finds whole, and without it the copy is not",
      async () => {
        const whole = await checked(true);
        expect(whole).toEqual({ code: 0, says: expect.stringContaining("Pass 5") });
        expect(whole.says).not.toContain("Fix?");
        expect((await checked(false)).code).not.toBe(0);
      },
      CHECK_MS,
    );
  });
}
