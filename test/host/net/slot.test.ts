/** A slot's network as it is built, each way in which it can be damaged, and what is left of a tenant when it is recycled. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeAll, openFd } from "../../../ffi/files.ts";
import { detachedMount } from "../../../ffi/mounts.ts";
import { NETLINK_ROUTE, openNetlink } from "../../../ffi/net/netlink.ts";
import { enterNamespace } from "../../../ffi/net/netns.ts";
import { parseAddress } from "../../../src/base/address.ts";
import { Attributes } from "../../../src/host/net/answer.ts";
import { NO_EGRESS } from "../../../src/host/net/closed.ts";
import { Netlink, NLM_F_DUMP } from "../../../src/host/net/message.ts";
import { admitInto } from "../../../src/host/net/nft/admit.ts";
import { tableMessage } from "../../../src/host/net/nft/batch.ts";
import { MSG, TABLE } from "../../../src/host/net/nft/names.ts";
import { readTried, readUsage, triedCursor } from "../../../src/host/net/nft/read.ts";
import { installRules } from "../../../src/host/net/nft/rules.ts";
import { resetTable } from "../../../src/host/net/nft/table.ts";
import { type Ipv6, type SlotAddresses, slotAddresses, TAP_INDEX, UPLINK_INDEX } from "../../../src/host/net/plan.ts";
import { readLink } from "../../../src/host/net/read.ts";
import {
  addAddress,
  addDefaultRoute,
  addNeighbour,
  removeDefaultRoute,
  removeLink,
} from "../../../src/host/net/route.ts";
import { buildSlot } from "../../../src/host/net/slot.ts";
import { type Built, reset, verify } from "../../../src/host/net/verify.ts";
import { until } from "../../harness/until.ts";
import { holdTap, inNamespace, inside, run, slotDevices } from "./unshared.ts";

const ALL_IPV6: Ipv6 = { inside: true, links: true, forwards: true };

inNamespace(import.meta.path, () => {
  const route = openNetlink(NETLINK_ROUTE);
  const proc = detachedMount("proc", {});
  let built: Built;
  let at: SlotAddresses;
  let next = 1;

  const build = (ipv6: Ipv6 = ALL_IPV6, slot = next++): Built => {
    at = slotAddresses(slot);
    return { at, ipv6, ...buildSlot({ route, ipv6, procFd: () => proc }, at) };
  };
  const inSlot = (job: (nl: Netlink) => void): void => {
    const entered = enterNamespace(built.ns, null);
    const nl = new Netlink(entered.route);
    try {
      job(nl);
      nl.flush();
    } finally {
      closeAll([entered.route, entered.netfilter]);
    }
  };

  beforeEach(() => {
    built = build();
  });
  afterEach(async () => {
    closeAll([built.ns, built.netfilter]);
    await until("the link is gone with its namespace", () => !slotDevices().includes(at.rootDevice));
  });

  describe("A slot's network", () => {
    test("is as planned when it is built", () => {
      expect(verify(route, built)).toEqual([]);
      expect(slotDevices()).toEqual([at.rootDevice]);
      expect(inside(built.ns, "cat", "/proc/sys/net/ipv6/conf/all/forwarding").trim()).toBe("1");
    });

    test("has IPv6 as far as this host has it", () => {
      const rebuilt = (ipv6: Ipv6): string[] => {
        closeAll([built.ns, built.netfilter]);
        built = build(ipv6);
        return verify(route, built);
      };
      const way = () => inside(built.ns, "sh", "-c", "ip -6 route get 2001:db8::1 2>&1 || true");
      expect(way()).toContain(`via ${at.hostAddress6} dev eth0`);
      expect(rebuilt({ inside: true, links: true, forwards: false })).toEqual([]);
      expect(way()).toContain("unreachable");
      expect(inside(built.ns, "ip", "-6", "route", "get", at.hostAddress6)).toContain("dev eth0");
      expect(rebuilt({ inside: true, links: false, forwards: false })).toEqual([]);
      expect(way()).toContain("unreachable");
      expect(inside(built.ns, "ip", "-6", "-o", "address", "show", "dev", "eth0")).toBe("");
    });

    test("leaves this process where it was", () => {
      const own = slotDevices();
      const nl = new Netlink(openNetlink(NETLINK_ROUTE)); // of the namespace that this thread is in now
      expect(readLink(nl, at.rootDevice).name).toBe(own[0]!);
    });

    test("is reached from this host, and no further than its table lets it", () => {
      // Answered by the kernel of the slot if anything were let in: nothing is.
      expect(inside(built.ns, "ip", "route", "get", "192.0.2.1")).toContain(`via ${at.hostAddress} dev eth0`);
      expect(inside(built.ns, "ip", "-6", "route", "get", "2001:db8::1")).toContain(`via ${at.hostAddress6} dev eth0`);
    });

    test("takes the place of what the slot's last holder still has of it", () => {
      const first = built;
      const entered = openFd(`/proc/self/fd/${first.ns}`, "read"); // somebody keeps the old namespace
      built = build(ALL_IPV6, at.slot);
      expect(verify(route, built)).toEqual([]);
      expect(inside(entered, "ip", "-o", "link")).not.toContain("eth0");
      closeAll([entered, first.ns, first.netfilter]);
    });

    test("is not built over a device of somebody else's, which stays", () => {
      const other = slotAddresses(next);
      run("ip", "link", "add", other.rootDevice, "type", "veth", "peer", "name", "theirs");
      expect(() => build()).toThrow("EEXIST");
      expect(slotDevices()).toContain(other.rootDevice);
      run("ip", "link", "delete", other.rootDevice);
    });
  });

  describe("A check of a slot's network finds", () => {
    const ip = (...args: string[]) => inside(built.ns, "ip", ...args);
    const shell = (command: string) => inside(built.ns, "sh", "-c", command);
    const conf = "/proc/sys/net/ipv4/conf";
    const damages: Record<string, () => unknown> = {
      "the tap down": () => ip("link", "set", "tap0", "down"),
      "the uplink down": () => ip("link", "set", "eth0", "down"),
      "the loopback down": () => ip("link", "set", "lo", "down"),
      "another hardware address of the tap": () => ip("link", "set", "tap0", "address", "02:00:00:00:00:09"),
      "another hardware address of the uplink": () => ip("link", "set", "eth0", "address", "02:00:00:00:00:09"),
      "the tap gone": () => inSlot((nl) => removeLink(nl, TAP_INDEX)),
      "no forwarding by the tap": () => shell(`echo 0 > ${conf}/tap0/forwarding`),
      "no forwarding by the uplink": () => shell(`echo 0 > ${conf}/eth0/forwarding`),
      "another link that is up": () => ip("link", "add", "extra", "up", "type", "veth", "peer", "name", "more"),
      "an address missing": () => ip("address", "delete", "10.99.0.1/30", "dev", "tap0"),
      "an IPv6 address missing": () => ip("address", "delete", "fd57:5752::1/64", "dev", "tap0"),
      "an address more": () => inSlot((nl) => addAddress(nl, TAP_INDEX, "192.0.2.1", 30)),
      "the way out missing": () => inSlot((nl) => removeDefaultRoute(nl, at.hostAddress, UPLINK_INDEX)),
      "the IPv6 way out missing": () => inSlot((nl) => removeDefaultRoute(nl, at.hostAddress6, UPLINK_INDEX)),
      "another way out": () => {
        inSlot((nl) => removeDefaultRoute(nl, at.hostAddress, UPLINK_INDEX));
        inSlot((nl) => addDefaultRoute(nl, at.guestAddress, TAP_INDEX));
      },
      "a route more": () => ip("route", "add", "192.0.2.0/24", "via", at.guestAddress),
      "the guest not known": () => ip("neighbour", "delete", at.guestAddress, "dev", "tap0"),
      "somebody else in the guest's place": () =>
        inSlot((nl) => addNeighbour(nl, TAP_INDEX, at.guestAddress, "02:00:00:00:00:09")),
      "a neighbour more": () => inSlot((nl) => addNeighbour(nl, TAP_INDEX, "fd57:5752::99", at.guestMac)),
      "rules missing": () => resetTable(new Netlink(built.netfilter), at), // those of the policy
      "this host's end down": () => run("ip", "link", "set", at.rootDevice, "down"),
      "this host's end without its address": () => run("ip", "address", "flush", "dev", at.rootDevice),
      "this host's end that does not forward": () => run("sh", "-c", `echo 0 > ${conf}/${at.rootDevice}/forwarding`),
      "this host's end with another hardware address": () =>
        run("ip", "link", "set", at.rootDevice, "address", "02:00:00:00:00:09"),
      "this host's end gone": () => run("ip", "link", "delete", at.rootDevice),
    };

    for (const [what, damage] of Object.entries(damages)) {
      test(what, () => {
        expect(verify(route, built)).toEqual([]);
        damage();
        expect(verify(route, built)).not.toEqual([]);
      });
    }

    test("its tap in use", async () => {
      await using _ = await holdTap(built.ns);
      expect(verify(route, built).join()).toContain("up carrier forwards");
    });

    test("the way to it taken by another", () => {
      run("ip", "route", "add", `${at.slotAddress}/32`, "dev", "lo");
      expect(verify(route, built)).toEqual([expect.stringContaining("goes over link 1")]);
      run("ip", "route", "delete", `${at.slotAddress}/32`, "dev", "lo");
    });
  });

  describe("A recycled network", () => {
    test("has nothing of what its last sandbox did", () => {
      const rules = new Netlink(built.netfilter);
      const open = { ...NO_EGRESS, mode: "open", dnsPort: 5353 } as const;
      installRules(rules, open, at, 7);
      admitInto(rules, [{ address: parseAddress("192.0.2.7")!, ports: null, seconds: 3600, proxied: false }]);
      // A connection of the namespace's own, and one row and count of each kind, written as its rules would.
      inside(built.ns, "bash", "-c", "echo x > /dev/udp/192.0.2.9/9");
      inside(built.ns, "ip", "neighbour", "add", "fd57:5752::42", "lladdr", "02:00:00:00:00:42", "dev", "tap0");
      expect(connections(built)).toBeGreaterThan(0);
      expect(members(built, "admitted4")).toBe(1);
      expect(verify(route, built)).not.toEqual([]);
      reset(built);
      expect(verify(route, built)).toEqual([]);
      expect(connections(built)).toBe(0);
      for (const set of [
        "admitted4",
        "admitted6",
        "ports4",
        "ports6",
        "allowed4",
        "refused4",
        "allowed6",
        "refused6",
      ]) {
        expect([set, members(built, set)]).toEqual([set, 0]);
      }
      expect(readUsage(rules)).toEqual({ bytesOut: 0, bytesIn: 0, connections: 0, refused: 0 });
      expect(readTried(rules, triedCursor(), 0)).toEqual({ rows: [], lost: 0 });
    });

    test("has a tap on which nothing is left of who had it", async () => {
      await (await holdTap(built.ns, "tamper"))[Symbol.asyncDispose]();
      expect(verify(route, built).join()).toContain("02:00:00:00:00:09");
      reset(built);
      expect(verify(route, built)).toEqual([]);
      await (await holdTap(built.ns))[Symbol.asyncDispose]();
    });

    test("is not to be had while a process has its tap", async () => {
      const holder = await holdTap(built.ns);
      expect(() => reset(built)).toThrow("EBUSY");
      await holder[Symbol.asyncDispose]();
      reset(built);
      expect(verify(route, built)).toEqual([]);
    });

    test("is not as planned again when more than that was damaged", () => {
      inside(built.ns, "ip", "address", "add", "192.0.2.1/24", "dev", "tap0");
      reset(built);
      expect(verify(route, built)).toEqual([expect.stringContaining("address not planned"), expect.any(String)]);
    });
  });

  /** Connections that the kernel knows of in a slot. */
  function connections({ netfilter }: Built): number {
    const CONNTRACK_GET = (1 << 8) | 1;
    const nl = new Netlink(netfilter).begin("connections", CONNTRACK_GET, NLM_F_DUMP).u8(0).u8(0).be16(0).end();
    return nl.dump().length;
  }

  function members({ netfilter }: Built, set: string): number {
    const nl = new Netlink(netfilter);
    tableMessage(nl, `members of ${set}`, MSG.getElements, NLM_F_DUMP).attrText(1, TABLE).attrText(2, set).end();
    return nl.dump().flatMap(({ body }) => new Attributes(body, 4).list(3)).length;
  }
});
