/** Networks kept ready for leases: when they are built, cleaned, lent, and let go; and a host that can give none. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeFd } from "../../../ffi/files.ts";
import { NativeError } from "../../../ffi/native.ts";
import { parseAddress } from "../../../src/base/address.ts";
import { createLog } from "../../../src/base/log.ts";
import type { VmRef } from "../../../src/driver/driver.ts";
import { NO_EGRESS } from "../../../src/host/net/closed.ts";
import { type Lent, Networks, type NetworksOptions, type Prepared } from "../../../src/host/net/networks.ts";
import { hostBootId, startTicksOf } from "../../../src/host/slots/process-name.ts";
import { LIMITS } from "../../../src/limits.ts";
import { FakeClock } from "../../harness/clock.ts";
import { more, traces } from "../../harness/leaks.ts";
import { until } from "../../harness/until.ts";
import { holdTap, inNamespace, locks, run, slotDevices } from "./unshared.ts";

/** Long enough for what is done when nobody asks for a network. */
const SOON_MS = LIMITS.networkIdleMs + 100;

/** What this process has open of the kind that networks are made of. */
function held(): readonly string[] {
  return traces("/nowhere").filter((line) => /^descriptor (socket|net|\/)$/.test(line));
}

inNamespace(import.meta.path, () => {
  let clock: FakeClock;
  let logged: string[];
  let networks: Networks;
  let first = 100;
  let lockAny = locks(first);
  let before: readonly string[];

  const open = (change: Partial<NetworksOptions> = {}): Networks => {
    first += 100;
    lockAny = locks(first + 50);
    const log = createLog("debug", (line) => logged.push(line));
    return new Networks({ clock, log, lockFree: locks(first), ...change });
  };
  /** As a lease does. */
  const lease = (): { prepared: Prepared; lent: Lent } => {
    const ready = networks.take();
    if (ready !== null) return { prepared: ready, lent: networks.lend(ready.built) };
    const lock = lockAny();
    if (lock === null) throw new Error("no slot");
    const built = networks.build(lock.slot);
    if (built === null) throw new Error(networks.degraded ?? "no network");
    return { prepared: { slot: lock.slot, lockFd: lock.fd, built }, lent: networks.lend(built) };
  };
  const giveBack = ({ prepared, lent }: ReturnType<typeof lease>): void => {
    lent.end();
    networks.give(prepared);
  };

  beforeEach(() => {
    clock = new FakeClock();
    logged = [];
    before = held();
    networks = open();
  });
  afterEach(async () => {
    networks.release();
    expect(more(before, held())).toEqual([]);
    await until("all links are gone", () => slotDevices().length === 0);
  });

  describe("A process without sandboxes", () => {
    test("holds nothing, and makes nothing by itself", async () => {
      await clock.advance(60_000);
      expect([networks.kept, slotDevices()]).toEqual([0, []]);
      expect(more(before, held())).toEqual([]);
    });

    test("lets go of all that was kept a moment after its last one", async () => {
      const one = lease();
      await clock.advance(SOON_MS);
      expect(networks.kept).toBe(LIMITS.networkReserve);
      giveBack(one);
      await clock.advance(LIMITS.networkUnusedMs + 100);
      expect(networks.kept).toBe(0);
      expect(more(before, held())).toEqual([]);
    });
  });

  describe("A network for a lease", () => {
    test("is built when none is ready, and is there in one go when one is", async () => {
      const one = lease();
      expect(networks.kept).toBe(0);
      await clock.advance(SOON_MS);
      expect(slotDevices().length).toBe(1 + LIMITS.networkReserve);
      const two = lease();
      expect(networks.kept).toBe(LIMITS.networkReserve - 1);
      expect(two.prepared.slot).not.toBe(one.prepared.slot);
      expect(two.lent.network.hostAddress).not.toBe(one.lent.network.hostAddress);
      await clock.advance(SOON_MS);
      expect(networks.kept).toBe(LIMITS.networkReserve);
      for (const each of [one, two]) giveBack(each);
    });

    test("is built ahead only when nobody has asked for one for a moment", async () => {
      const all = [lease()];
      for (let i = 0; i < 5; i++) {
        await clock.advance(LIMITS.networkIdleMs - 5);
        expect(networks.kept).toBe(0);
        all.push(lease());
      }
      await clock.advance(SOON_MS);
      expect(networks.kept).toBe(LIMITS.networkReserve);
      for (const each of all) giveBack(each);
    });

    test("has its slot's lock, which nobody else gets until it is let go", async () => {
      const one = lease();
      await clock.advance(SOON_MS);
      const two = networks.take()!;
      const lock = locks(two.slot);
      expect(lock()).toBeNull();
      networks.discard(two);
      const again = locks(two.slot)();
      expect(again?.slot).toBe(two.slot);
      closeFd(again!.fd);
      giveBack(one);
    });

    test("is not one that was damaged while it was kept", async () => {
      const one = lease();
      await clock.advance(SOON_MS);
      const [damaged] = slotDevices().filter((name) => name !== `wrn${one.prepared.slot}`);
      run("ip", "address", "flush", "dev", damaged!);
      const taken = [lease(), lease()];
      expect(taken.map(({ prepared }) => `wrn${prepared.slot}`)).not.toContain(damaged!);
      for (const each of [one, ...taken]) giveBack(each);
    });

    test("answers for as long as it is lent, and no longer", () => {
      const one = lease();
      const { network } = one.lent;
      expect(network.usage()).toEqual({ bytesOut: 0, bytesIn: 0, connections: 0, refused: 0 });
      giveBack(one);
      expect([network.usage(), network.tried()]).toEqual([null, { rows: [], lost: 0 }]);
      expect(() => network.admit([])).toThrow("could not be changed");
      expect(one.lent.end()).toBe(one.prepared.built); // once more without harm
    });
  });

  describe("A network that was given back", () => {
    test("is cleaned, rests, and then serves again", async () => {
      const keeper = lease();
      const used = lease();
      giveBack(used);
      const ready = async (): Promise<number[]> => {
        await clock.advance(SOON_MS);
        const taken: Prepared[] = [];
        for (let one = networks.take(); one !== null; one = networks.take()) taken.push(one);
        for (const one of taken) networks.discard(one);
        return taken.map(({ slot }) => slot);
      };
      expect(await ready()).not.toContain(used.prepared.slot);
      await clock.advance(LIMITS.networkRestMs);
      expect(await ready()).toContain(used.prepared.slot);
      giveBack(keeper);
    });

    test("is thrown away when it cannot be made as good as new", async () => {
      const keeper = lease();
      const used = lease();
      run("ip", "link", "delete", `wrn${used.prepared.slot}`);
      giveBack(used);
      await clock.advance(SOON_MS);
      expect(logged.join()).toContain("a network is not used again");
      expect(networks.kept).toBe(LIMITS.networkReserve);
      giveBack(keeper);
    });

    test("is thrown away when enough are kept", async () => {
      const keeper = lease();
      const all = Array.from({ length: LIMITS.networkKept + 3 }, lease);
      for (const each of all) giveBack(each);
      expect(networks.kept).toBe(LIMITS.networkKept);
      giveBack(keeper);
    });

    test("is thrown away at once where nothing is kept", () => {
      networks = open({ reserve: 0 });
      const one = lease();
      giveBack(one);
      expect(networks.kept).toBe(0);
      expect(more(before, held())).toEqual([]);
    });
  });

  describe("The network of a sandbox that another process made", () => {
    const refOf = (pid: number): VmRef => ({
      ...{ id: "sb_other", pid, startTicks: startTicksOf(pid) ?? 0 },
      ...{ hostBootId: hostBootId(), socketDir: "/nowhere" },
    });

    test("is found by its process, and changed as by its maker", async () => {
      const one = lease();
      const holder = await holdTap(one.lent.nsFd);
      const other = open();
      const open6 = { ...NO_EGRESS, mode: "open", dnsPort: 5353 } as const;
      const network = other.networkOf(refOf(holder.pid))!;
      const idle = held();
      expect(network.hostAddress).toBe(one.lent.network.hostAddress);
      network.apply(open6);
      network.apply(open6);
      network.admit([{ address: parseAddress("192.0.2.7")!, ports: null, seconds: 60, proxied: false }]);
      expect(network.usage()).toEqual({ bytesOut: 0, bytesIn: 0, connections: 0, refused: 0 });
      expect(network.tried()).toEqual({ rows: [], lost: 0 });
      await until("nothing stays open between calls", () => held().length === idle.length);
      expect(held()).toEqual(idle);
      network.usage();
      expect(held()).toEqual(idle);
      await holder[Symbol.asyncDispose]();
      expect([network.usage(), network.tried()]).toEqual([null, { rows: [], lost: 0 }]);
      expect(() => network.apply(NO_EGRESS)).toThrow("could not be changed");
      other.release();
      giveBack(one);
    });

    test("costs a process that only looks at it nothing a moment later", async () => {
      const maker = open({ reserve: 0 });
      const lock = lockAny()!;
      const lent = maker.lend(maker.build(lock.slot)!);
      const holder = await holdTap(lent.nsFd);
      const kept = held();
      expect(networks.networkOf(refOf(holder.pid))?.usage()).not.toBeNull();
      expect(held()).not.toEqual(kept);
      await clock.advance(2 * LIMITS.networkUnusedMs);
      expect(held()).toEqual(kept);
      await holder[Symbol.asyncDispose]();
      maker.give({ slot: lock.slot, lockFd: lock.fd, built: lent.end() });
    });

    test("is nobody's who has the pid now, of this boot or another, nor of a process without one", async () => {
      const one = lease();
      const holder = await holdTap(one.lent.nsFd);
      const ref = refOf(holder.pid);
      expect(networks.networkOf(ref)).not.toBeNull();
      expect(networks.networkOf({ ...ref, startTicks: ref.startTicks + 1 })).toBeNull();
      expect(networks.networkOf({ ...ref, hostBootId: "another" })).toBeNull();
      expect(networks.networkOf(refOf(process.pid))).toBeNull();
      expect(networks.networkOf({ ...ref, pid: 2 ** 22 + 1 })).toBeNull();
      await holder[Symbol.asyncDispose]();
      giveBack(one);
    });
  });

  describe("A host that lacks something", () => {
    const lacking = (code: number, call = "netlink", on = "nftables: table"): NetworksOptions["step"] => {
      return (name) => {
        if (name === "inside") throw new NativeError(call, code, on);
      };
    };

    test("gives no network, says why with what to do, and leaves nothing", () => {
      networks = open({ step: lacking(93) });
      expect(networks.build(1)).toBeNull();
      expect(networks.degraded).toContain("EPROTONOSUPPORT (nftables: table): modprobe nf_tables");
      expect(logged.length).toBe(1);
      expect(networks.build(2)).toBeNull();
      expect(logged.length).toBe(1); // the same again is no news
    });

    test("is told apart by what failed", () => {
      const says = (...args: Parameters<typeof lacking>): string => {
        networks.release();
        networks = open({ step: lacking(...args) });
        expect(networks.build(3)).toBeNull();
        return networks.degraded ?? "";
      };
      expect(says(1)).toContain("grant CAP_NET_ADMIN");
      expect(says(2, "netns_make", "")).toContain("modprobe tun");
      expect(says(28, "netns_make", "")).toContain("user.max_net_namespaces");
      expect(says(95, "netlink", "link wrn3")).toContain("modprobe veth");
      expect(says(17, "netlink", "link wrn3")).toContain("another program");
    });

    test("does not try in the background, and gives networks again once it can", async () => {
      let broken = false;
      networks = open({
        step: (name) => {
          if (broken && name === "rules") throw new NativeError("netlink", 2, "x");
        },
      });
      const one = lease();
      broken = true;
      await clock.advance(SOON_MS);
      expect(networks.kept).toBe(0);
      expect(networks.degraded).not.toBeNull();
      broken = false;
      const two = lease();
      expect(networks.degraded).toBeNull();
      await clock.advance(SOON_MS);
      expect(networks.kept).toBe(LIMITS.networkReserve);
      for (const each of [one, two]) giveBack(each);
    });
  });
});
