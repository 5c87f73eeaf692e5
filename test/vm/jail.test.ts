/**
 * The attack suite: code execution inside the VMM process, and what it can reach. Each attack has a control that shows the same
 * program doing it outside of a jail, so that a test cannot pass because the attack is broken.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { closeFd } from "../../ffi/files.ts";
import { readExactly } from "../../ffi/memfd.ts";
import { call, memory } from "../../ffi/native.ts";
import { parseMounts } from "../../src/host/home/mountinfo.ts";
import { listenIn } from "../../src/host/jail/sockets.ts";
import { createMemory } from "../../src/host/memory.ts";
import { gate } from "../harness/gates.ts";
import { until } from "../harness/until.ts";
import { FD, JailGround, parseReport, type Report } from "./jail-ground.ts";

const { EPERM, ENOENT, EACCES, EROFS, ESRCH, ECONNREFUSED, ENOSYS, EFAULT, EAGAIN, EINVAL } = constants.errno;

const F_DUPFD = 0;

/** What no list may ever lack, whatever is added to it or sorted differently. */
const MUST_REFUSE = (
  "ptrace process_vm_readv process_vm_writev kcmp mount umount2 pivot_root fsopen fsmount move_mount open_tree mount_setattr chroot setns " +
  "unshare clone3 fork vfork bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key " +
  "init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff open_by_handle_at acct quotactl settimeofday " +
  "clock_settime personality ioperm iopl execveat"
).split(" ");

let ground: JailGround;

/** Every attack failed with one of these, none is missing. */
function expectRefused(report: Report, attacks: readonly string[], ...errnos: readonly number[]): void {
  const results = Object.fromEntries(attacks.map((name) => [name, report.errno.get(name)]));
  for (const name of attacks)
    expect({ ...results, is: name, errno: errnos.includes(results[name] ?? -1) }).toMatchObject({
      is: name,
      errno: true,
    });
}

function expectWorks(report: Report, attacks: readonly string[]): void {
  expect(Object.fromEntries(attacks.map((name) => [name, report.errno.get(name)]))).toEqual(
    Object.fromEntries(attacks.map((name) => [name, 0])),
  );
}

function entries(report: Report): string[] {
  return report.lines
    .filter((line) => line.startsWith("entry "))
    .map((line) => line.slice(6))
    .sort();
}

/** Host pid of the VMM: the only child of the jail's first process. */
function vmmOf(initPid: number): number {
  return Number(readFileSync(`/proc/${initPid}/task/${initPid}/children`, "utf8").trim());
}

