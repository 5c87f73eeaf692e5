/** Leases, slots, groups and the register on a real home: what one VMM stands on is its own, bounded, and wholly given back. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeFd } from "../../ffi/files.ts";
import { systemClock } from "../../src/base/clock.ts";
import { createLog } from "../../src/base/log.ts";
import type { SandboxRecord } from "../../src/engine/registry.ts";
import { examineHost, examineWithoutHome } from "../../src/host/facts.ts";
import { removeAll } from "../../src/host/home/clean.ts";
import { parseMounts } from "../../src/host/home/mountinfo.ts";
import type { LeaseAsk } from "../../src/host/host.ts";
import { Pulses } from "../../src/host/jail/pulse.ts";
import { type LinuxHost, openLinuxHost } from "../../src/host/linux.ts";
import { Cgroups } from "../../src/host/slots/cgroups.ts";
import { hostBootId, isAlive, startTicksOf, thisProcess } from "../../src/host/slots/process-name.ts";
import { Slots, uidOf } from "../../src/host/slots/slots.ts";
import { LIMITS } from "../../src/limits.ts";
import { gate } from "../harness/gates.ts";
import { expectNoLeaks, more, type Traces, traces } from "../harness/leaks.ts";
import { until } from "../harness/until.ts";

const O_TMPFILE = 0o20200000;
let dir: string;
let host: LinuxHost;
let snapshot: LeaseAsk["snapshot"];
let before: Traces;

const slotOf = (uid: number) => (uid - LIMITS.slotUidBase) / 2;

function ask(id: string, change: Partial<LeaseAsk> = {}): LeaseAsk {
  return { id, memoryMib: 128, cpu: 2, snapshot, detached: false, ...change };
}

function record(id: string, pid = process.pid): SandboxRecord {
  const ref = {
    id,
    pid,
    startTicks: startTicksOf(pid) ?? 0,
    hostBootId: hostBootId(),
    socketDir: join(host.data.run, id),
  };
  const info = {} as SandboxRecord["info"];
  const rest = { env: {}, workdir: null, egress: { mode: "none" as const }, secrets: [], base: null };
  return { id, account: "local", info, ref, ...rest };
}

if (gate("root")) {
  describe("A lease", () => {
    beforeAll(async () => {
      dir = mkdtempSync(join(tmpdir(), "lease-"));
      host = await openLinuxHost({
        home: join(dir, "home"),
        clock: systemClock,
        log: createLog("silent"),
        networkReserve: 0,
      });
      const diskFd = openSync(host.data.dir, constants.O_RDWR | O_TMPFILE, 0o600);
      writeSync(diskFd, new Uint8Array(1 << 20).fill(7));
      snapshot = { openState: () => openSync("/dev/null", "r"), diskFd };
      host.cgroups.favourJoins();
    }, 30_000);
    afterAll(async () => {
      closeSync(snapshot.diskFd);
      await removeAll({ home: host.data.home, clock: systemClock, log: createLog("silent"), force: false });
      rmSync(dir, { recursive: true });
    });
    beforeEach(() => {
      before = traces(host.data.home);
    });
    afterEach(() => expectNoLeaks(before, host.data.home));

    test("has a disk of its own that nobody else can name, and the template keeps its own bytes", async () => {
      await using one = await host.lease(ask("sb_one"));
      await using two = await host.lease(ask("sb_two"));
      writeSync(one.disk.rwFd, new Uint8Array([1]), 0, 1, 0);
      const first = (fd: number) => {
        const byte = new Uint8Array(1);
        readSync(fd, byte, 0, 1, 0);
        return byte[0];
      };
      expect([first(one.disk.roFd), first(two.disk.roFd), first(snapshot.diskFd)]).toEqual([1, 7, 7]);
      expect(() => writeSync(one.disk.roFd, new Uint8Array(1), 0, 1, 0)).toThrow("EBADF");
      expect(statSync(`/proc/self/fd/${one.disk.rwFd}`).nlink).toBe(0);
      expect(readdirSync(host.data.dir).filter((name) => name !== "volumes")).toEqual([]);
      expect(one.jail.uid).not.toBe(two.jail.uid);
      expect(statSync(one.socketDir).mode & 0o777).toBe(0o700);
    });

    test("is bounded by its group in memory, tasks and CPU", async () => {
      await using lease = await host.lease(ask("sb_bounds"));
      const files = lease.jail.cgroupFds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`));
      const read = (name: string) =>
        files
          .map((file) => join(file, "..", name))
          .filter((path) => existsSync(path))
          .map((path) => readFileSync(path, "utf8").trim());
      const memory = String((128 + LIMITS.vmmOverheadMib) * 2 ** 20);
      expect([...read("memory.max"), ...read("memory.limit_in_bytes")]).toEqual([memory]);
      expect(read("pids.max")).toEqual([String(LIMITS.vmmTasks + 2)]);
      expect([...read("cpu.max"), ...read("cpu.cfs_quota_us")]).toEqual([expect.stringMatching(/^200000/)]);
      expect(lease.memoryMib()).toBe(0);
      expect(lease.cpuMs()).toBe(0);
      lease.carry(1_500_000);
      lease.carry(10_000_000);
      const raised = String((128 + LIMITS.vmmOverheadMib + 11) * 2 ** 20);
      expect([...read("memory.max"), ...read("memory.limit_in_bytes")]).toEqual([raised]);
    });

    test("tells the CPU time of its machine on one base, whoever looks", async () => {
      await using lease = await host.lease(ask("sb_cpu"));
      const files = lease.jail.cgroupFds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`));
      const joined = files.map((file) => `echo $$ > ${file}`).join("; ");
      const run = (script: string) => Bun.spawn(["sh", "-c", `${joined}; ${script}`]);
      // Of its start, which the machine's own process knows nothing of.
      expect(await run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").exited).toBe(0);
      const startMs = lease.cpuMs() ?? 0;
      expect(startMs).toBeGreaterThan(20);
      await using jail = run("sleep 60 & wait");
      const children = () => readFileSync(`/proc/${jail.pid}/task/${jail.pid}/children`, "utf8").trim();
      await until("its machine runs", () => children() !== "");
      const { ref } = record("sb_cpu", jail.pid);
      const cpuMs = new Pulses().look(ref)?.cpuMs() ?? 0;
      expect(cpuMs).toBeGreaterThanOrEqual(startMs);
      expect(cpuMs).toBeLessThanOrEqual(lease.cpuMs() ?? 0);
      process.kill(Number(children()), "SIGKILL");
      expect(await jail.exited).not.toBeNull();
      expect(new Pulses().look(ref)).toBeNull();
    });

    test("is given back once, however often it is disposed, and has closed what it handed over", async () => {
      const lease = await host.lease(ask("sb_back"));
      const { rwFd } = lease.disk;
      lease.handedOver();
      lease.handedOver();
      expect(existsSync(`/proc/self/fd/${rwFd}`)).toBe(false);
      const other = openSync("/dev/null", "r"); // may get the number: a second close would hit it
      await Promise.all([lease[Symbol.asyncDispose](), lease[Symbol.asyncDispose]()]);
      await lease[Symbol.asyncDispose]();
      expect(existsSync(`/proc/self/fd/${other}`)).toBe(true);
      closeSync(other);
    });

    test("that fails half-way leaves nothing, whatever the step", async () => {
      const broken = (change: Partial<LeaseAsk["snapshot"]>) =>
        ask("sb_broken", { snapshot: { ...snapshot, ...change } });
      const noState = () => {
        throw new Error("no state");
      };
      await expect(host.lease(broken({ openState: noState }))).rejects.toThrow("no state");
      await expect(host.lease(broken({ diskFd: 0 }))).rejects.toThrow();
      await expect(host.lease(ask("../escape"))).rejects.toMatchObject({ code: "internal" });
      await using _ = await host.lease(ask("sb_twice"));
      await expect(host.lease(ask("sb_twice"))).rejects.toMatchObject({ code: "already_exists" });
    });

    test("that no process holds any more is freed by the next sweep, and by whoever takes its slot", async () => {
      const slots = new Slots(host.data.slots, { ...thisProcess(), pid: 999_999, startTicks: 1 });
      const dead = slots.take("sb_dead", () => true);
      await Bun.write(join(host.data.run, "sb_dead", "qmp"), "");
      closeFd(dead.fd); // SIGKILL does no more
      expect(await host.sweep()).toEqual({ freed: 1, killed: 0 });
      expect(existsSync(join(host.data.run, "sb_dead"))).toBe(false);

      const again = slots.take("sb_dead2", () => true);
      closeFd(again.fd);
      let cleaned = "";
      const heir = new Slots(host.data.slots, { ...thisProcess(), pid: pidThatStartsAt(again.slot) });
      const { slot, fd } = heir.take("sb_heir", (leftover) => {
        cleaned = leftover.id;
        return true;
      });
      heir.remove(slot);
      closeFd(fd);
      expect([slot, cleaned]).toEqual([again.slot, "sb_dead2"]);
    });

    test("of a living process is left alone by a sweep, in whatever state it is", async () => {
      await using lease = await host.lease(ask("sb_alive"));
      expect(await host.sweep()).toEqual({ freed: 0, killed: 0 });
      expect(existsSync(lease.socketDir)).toBe(true);
      const again = await openLinuxHost({ home: host.data.home, clock: systemClock, log: createLog("silent") });
      expect(existsSync(lease.socketDir)).toBe(true); // opening a home sweeps it, too
      expect(again.data.home).toBe(host.data.home);
    });

    test("of a process that cannot be seen from here is left alone, also by whoever gets its slot's lock", async () => {
      const elsewhere = new Slots(host.data.slots, { ...thisProcess(), pid: 4242, space: "1.2" });
      const { slot, fd } = elsewhere.take("sb_elsewhere", () => true);
      closeFd(fd); // its lock is in a namespace that we do not see
      mkdirSync(join(host.data.run, "sb_elsewhere"));
      const { ref } = record("sb_elsewhere");
      await host.registry.put({ ...record("sb_elsewhere"), ref: { ...ref, pid: 2 ** 22 + 1 } });
      expect(await host.sweep()).toEqual({ freed: 0, killed: 0 });
      expect(await host.registry.list()).toEqual([]);
      expect(readdirSync(join(host.data.run, "sb_elsewhere"))).toEqual(["sandbox.json"]);
      rmSync(join(host.data.run, "sb_elsewhere"), { recursive: true });
      elsewhere.remove(slot);
    });

    test("passes over a slot whose last jail is still dying", () => {
      const slots = new Slots(host.data.slots, { ...thisProcess(), pid: 12_345 });
      const first = slots.take("sb_first", () => true);
      closeFd(first.fd);
      const same = new Slots(host.data.slots, { ...thisProcess(), pid: 12_345 });
      const second = same.take("sb_second", () => false);
      expect(second.slot).not.toBe(first.slot);
      for (const { slot } of [first, second]) slots.remove(slot);
      closeFd(second.fd);
    });

    test("is refused when every slot of the host is taken, and gets one as soon as one is free", () => {
      const slots = new Slots(host.data.slots, thisProcess(), 3);
      const held = [0, 1, 2].map((i) => slots.take(`sb_${i}`, () => true));
      expect(held.map(({ slot }) => slot).sort()).toEqual([0, 1, 2]);
      const refusal = expect.objectContaining({ code: "capacity_exhausted" });
      expect(() => slots.take("sb_more", () => true)).toThrow(refusal);
      slots.remove(held[1]!.slot);
      closeFd(held[1]!.fd);
      held[1] = slots.take("sb_more", () => true);
      expect(held.map(({ slot }) => slot).sort()).toEqual([0, 1, 2]);
      for (const { slot, fd } of held) {
        slots.remove(slot);
        closeFd(fd);
      }
    });

    test("record is found while its VMM lives, replaced whole, and removed when it is stale", async () => {
      const { registry } = host;
      await using _lease = await host.lease(ask("sb_record"));
      await registry.put(record("sb_record"));
      await registry.put({ ...record("sb_record"), workdir: "/tmp" });
      expect(await registry.get("sb_record")).toMatchObject({ id: "sb_record", workdir: "/tmp" });
      expect((await registry.list()).map(({ id }) => id)).toEqual(["sb_record"]);
      expect(readdirSync(join(host.data.run, "sb_record"))).toEqual(["sandbox.json"]);
      for (const id of ["sb_unknown", "../slots", ""]) expect(await registry.get(id)).toBeNull();
      await expect(registry.put(record("sb_unleased"))).rejects.toThrow();
      const stale = record("sb_record");
      await registry.put({ ...stale, ref: { ...stale.ref, startTicks: 1 } });
      expect(await registry.list()).toEqual([]);
      expect(readdirSync(join(host.data.run, "sb_record"))).toEqual([]);
      await registry.remove("sb_unknown");
    });

    test("has each agent port for one process at a time", async () => {
      const { registry } = host;
      await using _lease = await host.lease(ask("sb_ports"));
      const claims = [
        await registry.claimPort("sb_ports"),
        await registry.claimPort("sb_ports"),
        await registry.claimPort("sb_ports"),
      ];
      expect(claims.map((claim) => claim?.index)).toEqual([1, 2, 3]);
      expect(await registry.claimPort("sb_ports")).toBeNull();
      claims[1]?.release();
      claims[1]?.release();
      const again = await registry.claimPort("sb_ports");
      expect(again?.index).toBe(2);
      for (const claim of [claims[0], claims[2], again]) claim?.release();
      expect(await registry.claimPort("sb_gone")).toBeNull();
    });

    test("leaves memory and disk as the host counts them", () => {
      const { cores, memoryTotalMib, memoryAvailableMib, diskFreeBytes } = host.capacity();
      expect(cores).toBeGreaterThan(0);
      expect(memoryAvailableMib).toBeGreaterThan(0);
      expect(memoryAvailableMib).toBeLessThanOrEqual(memoryTotalMib);
      expect(diskFreeBytes / host.data.freeBytes()).toBeCloseTo(1, 1);
    });

    test("is possible where no cgroup is, and says what it cannot bound", async () => {
      const none = Cgroups.open(parseMounts(""));
      expect(none.degraded.length).toBe(4);
      const group = none.make(1, { memoryMib: 1, tasks: 1, cpu: 1 });
      expect([group.procsFds, group.memoryMib(), group.cpuMs()]).toEqual([[], null, null]);
      expect(await group.remove(systemClock)).toEqual([]);
      const readOnly = Cgroups.open(parseMounts("1 1 0:1 / /proc/self rw - cgroup cgroup rw,memory"));
      expect(readOnly.kinds.memory).toBe("none");
      expect(readOnly.degraded.join()).toContain("the memory controller cannot be used");
    });

    test("facts of this machine have a remedy wherever something is wrong", async () => {
      const facts = [
        ...(await examineHost(host, { qemu: "/nowhere/qemu" })),
        ...examineWithoutHome(new Error("no"), { qemu: null }),
      ];
      for (const fact of facts) expect([fact.name, fact.state === "ok"]).toEqual([fact.name, fact.remedy === null]);
      expect(facts.find((fact) => fact.name === "jail")?.state).toBe("ok");
      expect(facts.find((fact) => fact.name === "commands")?.says).toContain("qemu-system-x86_64");
    });

    test("leak that is there is seen", async () => {
      const lease = await host.lease(ask("sb_leak"));
      const fd = openSync("/dev/null", "r");
      symlinkSync("x", join(host.data.run, "stray"));
      const seen = more(before, traces(host.data.home));
      expect(seen).toContain("file run/sb_leak");
      expect(seen).toContain("file run/stray");
      expect(seen).toContain("descriptor /dev/null");
      expect(seen.filter((line) => line.endsWith("/unnamed")).length).toBe(2);
      await expect(expectNoLeaks(before, host.data.home, 50)).rejects.toThrow("left behind");
      rmSync(join(host.data.run, "stray"));
      closeSync(fd);
      await lease[Symbol.asyncDispose]();
    });

    test("names its owner so that neither a reused pid nor a reboot is taken for it", () => {
      const self = thisProcess();
      expect(isAlive(self)).toBe(true);
      expect(isAlive({ ...self, startTicks: self.startTicks + 1 })).toBe(false);
      expect(isAlive({ ...self, hostBootId: "other" })).toBe(false);
      expect(isAlive({ ...self, pid: 2 ** 22 + 1 })).toBe(false);
      expect(slotOf(uidOf(77))).toBe(77);
    });
  });
}

/** A pid whose process would ask for this slot first. */
function pidThatStartsAt(slot: number): number {
  for (let pid = 0; ; pid++) if ((pid * 97) % LIMITS.slots === slot) return pid;
}
