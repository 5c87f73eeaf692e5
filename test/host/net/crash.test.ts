/** What a killed process leaves of its networks: nothing; and what a sweep removes, and what it leaves alone. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeAll, closeFd, lockByte } from "../../../ffi/files.ts";
import { detachedMount } from "../../../ffi/mounts.ts";
import { NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import { Netlink } from "../../../src/host/net/message.ts";
import { slotAddresses } from "../../../src/host/net/plan.ts";
import { addVeth } from "../../../src/host/net/route.ts";
import { buildSlot } from "../../../src/host/net/slot.ts";
import { sweepLinks } from "../../../src/host/net/sweep.ts";
import { lockSlot } from "../../../src/host/slots/slots.ts";
import { until } from "../../harness/until.ts";
import { holdTap, inNamespace, run, slotDevices } from "./unshared.ts";

const NO_IPV6 = { inside: false, links: false, forwards: false };

/** Whether any process of this machine has a namespace, as its own or by a descriptor. */
function hasHolder(space: string): boolean {
  const links = (dir: string): string[] => {
    try {
      return readdirSync(dir).map((name) => {
        try {
          return readlinkSync(`${dir}/${name}`);
        } catch {
          return ""; // closed meanwhile
        }
      });
    } catch {
      return []; // the process has ended
    }
  };
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return processes.some((pid) => [...links(`/proc/${pid}/ns`), ...links(`/proc/${pid}/fd`)].includes(space));
}

inNamespace(import.meta.path, () => {
  const route = openNetlink(NETLINK_ROUTE);

  afterEach(() => until("all links are gone", () => slotDevices().length === 0));

  describe("A process that is killed while it builds a network leaves nothing", () => {
    for (const step of ["namespace", "link", "inside", "rules", "lent"]) {
      test(`after the step ${step}`, async () => {
        const slot = 40;
        const child = Bun.spawn([process.execPath, `${import.meta.dir}/builder.ts`, String(slot), step], {
          stdout: "pipe",
          stderr: "inherit",
        });
        const { value } = await child.stdout.getReader().read();
        const space = new TextDecoder().decode(value).trim();
        expect(space).toMatch(/^net:\[\d+\]$/);
        expect(hasHolder(space)).toBe(true);
        expect(slotDevices()).toEqual(step === "namespace" ? [] : [`wrn${slot}`]);
        expect(lockSlot(slot)).toBeNull();
        child.kill("SIGKILL");
        await child.exited;
        expect(hasHolder(space)).toBe(false);
        await until("its link is gone", () => slotDevices().length === 0);
        const lock = lockSlot(slot);
        expect(lock).not.toBeNull();
        closeFd(lock!);
      });
    }
  });

  describe("A sweep of links", () => {
    const proc = detachedMount("proc", {});
    // Locks of its own: those of the machine's slots are others' as well.
    const dir = mkdtempSync(join(tmpdir(), "slot-locks-"));
    const lockOwn = (slot: number) => lockByte(join(dir, "locks"), slot);
    afterAll(() => rmSync(dir, { recursive: true }));
    const build = (slot: number) => buildSlot({ route, ipv6: NO_IPV6, procFd: () => proc }, slotAddresses(slot));

    test("removes one whose slot nobody has and that leads to nobody", () => {
      const { ns, netfilter } = build(50); // open in this process, which is not in it
      expect(sweepLinks(lockOwn)).toBe(1);
      expect(slotDevices()).toEqual([]);
      closeAll([ns, netfilter]);
    });

    test("leaves one alone whose slot somebody has", () => {
      const lock = lockOwn(51)!;
      const { ns, netfilter } = build(51);
      expect(sweepLinks(lockOwn)).toBe(0);
      expect(slotDevices()).toEqual(["wrn51"]);
      closeAll([ns, netfilter, lock]);
    });

    test("leaves one alone that leads to a process", async () => {
      const { ns, netfilter } = build(52);
      const holder = await holdTap(ns);
      closeAll([ns, netfilter]);
      expect(sweepLinks(lockOwn)).toBe(0);
      expect(slotDevices()).toEqual(["wrn52"]);
      await holder[Symbol.asyncDispose]();
    });

    test("touches no device and no table that is not ours, whatever its name", () => {
      const nl = new Netlink(route);
      const { ns, netfilter } = build(53);
      const foreign = { name: "wrn54", index: 4711, mac: "02:00:00:00:00:01" };
      addVeth(nl, foreign, { name: "peer", index: 77, mac: "02:00:00:00:00:02", nsFd: ns });
      nl.flush();
      run("ip", "link", "add", "wrnx", "type", "veth", "peer", "name", "other");
      expect(sweepLinks(lockOwn)).toBe(1);
      expect(slotDevices()).toEqual(["wrn54", "wrnx"]);
      run("ip", "link", "delete", "wrnx");
      run("ip", "link", "delete", "wrn54");
      closeAll([ns, netfilter]);
    });

    test("asks nobody where there is nothing to remove", () => {
      const asked: number[] = [];
      const look = (slot: number): null => {
        asked.push(slot);
        return null;
      };
      expect([sweepLinks(look), asked]).toEqual([0, []]);
    });
  });
});