if (gate("root", "gcc")) {
  describe("A VMM in a jail", () => {
    beforeAll(async () => {
      ground = await JailGround.make();
      writeFileSync(join(ground.dir, "secret"), "s", { mode: 0o666 });
    }, 60_000);
    afterAll(() => ground[Symbol.asyncDispose]());

    test("cannot name, read, write or make files of the host", async () => {
      const secret = join(ground.dir, "secret");
      const reads = [
        `read=${secret}`,
        "read=/etc/passwd",
        `read=/proc/self/root${secret}`,
        `read=/proc/self/cwd/../../..${secret}`,
        `read=/..${secret}`,
        "read=/../etc/passwd",
      ];
      const init = [`read=/proc/1/root${secret}`, "read=/proc/1/mem", "read=/proc/1/environ", "read=/proc/1/cmdline"];
      const kernel = [
        "read=/proc/sys/kernel/core_pattern",
        "read=/proc/kcore",
        "read=/proc/kallsyms",
        "write=/proc/sysrq-trigger",
      ];
      const makes = ["create=/", "create=/dev", "create=/proc", "mknod=/block"];
      const writes = [`write=${secret}`, "write=/firmware", "write=/proc/self/oom_score_adj"];
      const report = await ground.attack(...reads, ...init, ...kernel, ...makes, ...writes);
      expectRefused(report, [...reads, ...init, ...kernel], ENOENT, EACCES, EPERM);
      expectRefused(report, [...makes, ...writes], ENOENT, EROFS, EACCES, EPERM);
      const control = [
        `read=${secret}`,
        "read=/etc/passwd",
        `read=/proc/self/root${secret}`,
        `read=/proc/${process.pid}/environ`,
        `write=${secret}`,
      ];
      const more = [
        "read=/proc/sys/kernel/core_pattern",
        `create=${ground.dir}`,
        `mknod=${ground.dir}/block`,
        "write=/proc/self/oom_score_adj",
      ];
      expectWorks(
        await ground.control(...control, ...more),
        [...control, ...more].filter((name) => name !== "write=/proc/self/oom_score_adj"),
      );
    });

    test("sees its root, itself and its own descriptors, and nothing else", async () => {
      expect(entries(await ground.attack("list=/"))).toEqual(["attacker", "dev", "firmware", "proc"]);
      expect(entries(await ground.attack("list=/.."))).toEqual(["attacker", "dev", "firmware", "proc"]);
      expect(entries(await ground.attack("list=/dev"))).toEqual([]);
      expect(entries(await ground.attack("list=/proc"))).toEqual(["2", "self", "thread-self"]);
      const inheritable = call("fcntl", ground.memoryFd, F_DUPFD, 60); // not close-on-exec
      const fds = entries(await ground.attack("list=/proc/self/fd"));
      closeFd(inheritable);
      expect(fds).toEqual(["0", "1", "2", "3", "4", "5", "6", "7"]); // 7 is the listing itself
      expect(entries(await ground.control("list=/proc")).length).toBeGreaterThan(10);
    });

    test("gets the devices it was given, though on the host they are root's alone, and no others", async () => {
      const device = ["kvm", "loop-control", "kmsg"].find(
        (name) => existsSync(`/dev/${name}`) && (statSync(`/dev/${name}`).mode & 0o7) === 0,
      );
      const attacks = ["list=/dev", "open=/dev/null", `open=/dev/${device}`, "create=/dev", "mknod=/dev/loop0"];
      const jail = await ground.start(attacks, { devices: ["null", ...(device === undefined ? [] : [device])] });
      const report = parseReport((await jail.jailed.exited).stderr);
      await jail.end();
      expect(entries(report)).toEqual([...(device === undefined ? [] : [device]), "null"].sort());
      expectWorks(report, ["open=/dev/null", ...(device === undefined ? [] : [`open=/dev/${device}`])]);
      expectRefused(report, ["create=/dev", "mknod=/dev/loop0"], EROFS, EPERM);
      await expect(ground.start([], { devices: ["no-such-device"] })).rejects.toMatchObject({ code: "driver_failed" });
    });

    test("has no capability, no way to gain one, its own uid, and namespaces of its own", async () => {
      const jail = await ground.start(["hold"], { group: 1234 });
      const vmm = vmmOf(jail.jailed.pid);
      const status = (pid: number, name: string) =>
        new RegExp(`^${name}:[ \\t]*(.*)$`, "m")
          .exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
          ?.replaceAll("\t", " ");
      const { uid } = jail.lease.jail;
      for (const [pid, id] of [
        [vmm, uid],
        [jail.jailed.pid, uid + 1],
      ] as const) {
        for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
          expect(status(pid, set)).toBe("0000000000000000");
        expect(status(pid, "Uid")).toBe(`${id} ${id} ${id} ${id}`);
        expect(status(pid, "Gid")).toBe(`${id} ${id} ${id} ${id}`);
        expect(status(pid, "NoNewPrivs")).toBe("1");
        expect(status(pid, "Seccomp")).toBe("2");
        for (const space of ["mnt", "pid", "net", "ipc", "uts"]) {
          expect(readlinkSync(`/proc/${pid}/ns/${space}`)).not.toBe(readlinkSync(`/proc/self/ns/${space}`));
        }
      }
      const mounts = parseMounts(readFileSync(`/proc/${vmm}/mountinfo`, "utf8"));
      expect(mounts.map((mount) => mount.at)).toEqual(["/", "/proc"]);
      expect(readFileSync(`/proc/${vmm}/mountinfo`, "utf8").match(/ ro,nosuid,nodev/g)?.length).toBe(2);
      expect(status(vmm, "Groups")?.trim()).toBe("1234");
      expect(status(jail.jailed.pid, "Groups")?.trim()).toBe("");
      expect(status(vmm, "THP_enabled")).toBe("0");
      expect(readFileSync(`/proc/${vmm}/oom_score_adj`, "utf8").trim()).toBe("500");
      expect(readdirSync(`/proc/${jail.jailed.pid}/fd`).length).toBeLessThanOrEqual(6);
      expect(jail.jailed.sealedExec).toBe(true);
      await jail.end();
      const gains = ["caps", "setuid"];
      expectRefused(await ground.attack(...gains), gains, EPERM);
      expectWorks(await ground.control(...gains), gains);
    });

    test("cannot see, signal, trace, read or bound any other process, its own init included", async () => {
      const outside = Bun.spawn([join(ground.dir, "attacker"), "hold"], { stdio: ["ignore", "ignore", "ignore"] });
      const kinds = ["see", "ptrace", "readmem", "limit", "affinity", "stop", "tgkill", "pidfd", "kill"];
      const onHost = kinds.map((kind) => `pid-${kind}=${outside.pid}`);
      const onInit = kinds.map((kind) => `pid-${kind}=1`);
      const jail = await ground.start([...onHost, ...onInit, "see-after"]);
      const exit = await jail.jailed.exited;
      await jail.end();
      const report = parseReport(exit.stderr);
      expectRefused(report, onHost, ESRCH, EPERM, EINVAL);
      expect(report.errno.get(`pid-see=${outside.pid}`)).toBe(ESRCH);
      expectRefused(report, onInit, EPERM);
      expect(exit).toMatchObject({ reason: "vmm_exit", code: 0 }); // init lived to tell
      expect(outside.killed).toBe(false);
      expectWorks(await ground.control(...onHost), onHost);
      await outside.exited;
      expect(outside.signalCode).toBe("SIGKILL");
    });

    test("that kills everything it may signal kills only itself", async () => {
      const other = await ground.start(["hold"]);
      const jail = await ground.start(["all", "hold"]);
      await until("it runs", () => readFileSync(`/proc/${vmmOf(other.jailed.pid)}/comm`, "utf8").trim() === "attacker");
      await jail.end();
      expect(vmmOf(other.jailed.pid)).toBeGreaterThan(0);
      await other.end();
    });

    test("cannot mount, change its root, make namespaces or enter any", async () => {
      const spaces = ["0x10000000", "0x20000", "0x40000000", "0x20000000"];
      const attacks = [
        "mount=/proc",
        "mount=/dev",
        "chroot=/proc",
        ...spaces.flatMap((flag) => [`unshare=${flag}`, `clone=${flag}`]),
      ];
      expectRefused(await ground.attack(...attacks), attacks, EPERM);
      const control = [
        `mount=${ground.dir}/home`,
        "clone=0x10000000",
        "clone=0x20000",
        "clone=0x40000000",
        "unshare=0x20000",
        "unshare=0x40000000",
        "chroot=/",
      ];
      expectWorks(await ground.control(...control), control);
    });

    test("has threads but can start no process and run no second program", async () => {
      const attacks = ["clone=0", "exec=/attacker", "exec-zero=0", "exec-zero=1"];
      const report = await ground.attack(...attacks);
      expectRefused(report, attacks.slice(0, 2), EPERM);
      expectRefused(report, ["exec-zero=0"], EFAULT); // let through, but there is no path there
      expectRefused(report, ["exec-zero=1"], EPERM); // nor can one be put there
      expectWorks(await ground.control("clone=0", `exec=${ground.dir}/attacker`, "exec-zero=1"), [
        "clone=0",
        `exec=${ground.dir}/attacker`,
        "exec-zero=1",
      ]);
    });

    test("reaches no network, no socket of the host and none of another sandbox", async () => {
      const name = `warren-abstract-${process.pid}`;
      const abstract = Bun.listen({ unix: `\0${name}`, socket: { data: () => undefined } });
      const other = await ground.start(["hold"]);
      const theirs = listenIn(other.lease.socketDir, "agent", 1);
      const path = `connect=${other.lease.socketDir}/agent`;
      const families = ["2", "10", "16", "17", "38", "40"].map((family) => `socket=${family}`); // IPv4, IPv6, netlink, packet, alg, vsock
      const report = await ground.attack(...families, "socket=1", `abstract=${name}`, path);
      expectRefused(report, families, EPERM);
      expectWorks(report, ["socket=1"]);
      expectRefused(report, [`abstract=${name}`], ECONNREFUSED);
      expectRefused(report, [path], ENOENT);
      const control = ["socket=2", "socket=10", "socket=16", `abstract=${name}`, path];
      expectWorks(await ground.control(...control), control);
      closeFd(theirs);
      abstract.stop(true);
      await other.end();
    });

    test("cannot change the template's memory by any road, and its own writes stay its own", async () => {
      const roads = ["pwrite", "truncate", "punch", "shared", "chmod", "reopen"].map(
        (how) => `seal-${how}=${FD.memory}`,
      );
      const report = await ground.attack(...roads, `private=${FD.memory}`);
      expectRefused(report, roads, EPERM);
      expectWorks(report, [`private=${FD.memory}`]);
      const first = memory(1);
      readExactly(ground.memoryFd, first, 0);
      expect(first[0]).toBe(0);
      const open = createMemory("unsealed", 1 << 20);
      expectWorks(await ground.controlOn(open, ...roads), roads);
      closeFd(open);
    });

    test("gets the filter's answer for every call on the list, and the kernel's own outside of a jail", async () => {
      const table = readFileSync(join(import.meta.dir, "../../ffi/init/refused.h"), "utf8");
      const rows = [...table.matchAll(/^REFUSE\((\w+), (\d+), (\w+)\)/gm)].map(([, name, nr, answer]) => ({
        name: name!,
        nr: nr!,
        answer: answer!,
      }));
      const answers = (report: Report) =>
        new Map(
          report.lines
            .filter((line) => line.startsWith("refused "))
            .map((line) => [line.split(" ")[1], Number(line.split(" ")[2])]),
        );
      const jailed = answers(await ground.attack(`refused=${rows.map((row) => row.nr).join(",")}`));
      expect(rows.map(({ name }) => name)).toEqual(expect.arrayContaining(MUST_REFUSE));
      for (const { name, nr, answer } of rows) {
        expect({ name, errno: jailed.get(nr) }).toEqual({ name, errno: answer === "ENOSYS" ? ENOSYS : EPERM });
      }
      // Not called as root without a jail: these would act whatever their arguments are.
      const tame = rows.filter(({ name }) => !/^(fork|vfork|vhangup)$/.test(name));
      const free = answers(await ground.control(`refused=${tame.map((row) => row.nr).join(",")}`));
      const same = tame.filter(({ nr }) => free.get(nr) === jailed.get(nr)).map(({ name }) => name);
      expect(same).toEqual([]);
    });

    test("gets no answer to calls newer than the list", async () => {
      const report = await ground.attack("refused=451,457,500,1023");
      expect(report.lines.filter((line) => line.startsWith("refused "))).toEqual(
        [451, 457, 500, 1023].map((nr) => `refused ${nr} ${ENOSYS}`),
      );
      expect((await ground.control("refused=451")).lines).not.toContain(`refused 451 ${ENOSYS}`);
    });

    test("that uses another table of system calls dies of it", async () => {
      for (const table of ["x32", "i386"]) {
        const jail = await ground.start([`foreign=${table}`, "hold"]);
        expect(await jail.jailed.exited).toMatchObject({
          reason: "vmm_exit",
          code: null,
          signal: constants.signals.SIGSYS,
        });
        await jail.end();
      }
      expect((await ground.control("foreign=x32")).errno.has("foreign=x32")).toBe(true);
    });

    test("cannot raise its limits, nor have more tasks or memory than it was given", async () => {
      expectRefused(await ground.attack("limit", "soft-limit"), ["limit", "soft-limit"], EPERM);
      expectWorks(await ground.control("limit", "soft-limit"), ["limit", "soft-limit"]);
      const bomb = await ground.attack("threads");
      const threads = Number(bomb.lines.find((line) => line.startsWith("threads "))?.split(" ")[1]);
      expect(threads).toBeGreaterThan(60);
      expect(threads).toBeLessThan(140);
      expect(bomb.errno.get("threads")).toBe(EAGAIN);
      const greedy = await ground.start(["memory=2000", "hold"]);
      expect(await greedy.jailed.exited).toMatchObject({ reason: "vmm_exit", code: null, signal: 9 });
      await greedy.end();
      expectWorks(await ground.control("memory=400"), ["memory=400"]);
    }, 30_000);

    test("that floods its stderr stops only itself; the end of what it said is kept", async () => {
      const jail = await ground.start(["chatter=0"]);
      const before = process.memoryUsage().rss;
      const written = () =>
        Number(/^wchar: (\d+)/m.exec(readFileSync(`/proc/${vmmOf(jail.jailed.pid)}/io`, "utf8"))?.[1]);
      await until("it has written more than is kept", () => written() > 300_000);
      await jail.jailed.kill();
      const exit = await jail.jailed.exited;
      await jail.end();
      expect(exit.stderr.length).toBeLessThanOrEqual(8192);
      expect(exit.stderr).toContain("zzz");
      expect(process.memoryUsage().rss - before).toBeLessThan(32 * 2 ** 20);
      const last = await ground.start(["chatter=40", "read=/last"]);
      expect((await last.jailed.exited).stderr).toEndWith(`read=/last ${ENOENT}\n`);
      await last.end();
    });
  });
}
