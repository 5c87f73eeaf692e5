/** How a jail begins and ends, whoever dies first; and that nothing of it stays, one at a time, in parallel, and after SIGKILL. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { closeFd, openFd } from "../../ffi/files.ts";
import { systemClock } from "../../src/base/clock.ts";
import type { VmRef } from "../../src/driver/driver.ts";
import { readMounts } from "../../src/host/home/mountinfo.ts";
import { adoptJailed } from "../../src/host/jail/adopt.ts";
import { startTicksOf } from "../../src/host/slots/process-name.ts";
import { lockSlot } from "../../src/host/slots/slots.ts";
import { LIMITS } from "../../src/limits.ts";
import { gate } from "../harness/gates.ts";
import { expectNoLeaks, type Traces, traces } from "../harness/leaks.ts";
import { until } from "../harness/until.ts";
import { JailGround } from "./jail-ground.ts";

let ground: JailGround;
let before: Traces;

interface Owner {
  readonly process: Bun.Subprocess<"ignore", "pipe", "inherit">;
  readonly ref: VmRef & { readonly uid: number };
}

/** A process of its own that owns a jail. */
async function owner(mode: string): Promise<Owner> {
  const script = join(import.meta.dir, "jail-owner.ts");
  const child = Bun.spawn([process.execPath, script, ground.home, ground.root, mode], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value } = await child.stdout.getReader().read();
  return { process: child, ref: JSON.parse(new TextDecoder().decode(value)) };
}

async function kill(child: Owner["process"]): Promise<void> {
  child.kill("SIGKILL");
  await child.exited;
}

function isGone(ref: VmRef): boolean {
  return startTicksOf(ref.pid) !== ref.startTicks;
}

function processesOf(uid: number): number {
  const has = (pid: string) => {
    const path = `/proc/${pid}/status`;
    const status = existsSync(path) ? readFileSync(path, "utf8") : "";
    if (/^State:\tZ/m.test(status)) return false; // dead; its new parent, the machine's init, takes its time to notice
    return new RegExp(`^Uid:\\t(${uid}|${uid + 1})\\t`, "m").test(status);
  };
  return readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && has(pid)).length;
}

function slotOf(uid: number): number {
  return (uid - LIMITS.slotUidBase) / 2;
}

