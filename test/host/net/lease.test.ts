/** Leases with a network: lent with the slot, in the jail that stands on it, back with the lease; and a host that can give none. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, closeSync, constants, mkdirSync, mkdtempSync, openSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NativeError } from "../../../ffi/native.ts";
import { systemClock } from "../../../src/base/clock.ts";
import { createLog } from "../../../src/base/log.ts";
import { removeAll } from "../../../src/host/home/clean.ts";
import type { Lease, LeaseAsk } from "../../../src/host/host.ts";
import { jailInit } from "../../../src/host/jail/init.ts";
import { spawnJailed } from "../../../src/host/jail/jail.ts";
import { type LinuxHost, openLinuxHost } from "../../../src/host/linux.ts";
import { hostBootId } from "../../../src/host/slots/process-name.ts";
import { LIMITS } from "../../../src/limits.ts";
import { gate } from "../../harness/gates.ts";
import { until } from "../../harness/until.ts";
import { inNamespace, inside, run, slotDevices } from "./unshared.ts";

const TAP = { name: "tap0", mac: new Uint8Array([2, 0x57, 0x52, 0, 0, 1]) };

inNamespace(import.meta.path, () => {
  const logged: string[] = [];
  let dir: string;
  let host: LinuxHost;
  let snapshot: LeaseAsk["snapshot"];
  let broken: NativeError | null = null;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "net-lease-"));
    host = await openLinuxHost({
      home: join(dir, "home"),
      clock: systemClock,
      log: createLog("debug", (line) => logged.push(line)),
      networkStep: (name) => {
        if (broken !== null && name === "inside") throw broken;
      },
    });
    snapshot = { openState: null, diskFd: openSync(host.data.dir, constants.O_RDWR | 0o20200000, 0o600) };
  });
  afterAll(async () => {
    host.release();
    closeSync(snapshot.diskFd);
    await removeAll({ home: host.data.home, clock: systemClock, log: createLog("silent"), force: false });
    rmSync(dir, { recursive: true });
  });

  const lease = (id: string): Promise<Lease> => {
    return host.lease({ id, memoryMib: 128, cpu: 1, snapshot, detached: false });
  };
  const slotOf = ({ jail }: Lease): number => (jail.uid - LIMITS.slotUidBase) / 2;

  const jailed = async ({ jail }: Lease) => {
    const root = join(dir, "root");
    mkdirSync(join(root, "proc"), { recursive: true });
    chmodSync(root, 0o755);
    const init = await jailInit(host.data.dir);
    await Bun.write(join(dir, "stay.c"), "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n");
    run("gcc", "-static", "-o", join(root, "stay"), join(dir, "stay.c"));
    chmodSync(join(root, "stay"), 0o755);
    return await spawnJailed({
      ...{ init, argv: ["/stay"], env: [], fds: [], root, devices: [], group: null, tap: TAP, rlimits: {} },
      jail: { ...jail, hostname: "x", deadlineNs: null, detached: false },
    });
  };

  describe("A lease's network", () => {
    test("is its slot's own, and goes back with it", async () => {
      const one = await lease("sb_one");
      const two = await lease("sb_two");
      for (const each of [one, two]) {
        expect(each.network?.usage()).toEqual({ bytesOut: 0, bytesIn: 0, connections: 0, refused: 0 });
        expect(slotDevices()).toContain(`wrn${slotOf(each)}`);
        expect(inside(each.jail.netnsFd!, "ip", "-o", "link")).toContain("tap0");
      }
      expect(one.network?.hostAddress).not.toBe(two.network?.hostAddress);
      expect(host.networkDegraded).toBeNull();
      await one[Symbol.asyncDispose]();
      expect([one.network?.usage(), two.network?.usage()]).toEqual([null, expect.anything()]);
      await two[Symbol.asyncDispose]();
      expect(
        host.networkOf({ id: "x", pid: process.pid, startTicks: 1, hostBootId: hostBootId(), socketDir: "" }),
      ).toBeNull();
    });

    test("that fails after its network leaves neither", async () => {
      const before = logged.length;
      const broken = { openState: () => Number.NaN, diskFd: 0 };
      const asked = host.lease({ id: "sb_fails", memoryMib: 128, cpu: 1, snapshot: broken, detached: false });
      await expect(asked).rejects.toThrow();
      expect(logged.slice(before).join()).not.toContain("warn");
    });
  });

  if (gate("gcc")) {
    test("A jail is in the network that was lent, with its tap open, and the next one after it too", async () => {
      const one = await lease("sb_jail");
      const space = readlinkSync(`/proc/self/fd/${one.jail.netnsFd}`);
      const link = () => inside(one.jail.netnsFd!, "ip", "-o", "link", "show", "tap0");
      expect(link()).toContain("NO-CARRIER");
      for (let i = 0; i < 2; i++) {
        const jail = await jailed(one);
        expect(readlinkSync(`/proc/${jail.pid}/ns/net`)).toBe(space);
        expect(link()).not.toContain("NO-CARRIER");
        const ref = {
          id: "sb_jail",
          pid: jail.pid,
          startTicks: jail.startTicks,
          hostBootId: hostBootId(),
          socketDir: "",
        };
        expect(host.networkOf(ref)?.hostAddress).toBe(one.network?.hostAddress ?? "");
        await jail.kill();
        expect(link()).toContain("NO-CARRIER");
        expect(host.networkOf(ref)).toBeNull();
      }
      await one[Symbol.asyncDispose]();
      await until("nothing is kept any more", () => slotDevices().length === 0);
      expect(logged.join()).not.toContain("is not used again");
    }, 30_000);

    test("A jail without a network that was lent has an empty one of its own", async () => {
      const one = await lease("sb_alone");
      const alone: Lease = { ...one, jail: { ...one.jail, netnsFd: null } };
      const jail = await jailed(alone);
      const space = readlinkSync(`/proc/${jail.pid}/ns/net`);
      expect(space).not.toBe(readlinkSync("/proc/self/ns/net"));
      expect(space).not.toBe(readlinkSync(`/proc/self/fd/${one.jail.netnsFd}`));
      await jail.kill();
      await one[Symbol.asyncDispose]();
    }, 30_000);
  }

  test("A host that lacks something lends all but the network, and says why", async () => {
    host.release();
    broken = new NativeError("netlink", 95, "nftables: table");
    const one = await lease("sb_none");
    expect([one.network, one.jail.netnsFd]).toEqual([null, null]);
    expect(host.networkDegraded).toContain("EOPNOTSUPP (nftables: table): modprobe nf_tables");
    expect(host.probeNetwork()).toMatchObject({
      kind: "failed",
      remedy: expect.stringContaining("modprobe nf_tables"),
    });
    await one[Symbol.asyncDispose]();
    broken = null;
    await using two = await lease("sb_some");
    expect(two.network).not.toBeNull();
    expect(host.networkDegraded).toBeNull();
    expect(host.probeNetwork()).toMatchObject({ kind: "works" });
  });
});
