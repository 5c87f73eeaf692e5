/** What a guest reaches under each policy, with real sockets in namespaces: by mode, destination, family and protocol. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseAddress, parseRange } from "../../src/base/address.ts";
import { admitInto } from "../../src/host/net/nft/admit.ts";
import { readUsage } from "../../src/host/net/nft/read.ts";
import { installRules } from "../../src/host/net/nft/rules.ts";
import { resetTable, tableIsWhole } from "../../src/host/net/nft/table.ts";
import type { Admitted, EgressRules } from "../../src/host/network.ts";
import { LIMITS } from "../../src/limits.ts";
import { gate } from "../harness/gates.ts";
import { ANSWER_MS, type Lab, lab, PEER, SILENCE_MS } from "../harness/netns.ts";

const EVERY = [...PEER.public4, ...PEER.public6, ...PEER.private4, ...PEER.private6];
const PUBLIC = [...PEER.public4, ...PEER.public6];

const NOTHING: EgressRules = {
  mode: "none",
  ranges: [],
  exempt: [],
  limits: { bytesPerSecond: null, newConnectionsPerSecond: 1000, connections: 1000 },
  dnsPort: null,
  proxyPort: null,
  caught: "none",
};

function range(text: string): NonNullable<ReturnType<typeof parseRange>> {
  const parsed = parseRange(text);
  if (parsed === null) throw new TypeError(text);
  return parsed;
}

function admitted(text: string, rest: Partial<Admitted> = {}): Admitted {
  const address = parseAddress(text);
  if (address === null) throw new TypeError(text);
  return { address, ports: null, seconds: 60, proxied: false, ...rest };
}

if (gate("root"))
  describe("A slot's rules", () => {
    let net: Lab;
    let generation = 0;

    beforeAll(async () => {
      net = await lab();
      for (const port of [80, 443, 8080]) await net.peer.do("tcpServe", EVERY, port, "echo", 0, 0);
      for (const port of [80, 7000]) await net.peer.do("udpServe", EVERY, port);
    });
    afterAll(async () => net[Symbol.asyncDispose]());

    function install(rules: Partial<EgressRules>): void {
      installRules(net.nl, { ...NOTHING, ...rules }, net.at, ++generation);
    }

    /** What is reached of each address: `t` TCP 80, `u` UDP 7000, `p` ping. */
    async function reached(hosts: readonly string[], waitMs: number): Promise<Record<string, string>> {
      const rows = hosts.map(async (host) => {
        const [tcp, udp, ping] = await Promise.all([
          net.guest.do("tcp", host, 80, waitMs),
          net.guest.do("udp", host, 7000, waitMs, {}),
          net.guest.do("ping", host, waitMs, undefined),
        ]);
        return [host, `${tcp === "ok" ? "t" : ""}${udp === "ok" ? "u" : ""}${ping === "ok" ? "p" : ""}`] as const;
      });
      return Object.fromEntries(await Promise.all(rows));
    }

    /** That this is reached of these addresses, and nothing else. */
    async function expectReached(wanted: Readonly<Record<string, string>>): Promise<void> {
      const first = await reached(Object.keys(wanted), SILENCE_MS);
      // What must not be reached is known by now; of what must be, something may be slow.
      const slow = Object.entries(first).filter(([host, ways]) => {
        const expected = wanted[host] ?? "";
        return ways !== expected && [...ways].every((way) => expected.includes(way));
      });
      const hosts = slow.map(([host]) => host);
      expect({ ...first, ...(await reached(hosts, ANSWER_MS)) }).toEqual({ ...wanted });
    }

    function only(hosts: readonly string[], what = "tup"): Record<string, string> {
      return Object.fromEntries(EVERY.map((host) => [host, hosts.includes(host) ? what : ""]));
    }

    test("Control: without a table everything is reached", async () => {
      await expectReached(only(EVERY));
    });

    test("a table without a policy lets nothing pass, and is not whole", async () => {
      resetTable(net.nl, net.at);
      await expectReached(only([]));
      expect(tableIsWhole(net.nl)).toBe(false);
    });

    test("none: nothing is reached, whatever was listed or admitted", async () => {
      install({ ranges: [{ range: range("1.2.3.4"), ports: null }] });
      admitInto(net.nl, [admitted("5.6.7.8"), admitted("2600::4")]);
      await expectReached(only([]));
      expect(tableIsWhole(net.nl)).toBe(true);
    });

    test("open: what is public, and nothing that is forbidden", async () => {
      install({ mode: "open" });
      await expectReached(only(PUBLIC));
    });

    test("open: exempt ranges too, but for this host's own links", async () => {
      const exempt = ["10.0.0.0/8", "192.168.7.7", "198.18.0.0/15", "fd00::/8"].map(range);
      install({ mode: "open", exempt });
      await expectReached(only([...PUBLIC, "10.20.30.40", "192.168.7.7", "fd00:ec2::254"]));
      const own = [net.at.hostAddress, net.at.hostAddress6, net.at.slotAddress, net.at.tapAddress, net.at.tapAddress6];
      await expectReached(Object.fromEntries(own.map((host) => [host, ""])));
    });

    test("allowlist: the ranges listed, to their ends; a forbidden one stays forbidden", async () => {
      const ranges = ["1.2.3.4/31", "9.9.9.9", "2600::4/127", "10.20.30.40", "2001:db8::7"].map((text) => ({
        range: range(text),
        ports: null,
      }));
      install({ mode: "allowlist", ranges });
      await expectReached(only(["1.2.3.4", "1.2.3.5", "9.9.9.9", "2600::4", "2600::5"]));
      install({ mode: "allowlist", ranges, exempt: [range("10.20.30.40")] });
      await expectReached({ "10.20.30.40": "tup", "2001:db8::7": "" });
    });

    test("allowlist: a range with ports opens these for TCP and UDP, and is not pinged; ranges may overlap", async () => {
      install({
        mode: "allowlist",
        ranges: [
          { range: range("1.2.3.0/24"), ports: { from: 80, to: 80 } },
          { range: range("1.2.3.4/31"), ports: { from: 6000, to: 7000 } },
          { range: range("2600::/16"), ports: { from: 80, to: 442 } },
          { range: range("9.9.9.9"), ports: { from: 81, to: 6999 } },
        ],
      });
      await expectReached({
        ...Object.fromEntries(PUBLIC.map((host) => [host, ""])),
        "1.2.3.4": "tu",
        "1.2.3.5": "tu",
        "2600::4": "t",
        "2600::5": "t",
      });
    });

    test("allowlist: addresses admitted, all ports or some; admitting again replaces", async () => {
      install({ mode: "allowlist" });
      await expectReached(Object.fromEntries(PUBLIC.map((host) => [host, ""])));
      const web = { ports: { from: 79, to: 500 } };
      admitInto(net.nl, [
        admitted("1.2.3.4"),
        admitted("9.9.9.9", web),
        admitted("2600::4"),
        admitted("2a00:1::8", web),
      ]);
      const some = { "1.2.3.4": "tup", "9.9.9.9": "t", "2600::4": "tup", "2a00:1::8": "t" };
      await expectReached({ ...Object.fromEntries(PUBLIC.map((host) => [host, ""])), ...some });
      admitInto(net.nl, [admitted("1.2.3.4", { ports: { from: 7000, to: 7000 } }), admitted("9.9.9.9")]);
      await expectReached({ "1.2.3.4": "u", "9.9.9.9": "tup" });
    });

    test("a new policy forgets what was admitted under the old one", async () => {
      admitInto(net.nl, [admitted("1.2.3.4")]);
      install({ mode: "allowlist" });
      await expectReached({ "1.2.3.4": "" });
    });

    test("refusals are told at once: a reset, or an error", async () => {
      resetTable(net.nl, net.at);
      install({});
      for (const host of ["1.2.3.4", "2600::4"]) {
        expect(await net.guest.do("tcp", host, 80, ANSWER_MS)).toBe("refused");
        expect(await net.guest.do("udp", host, 7000, ANSWER_MS, {})).toBe("refused");
        expect(await net.guest.do("ping", host, ANSWER_MS, undefined)).toBe("refused");
      }
    });

    test("other protocols pass in no mode, nor other ICMP than echo", async () => {
      const [GRE, UNKNOWN] = [47, 99];
      await net.peer.do("rawListen", "1.2.3.4", GRE);
      await net.peer.do("rawListen", "1.2.3.4", UNKNOWN);
      const send = async (): Promise<number[]> => {
        for (const protocol of [GRE, UNKNOWN]) {
          await net.guest.do("rawSend", "1.2.3.4", protocol);
        }
        await net.guest.do("ping", "1.2.3.4", 100, undefined); // what was sent before has arrived after this
        return [await net.peer.do("rawCount", GRE), await net.peer.do("rawCount", UNKNOWN)];
      };
      install({ mode: "open" });
      expect(await send()).toEqual([0, 0]);
      install({ mode: "allowlist", ranges: [{ range: range("1.2.3.4"), ports: { from: 1, to: 65_535 } }] });
      admitInto(net.nl, [admitted("1.2.3.4")]);
      expect(await send()).toEqual([0, 0]);
      const TIMESTAMP = 13;
      install({ mode: "allowlist", ranges: [{ range: range("1.2.3.4"), ports: null }] });
      expect(await send()).toEqual([0, 0]);
      const refused = (): number => readUsage(net.nl)?.refused ?? 0;
      const before = refused();
      expect(await net.guest.do("ping", "1.2.3.4", SILENCE_MS, TIMESTAMP)).not.toBe("ok");
      expect(refused()).toBeGreaterThan(before);
      expect(await net.guest.do("ping", "1.2.3.4", ANSWER_MS, undefined)).toBe("ok");
    });

    test("hold as many entries as an allowlist has, each with ports of its own", async () => {
      const ranges = Array.from({ length: LIMITS.egressEntries }, (_, i) => ({
        range: range(i % 2 === 0 ? `2600:${i.toString(16)}::/32` : `5.6.${i}.0/24`),
        ports: { from: 1 + i, to: 7000 + i },
      }));
      install({
        mode: "allowlist",
        ranges: [...ranges.slice(1), { range: range("5.6.7.8"), ports: { from: 80, to: 80 } }],
      });
      await expectReached({ "5.6.7.8": "tu" });
      install({ mode: "allowlist", ranges: ranges.map(({ range }) => ({ range, ports: null })) });
      await expectReached({ "5.6.7.8": "tup", "1.2.3.4": "" });
    });

    test("hold as many admitted addresses as there may be, and refuse more", async () => {
      const many = (count: number, first: number, rest: Partial<Admitted> = {}): Admitted[] =>
        Array.from({ length: count }, (_, i) => ({
          ...admitted("5.0.0.0", rest),
          address: { family: 4, value: BigInt(0x05000000 + first + i) } as const,
        }));
      install({ mode: "allowlist" });
      admitInto(net.nl, many(LIMITS.egressAddresses, 0));
      admitInto(net.nl, many(LIMITS.egressAddresses, 0, { ports: { from: 443, to: 443 } }));
      admitInto(net.nl, many(LIMITS.egressAddresses, 0, { proxied: true }));
      expect(() => admitInto(net.nl, many(LIMITS.egressAddresses, LIMITS.egressAddresses))).toThrow("ENFILE");
      install({ mode: "allowlist" });
      admitInto(net.nl, many(40, 0, { ports: { from: 1, to: 65_534 } }));
      admitInto(net.nl, [admitted("1.2.3.4", { ports: { from: 2, to: 60_000 } })]);
      await expectReached({ "1.2.3.4": "tu" });
    });
  });