if (gate("root", "gcc")) {
  describe("A jail", () => {
    beforeAll(async () => {
      ground = await JailGround.make();
      await (await ground.start(["list=/"])).end(); // what is opened once and kept is open now
    }, 60_000);
    afterAll(() => ground[Symbol.asyncDispose]());
    beforeEach(() => {
      before = traces(ground.home);
    });
    afterEach(() => expectNoLeaks(before, ground.home));

    test("ends with its VMM and tells its code", async () => {
      const jail = await ground.start(["list=/"]);
      expect(await jail.jailed.exited).toMatchObject({ reason: "vmm_exit", code: 0, signal: null });
      await jail.end();
      await jail.end(); // twice is no harm
    });

    test("is killed although its VMM ignores SIGTERM, and says that it was", async () => {
      const jail = await ground.start(["hold"]);
      await Promise.all([jail.jailed.kill(), jail.jailed.kill()]);
      expect(await jail.jailed.exited).toMatchObject({ reason: "killed", code: null });
      expect(processesOf(jail.lease.jail.uid)).toBe(0);
      await jail.end();
    });

    test("ends at its deadline, which can be moved and removed", async () => {
      const inMs = (ms: number) => ground.host.bootTimeNs() + BigInt(ms) * 1_000_000n;
      const soon = await ground.start(["hold"], { jail: { deadlineNs: inMs(50) } });
      expect((await soon.jailed.exited).reason).toBe("deadline");
      soon.jailed.setDeadline(inMs(50)); // of what has ended: nothing happens
      const past = await ground.start(["hold"], { jail: { deadlineNs: 1n } }).catch((error: unknown) => error);
      const moved = await ground.start(["hold"], { jail: { deadlineNs: inMs(60) } });
      moved.jailed.setDeadline(null);
      const later = await ground.start(["hold"], { jail: { deadlineNs: inMs(120) } });
      await later.jailed.exited; // longer than the deadline that was removed
      expect(processesOf(moved.lease.jail.uid)).toBe(2);
      moved.jailed.setDeadline(inMs(20));
      expect((await moved.jailed.exited).reason).toBe("deadline");
      for (const jail of [soon, moved, later]) await jail.end();
      if (!(past instanceof Error)) await (past as typeof soon).end();
    });

    test("whose program is missing is refused with the step that failed", async () => {
      const refused = ground.start([], { argv: ["/nothing"] });
      expect(refused).rejects.toMatchObject({
        code: "driver_failed",
        message: expect.stringContaining("exec: errno 2"),
      });
      await refused.catch(() => null); // seen by the line above
      const nowhere = ground.start([], { root: "/nowhere" });
      expect(nowhere).rejects.toMatchObject({ message: expect.stringContaining("spawn.mount_root: ENOENT") });
      await nowhere.catch(() => null); // seen by the line above
    });

    test("whose first process is killed from outside ends as a whole, for a reason unknown", async () => {
      const jail = await ground.start(["hold"]);
      process.kill(jail.jailed.pid, "SIGKILL");
      expect((await jail.jailed.exited).reason).toBe("unknown");
      expect(processesOf(jail.lease.jail.uid)).toBe(0);
      await jail.end();
    });

    test("keeps its slot until its last process is gone, and not longer", async () => {
      const jail = await ground.start(["hold"]);
      const slot = slotOf(jail.lease.jail.uid);
      closeFd(jail.lease.jail.slotFd); // the owner's own hold
      expect(lockSlot(slot)).toBeNull();
      await jail.jailed.kill();
      const fd = lockSlot(slot);
      expect(fd).not.toBeNull();
      // The lease closes its number when it is given back: let the lock be under it again.
      expect(fd).toBe(jail.lease.jail.slotFd);
      await jail.end();
    });

    test("dies within a second of the SIGKILL of its owner, and a sweep finds all that is left", async () => {
      const { process: child, ref } = await owner("one");
      expect(processesOf(ref.uid)).toBe(2);
      await kill(child);
      await until("the jail is gone", () => isGone(ref) && processesOf(ref.uid) === 0, 1000);
      const start = systemClock.monotonicMs();
      expect(await ground.host.sweep()).toMatchObject({ freed: 1 });
      expect(systemClock.monotonicMs() - start).toBeLessThan(1000);
    }, 20_000);

    test("that is detached survives its owner, is found, bounded anew and ended by another process", async () => {
      const { process: child, ref } = await owner("detached");
      await kill(child);
      expect(await ground.host.sweep()).toEqual({ freed: 0, killed: 0 });
      expect((await ground.host.registry.list()).map((record) => record.id)).toEqual([ref.id]);
      const adopted = adoptJailed(ref)!;
      expect(processesOf(ref.uid)).toBe(2);
      adopted.setDeadline(ground.host.bootTimeNs() + 60_000_000_000n);
      adopted.setDeadline(null);
      expect(isGone(ref)).toBe(false);
      await adopted.kill();
      expect((await adopted.exited).reason).toBe("killed");
      expect(processesOf(ref.uid)).toBe(0);
      await ground.host.registry.remove(ref.id);
      expect(adoptJailed(ref)).toBeNull();
    }, 20_000);

    test("that is detached dies at its deadline without anybody left, also at one set by an adopter", async () => {
      const own = await owner("detached:700");
      const given = await owner("detached");
      await Promise.all([kill(own.process), kill(given.process)]);
      expect(isGone(own.ref)).toBe(false);
      const adopted = adoptJailed(given.ref)!;
      adopted.setDeadline(ground.host.bootTimeNs() + 200_000_000n);
      await adopted.exited;
      await until("the deadline", () => isGone(own.ref), 2000);
      expect([processesOf(own.ref.uid), processesOf(given.ref.uid)]).toEqual([0, 0]);
      expect(await ground.host.registry.list()).toEqual([]);
      await ground.host.sweep();
    }, 20_000);

    test("is not adopted under a pid that means another process by now, or from before a reboot", async () => {
      const jail = await ground.start(["hold"]);
      const { hostBootId } = { hostBootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim() };
      const { pid, startTicks } = jail.jailed;
      expect(adoptJailed({ pid, startTicks: startTicks + 1, hostBootId })).toBeNull();
      expect(adoptJailed({ pid, startTicks, hostBootId: "another" })).toBeNull();
      const adopted = adoptJailed({ pid, startTicks, hostBootId })!;
      await jail.end();
      expect((await adopted.exited).reason).toBe("unknown");
    });

    test("is born in the v2 group that it is given, and joins those of v1", async () => {
      const v2 = readMounts().find((mount) => mount.type === "cgroup2");
      if (v2 === undefined) return console.warn("skipped: no cgroup2 is mounted");
      const group = join(v2.at, `warren-test-${process.pid}`);
      mkdirSync(group);
      const fd = openFd(join(group, "cgroup.procs"), "write");
      const jail = await ground.start(["hold"], { jail: { cgroupFds: [fd] } });
      const own = readFileSync(`/proc/${jail.jailed.pid}/cgroup`, "utf8");
      expect(own).toContain(`0::/warren-test-${process.pid}\n`);
      expect(readFileSync(join(group, "cgroup.procs"), "utf8").trim().split("\n").length).toBe(2);
      await jail.end();
      const usual = await ground.start(["hold"]);
      const groups = readFileSync(`/proc/${usual.jailed.pid}/cgroup`, "utf8");
      expect(groups).toContain(`/warren/${slotOf(usual.lease.jail.uid)}\n`);
      await usual.end();
      closeFd(fd);
      rmdirSync(group);
    });

    test("leaves nothing behind, 200 times in a row and 200 in parallel, and no network namespace of the kernel's", async () => {
      const spaces = () => Number(/^net_namespace\s+(\d+)/m.exec(readFileSync("/proc/slabinfo", "utf8"))?.[1] ?? 0);
      const start = spaces();
      for (let i = 0; i < 200; i++) await (await ground.start(["hold"])).end();
      const batch = async () => {
        for (let i = 0; i < 10; i++) await (await ground.start(["hold"])).end();
      };
      await Promise.all(Array.from({ length: 20 }, batch));
      await expectNoLeaks(before, ground.home);
      await until("the kernel has taken the namespaces down", () => spaces() < start + 50);
    }, 60_000);

    test("leaves nothing that a sweep does not find within a second, its owner killed at any point", async () => {
      const kills = Number(process.env["FAULT_KILLS"] ?? 12);
      let worstMs = 0;
      for (let i = 0; i < kills; i++) {
        const { process: child } = await owner("loop");
        await systemClock.sleep((i * 37) % 150); // spread over making, holding and ending
        await kill(child);
        const start = systemClock.monotonicMs();
        await ground.host.sweep();
        worstMs = Math.max(worstMs, systemClock.monotonicMs() - start);
        await expectNoLeaks(before, ground.home, 500);
      }
      expect(worstMs).toBeLessThan(1000);
    }, 120_000);
  });
}
