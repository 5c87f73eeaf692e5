/** This host's own share: its table, and forwarding that is switched on for sandboxes and for nobody else. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { NETLINK_NETFILTER, openNetlink } from "../../../ffi/net/netlink.ts";
import { Attributes } from "../../../src/host/net/answer.ts";
import { namedInTable, readIpv6 } from "../../../src/host/net/forwarding.ts";
import { Netlink, NLM_F_CREATE, NLM_F_DUMP } from "../../../src/host/net/message.ts";
import { tableMessage } from "../../../src/host/net/nft/batch.ts";
import { MSG, TABLE } from "../../../src/host/net/nft/names.ts";
import { rootTableIsWhole } from "../../../src/host/net/nft/root.ts";
import { RootShare, removeRootShare } from "../../../src/host/net/root.ts";
import { LIMITS } from "../../../src/limits.ts";
import { FakeClock } from "../../harness/clock.ts";
import { inNamespace, run } from "./unshared.ts";

const IP_FORWARD = "/proc/sys/net/ipv4/ip_forward";

function forwards(device: string): boolean {
  return readFileSync(`/proc/sys/net/ipv4/conf/${device}/forwarding`, "utf8").trim() === "1";
}

inNamespace(import.meta.path, () => {
  const netfilter = openNetlink(NETLINK_NETFILTER);
  const nl = () => new Netlink(netfilter);
  let clock: FakeClock;
  let shares: RootShare[];

  const share = (): RootShare => {
    const made = new RootShare(clock);
    shares.push(made);
    return made;
  };
  const named = () => namedInTable(nl(), ["up0", "up1", "lan0"]);
  const dropTable = (): void => {
    const rules = nl();
    rules.begin("batch", 16).u8(0).u8(0).be16(10).end();
    tableMessage(rules, "delete the table", MSG.delTable, 4).attrText(1, TABLE).end();
    rules.begin("end", 17).u8(0).u8(0).be16(10).end();
    rules.flush();
  };
  const members = (): number => {
    const rules = nl();
    tableMessage(rules, "ports", MSG.getElements, NLM_F_DUMP).attrText(1, TABLE).attrText(2, "host_ports").end();
    return rules.dump().flatMap(({ body }) => new Attributes(body, 4).list(3)).length;
  };

  beforeEach(() => {
    clock = new FakeClock();
    shares = [];
    for (const [i, name] of ["up0", "up1", "lan0"].entries()) {
      run("ip", "link", "add", name, "type", "veth", "peer", "name", `${name}x`);
      run("ip", "address", "add", `192.0.2.${16 * i + 1}/28`, "dev", name);
      run("ip", "link", "set", name, "up");
      run("ip", "link", "set", `${name}x`, "up");
    }
    run("ip", "route", "add", "default", "via", "192.0.2.2", "dev", "up0");
  });
  afterEach(() => {
    for (const each of shares) each.close();
    for (const name of ["up0", "up1", "lan0"]) run("ip", "link", "delete", name);
    writeFileSync(IP_FORWARD, "0");
    if (rootTableIsWhole(nl())) dropTable();
  });

  describe("On a host that forwards nothing", () => {
    test("only devices with a default route forward, and the table keeps them from all but slots", () => {
      expect([forwards("up0"), rootTableIsWhole(nl())]).toEqual([false, false]);
      share().ensure();
      expect([forwards("up0"), forwards("up1"), forwards("lan0")]).toEqual([true, false, false]);
      expect([named(), rootTableIsWhole(nl())]).toEqual([["up0"], true]);
      expect(readFileSync(IP_FORWARD, "utf8").trim()).toBe("0");
    });

    test("a second process finds what the first has done, and keeps to it", () => {
      share().ensure();
      const second = share();
      second.ensure();
      expect([named(), forwards("up0")]).toEqual([["up0"], true]);
      shares[0]!.close();
      shares.shift();
      second.ensure();
      expect(named()).toEqual(["up0"]);
    });

    test("a device that gets its default route later is seen to at the next look", async () => {
      const root = share();
      root.ensure();
      run("ip", "route", "add", "default", "via", "192.0.2.18", "dev", "up1", "metric", "50");
      root.ensure();
      expect(forwards("up1")).toBe(false); // looked a moment ago
      await clock.advance(LIMITS.networkLookMs);
      root.ensure();
      expect([named(), forwards("up1")]).toEqual([["up0", "up1"], true]);
    });

    test("every link of a default route with several is one", () => {
      run("ip", "route", "delete", "default");
      const hops = ["nexthop", "via", "192.0.2.2", "dev", "up0", "nexthop", "via", "192.0.2.18", "dev", "up1"];
      run("ip", "route", "add", "default", ...hops);
      share().ensure();
      expect([named(), forwards("up0"), forwards("up1")]).toEqual([["up0", "up1"], true, true]);
    });

    test("a device that somebody else had forward stays a router's", () => {
      writeFileSync("/proc/sys/net/ipv4/conf/up0/forwarding", "1");
      share().ensure();
      expect([named(), forwards("up0")]).toEqual([[], true]);
      share().ensure();
      expect(named()).toEqual([]);
    });

    test("nothing is done where there is no way out", () => {
      run("ip", "route", "delete", "default");
      share().ensure();
      expect([named(), forwards("up0"), rootTableIsWhole(nl())]).toEqual([[], false, true]);
    });
  });

  test("On a host that forwards anyway nothing is kept from it, and nothing is switched", async () => {
    const root = share();
    root.ensure();
    expect(named()).toEqual(["up0"]);
    writeFileSync(IP_FORWARD, "1");
    await clock.advance(LIMITS.networkLookMs);
    root.ensure();
    expect([named(), rootTableIsWhole(nl())]).toEqual([[], true]);
  });

  test("A table that somebody threw away is put back, with the ports that are open", async () => {
    const root = share();
    root.ensure();
    root.openPorts("wrn7", [5353, 8443]);
    root.openPorts("wrn8", [5354]);
    root.closePorts("wrn8");
    expect(members()).toBe(2);
    dropTable();
    expect(rootTableIsWhole(nl())).toBe(false);
    await clock.advance(LIMITS.networkLookMs);
    root.ensure();
    expect([rootTableIsWhole(nl()), named(), members()]).toEqual([true, ["up0"], 2]);
    dropTable();
    root.openPorts("wrn9", [53]); // does not wait for the next look
    expect([rootTableIsWhole(nl()), members()]).toEqual([true, 3]);
    dropTable();
    root.closePorts("wrn9");
  });

  test("A table of another version, with the same names for other things, is replaced, and ports are opened anew", async () => {
    const root = share();
    root.ensure();
    root.openPorts("wrn7", [5353]);
    dropTable();
    const rules = nl();
    rules.begin("begin", 16).u8(0).u8(0).be16(10).end();
    tableMessage(rules, "table", MSG.newTable, NLM_F_CREATE).attrText(1, TABLE).end();
    tableMessage(rules, "set", MSG.newSet, NLM_F_CREATE | 4)
      .attrText(1, TABLE)
      .attrText(2, "host_ports")
      .attrBe32(3, 0)
      .attrBe32(4, 7)
      .attrBe32(5, 4)
      .attrBe32(10, 1)
      .end();
    rules.begin("end", 17).u8(0).u8(0).be16(10).end();
    rules.flush();
    const other = share();
    other.ensure();
    expect([rootTableIsWhole(nl()), members()]).toEqual([true, 0]);
    await clock.advance(LIMITS.networkLookMs);
    root.ensure(); // finds another table than its own
    expect([rootTableIsWhole(nl()), members()]).toEqual([true, 1]);
  });

  test("IPv6 is as this host has it, and is never switched on", () => {
    const path = "/proc/sys/net/ipv6/conf/all/forwarding";
    share().ensure();
    expect(readFileSync(path, "utf8").trim()).toBe("0");
    expect(readIpv6()).toEqual({ inside: true, links: true, forwards: false });
    writeFileSync(path, "1");
    expect(readIpv6()).toEqual({ inside: true, links: true, forwards: true });
    writeFileSync("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    expect(readIpv6()).toEqual({ inside: true, links: false, forwards: false });
    writeFileSync("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0");
    writeFileSync(path, "0");
  });

  test("All of it is undone, unless a slot's link is there", () => {
    share().ensure();
    run("ip", "link", "add", "wrn7", "type", "veth", "peer", "name", "other7");
    expect([removeRootShare(), forwards("up0"), rootTableIsWhole(nl())]).toEqual([false, true, true]);
    run("ip", "link", "delete", "wrn7");
    expect([removeRootShare(), forwards("up0"), rootTableIsWhole(nl())]).toEqual([true, false, false]);
    expect(removeRootShare()).toBe(true);
    const again = share();
    again.ensure();
    expect([forwards("up0"), rootTableIsWhole(nl())]).toEqual([true, true]);
  });

  test("Namespaces share a mount of procfs only so many at a time", () => {
    const root = share();
    root.ensure();
    const fds = Array.from({ length: 2 * LIMITS.namespacesPerProc }, () => root.procFd());
    expect(fds.every((fd) => fd >= 0)).toBe(true);
    expect(new Set(fds).size).toBeLessThanOrEqual(2);
  });
});
