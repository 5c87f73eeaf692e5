/** Doctor's rows about networks: how each comes out, and what to do about it. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { NETLINK_NETFILTER, openNetlink } from "../../../ffi/net/netlink.ts";
import { networkFacts } from "../../../src/host/net/doctor.ts";
import { Netlink, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE } from "../../../src/host/net/message.ts";
import { from } from "../../../src/host/net/nft/expressions.ts";
import { inNamespace, run } from "./unshared.ts";

const [NFT, IPV4, NEW_TABLE, DELETE_TABLE, NEW_CHAIN, NEW_RULE] = [10 << 8, 2, 0, 2, 3, 6];
const WORKS = { kind: "works", tookMs: 2.34 } as const;

inNamespace(import.meta.path, () => {
  const netfilter = openNetlink(NETLINK_NETFILTER);

  /** One change of the table that iptables uses. */
  const change = (message: number, flags: number, rest: (nl: Netlink) => void = () => undefined): void => {
    const nl = new Netlink(netfilter);
    nl.begin("begin", 16).u8(0).u8(0).be16(10).end();
    nl.begin("change", NFT | message, flags | NLM_F_ACK)
      .u8(IPV4)
      .u8(0)
      .be16(0)
      .attrText(1, "filter");
    rest(nl);
    nl.end().begin("end", 17).u8(0).u8(0).be16(10).end();
    nl.flush();
  };
  const chain = (nl: Netlink): void => {
    nl.attrText(3, "FORWARD").nest(4, () => void nl.attrBe32(1, 2).attrBe32(2, 0));
    nl.attrBe32(5, 0).attrText(7, "filter"); // drops what no rule accepts
  };
  const rule = (nl: Netlink): void => {
    nl.attrText(2, "FORWARD").nest(4, () => {
      for (const write of from("wrn*")) write(nl);
    });
  };
  const row = async (name: string) => (await networkFacts(WORKS)).find((fact) => fact.name === name)!;

  beforeEach(() => {
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0x");
    run("ip", "address", "add", "192.0.2.1/24", "dev", "up0");
    run("ip", "link", "set", "up0", "up");
    run("ip", "route", "add", "default", "via", "192.0.2.2", "dev", "up0");
  });
  afterEach(() => void run("ip", "link", "delete", "up0"));

  test("Every row has a remedy exactly when something is to be done", async () => {
    const failed = { kind: "failed", says: "no veth", remedy: "modprobe veth" } as const;
    for (const facts of [await networkFacts(WORKS), await networkFacts(failed)]) {
      expect(facts.map(({ name }) => name)).toEqual(["network", "forwarding", "ipv6"]);
      for (const { name, state, remedy } of facts) expect([name, state === "ok"]).toEqual([name, remedy === null]);
    }
    expect((await networkFacts(failed))[0]).toMatchObject({ state: "degraded", remedy: "modprobe veth" });
    expect(await row("network")).toMatchObject({ state: "ok", says: "a sandbox's, made in 2.3 ms" });
  });

  test("Forwarding is by the devices with a default route, for sandboxes alone or anyway", async () => {
    expect((await row("forwarding")).says).toBe("by up0; for sandboxes alone");
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
    expect((await row("forwarding")).says).toBe("by up0; this host forwards anyway");
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "0");
    run("ip", "route", "delete", "default");
    expect(await row("forwarding")).toMatchObject({
      state: "degraded",
      says: expect.stringContaining("no default route"),
    });
  });

  test("A chain that drops what it does not know stands in the way, until it knows of slots", async () => {
    change(NEW_TABLE, NLM_F_CREATE);
    change(NEW_CHAIN, NLM_F_CREATE, chain);
    const dropping = await row("forwarding");
    expect(dropping).toMatchObject({ state: "degraded", says: "FORWARD of table filter drops what sandboxes send" });
    expect(dropping.remedy).toContain("iptables -I FORWARD -i wrn+ -j ACCEPT");
    change(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, rule);
    expect((await row("forwarding")).state).toBe("ok");
    change(DELETE_TABLE, 0);
  });

  test("IPv6 is reached where this host forwards it, and else it is said how", async () => {
    const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding";
    const disabled = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    expect(await row("ipv6")).toMatchObject({ state: "degraded", remedy: expect.stringContaining("forwarding=1") });
    writeFileSync(forwarding, "1");
    expect((await row("ipv6")).state).toBe("ok");
    writeFileSync(disabled, "1");
    expect(await row("ipv6")).toMatchObject({ state: "degraded", says: "this host has none" });
    writeFileSync(disabled, "0");
    writeFileSync(forwarding, "0");
  });
});
