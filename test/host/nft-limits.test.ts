/** Limits, forged senders, floods, and what is counted and written down. */
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { formatAddress } from "../../src/base/address.ts";
import { systemClock } from "../../src/base/clock.ts";
import { Batch } from "../../src/host/net/nft/batch.ts";
import { FAMILY } from "../../src/host/net/nft/names.ts";
import { readTried, readUsage, triedCursor } from "../../src/host/net/nft/read.ts";
import { installRules } from "../../src/host/net/nft/rules.ts";
import { resetTable, tableIsWhole } from "../../src/host/net/nft/table.ts";
import type { EgressLimits, EgressRules, NetworkUsage } from "../../src/host/network.ts";
import { gate } from "../harness/gates.ts";
import { ANSWER_MS, type Lab, lab, SILENCE_MS } from "../harness/netns.ts";
import { until } from "../harness/until.ts";

const HOSTS = ["1.2.3.4", "2600::4"];
const LIMITS: EgressLimits = { bytesPerSecond: null, newConnectionsPerSecond: 1000, connections: 1000 };
const OPEN: EgressRules = {
  mode: "open",
  ranges: [],
  exempt: [],
  limits: LIMITS,
  dnsPort: null,
  proxyPort: null,
  caught: "none",
};

if (gate("root"))
  describe("A slot's rules", async () => {
    const net: Lab = await lab();
    let generation = 0;
    await net.peer.do("tcpServe", HOSTS, 80, "echo", 0, 0);
    await net.peer.do("tcpServe", HOSTS, 7001, "source", 5, 20_000);
    await net.peer.do("udpServe", HOSTS, 7000);

    beforeEach(() => resetTable(net.nl, net.at));
    afterAll(async () => net[Symbol.asyncDispose]());

    function install(rules: Partial<EgressRules> = {}): void {
      installRules(net.nl, { ...OPEN, ...rules }, net.at, ++generation);
    }

    function usage(): NetworkUsage {
      const read = readUsage(net.nl);
      if (read === null) throw new Error("no table");
      return read;
    }

    test("count what passes, each way and once, and what is refused", async () => {
      install();
      expect(usage()).toEqual({ bytesOut: 0, bytesIn: 0, connections: 0, refused: 0 });
      const flow = { port: 4100 };
      for (let i = 0; i < 3; i++) expect(await net.guest.do("udp", "1.2.3.4", 7000, ANSWER_MS, flow)).toBe("ok");
      const [ip, udp, data] = [20, 8, 8];
      const bytes = 3 * (ip + udp + data);
      expect(usage()).toEqual({ bytesOut: bytes, bytesIn: bytes, connections: 1, refused: 0 });
      expect(await net.guest.do("tcp", "10.20.30.40", 80, ANSWER_MS)).toBe("refused");
      install({ mode: "none" }); // counters outlive a policy
      expect(await net.guest.do("udp", "2600::4", 7000, ANSWER_MS, {})).toBe("refused");
      expect(usage()).toEqual({ bytesOut: bytes, bytesIn: bytes, connections: 1, refused: 2 });
      resetTable(net.nl, net.at);
      expect(usage()).toEqual({ bytesOut: 0, bytesIn: 0, connections: 0, refused: 0 });
    });

    test("write down what was tried, once a minute for each destination and verdict", async () => {
      install();
      const cursor = triedCursor();
      const read = () => {
        const { rows, lost } = readTried(net.nl, cursor, systemClock.wallMs());
        expect(lost).toBe(0);
        for (const { atMs } of rows) expect(Math.abs(atMs - systemClock.wallMs())).toBeLessThan(2000);
        return rows.map((row) => `${row.verdict} ${row.protocol} ${formatAddress(row.address)} ${row.port}`);
      };
      expect(read()).toEqual([]);
      for (let i = 0; i < 3; i++) await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS);
      await net.guest.do("udp", "2600::4", 7000, ANSWER_MS, {});
      expect(read()).toEqual(["allowed tcp 1.2.3.4 80", "allowed udp 2600::4 7000"]);
      await net.guest.do("tcp", "10.20.30.40", 81, ANSWER_MS);
      await net.guest.do("ping", "1.2.3.4", ANSWER_MS, undefined);
      await net.guest.do("ping", "fd00::1", ANSWER_MS, undefined);
      await net.guest.do("rawSend", "1.2.3.4", 99);
      await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS);
      expect(read().sort()).toEqual([
        "allowed icmp 1.2.3.4 0",
        "refused icmp fd00::1 0",
        "refused other 1.2.3.4 0",
        "refused tcp 10.20.30.40 81",
      ]);
      expect(read()).toEqual([]);
      install({ mode: "none" });
      await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS);
      expect(read()).toEqual(["refused tcp 1.2.3.4 80"]);
    });

    test("hold a flood of refused packets: bounded memory, few answers, and what is allowed goes on", async () => {
      install({ mode: "none" });
      /** Errors that the guest was told. */
      const told = async (): Promise<number> => {
        const lines = (await net.guest.do("read", "/proc/net/snmp"))
          .split("\n")
          .filter((line) => line.startsWith("Icmp:"));
        const [names, values] = lines.map((line) => line.split(" "));
        return Number(values?.[names?.indexOf("InDestUnreachs") ?? 0]);
      };
      const before = await told();
      const tookMs = await net.guest.do("flood", "1.2.3.4", 7000, 5000, true);
      const { rows, lost } = readTried(net.nl, triedCursor(), systemClock.wallMs());
      expect(usage().refused).toBe(5000);
      expect(rows.length).toBe(256);
      expect(lost).toBe(5000 - 256);
      expect(tookMs).toBeLessThan(5000);
      const answered = (await told()) - before;
      expect(answered).toBeGreaterThan(0);
      expect(answered).toBeLessThan(150 + tookMs / 10);
      install();
      expect(await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS)).toBe("ok");
    });

    test("bound how many connections begin in a second; what is refused for another reason does not count", async () => {
      install({ limits: { ...LIMITS, newConnectionsPerSecond: 20 } });
      await net.guest.do("flood", "10.20.30.40", 7000, 100, false);
      expect(usage()).toMatchObject({ connections: 0, refused: 100 });
      await net.guest.do("flood", "1.2.3.4", 7000, 100, false);
      const { connections, refused } = usage();
      expect(connections).toBeGreaterThanOrEqual(20);
      expect(connections).toBeLessThan(40);
      // A port of the sender's that is drawn twice is the same connection again: one in six times for a hundred draws.
      expect(connections + refused).toBeWithin(195, 201);
      await until("a second later more begin", async () => {
        return (await net.guest.do("tcp", "1.2.3.4", 80, SILENCE_MS)) === "ok";
      });
    });

    /** Opens one, once the last packet of one that was closed just now no longer counts. */
    async function hold(name: string): Promise<void> {
      const opened = () => net.guest.do("open", name, "1.2.3.4", 80);
      await until(`${name} is open`, () =>
        opened().then(
          () => true,
          () => false,
        ),
      );
    }

    test("bound how many connections are open, and one that ends makes room", async () => {
      install({ limits: { ...LIMITS, connections: 3 } });
      for (let i = 0; i < 3; i++) await hold(`held ${i}`);
      expect(await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS)).toBe("refused");
      await net.guest.do("close", "held 0");
      await until("there is room", async () => (await net.guest.do("tcp", "1.2.3.4", 80, SILENCE_MS)) === "ok");
      await hold("held 3");
      install({ limits: { ...LIMITS, connections: 3 } });
      for (const name of ["held 1", "held 2", "held 3"]) {
        const before = (await net.guest.do("seen", name)).bytes;
        await net.guest.do("say", name);
        await until(`${name} goes on`, async () => (await net.guest.do("seen", name)).bytes > before);
      }
      expect(await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS)).toBe("refused");
      for (const name of ["held 1", "held 2", "held 3"]) await net.guest.do("close", name);
      expect(tableIsWhole(net.nl)).toBe(true);
      install({ limits: { ...LIMITS, connections: 1 } });
      expect(tableIsWhole(net.nl)).toBe(true);
      await hold("held alone");
      expect(await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS)).toBe("refused");
      await net.guest.do("close", "held alone");
    });

    test("bound bytes in a second towards the guest", async () => {
      const bytesPerSecond = 300_000;
      /** Starts a download: what of it has passed, and how much a limit lets pass until now, its bucket being full at first. */
      const download = async (name: string, limited: boolean) => {
        install({ limits: { ...LIMITS, bytesPerSecond: limited ? bytesPerSecond : null } });
        const [before, startMs] = [usage().bytesIn, systemClock.monotonicMs()];
        await net.guest.do("open", name, "1.2.3.4", 7001);
        return () => {
          const passed = usage().bytesIn - before;
          const seconds = (systemClock.monotonicMs() - startMs) / 1000;
          return { passed, most: bytesPerSecond * (1 + seconds) + 256 * 1024 };
        };
      };
      const free = await download("free", false);
      await until("Control: without a limit more passes", () => free().passed > 1.5 * free().most);
      await net.guest.do("close", "free");
      const bounded = await download("bounded", true);
      await systemClock.sleep(2000);
      const { passed, most } = bounded();
      expect(passed).toBeLessThan(1.1 * most);
      expect(passed).toBeGreaterThan(bytesPerSecond);
      await net.guest.do("close", "bounded");
    }, 20_000);

    test("bound bytes in a second from the guest", async () => {
      install({ limits: { ...LIMITS, bytesPerSecond: 20_000 } });
      // 36 bytes each; the bucket holds a second's worth and 256 KiB.
      await net.guest.do("flood", "1.2.3.4", 7000, 900, false);
      expect(usage().bytesOut).toBeGreaterThan(20_000);
      await net.guest.do("upload", "1.2.3.4", 7000, 1000, 1000, SILENCE_MS);
      expect(usage().bytesOut).toBeLessThan(400_000);
    });

    test("let no other sender than the guest's own pass", async () => {
      install();
      await net.guest.do("ip", ["addr add 10.98.0.9/32 dev eth0", "addr add fd57:5752::9/128 dev eth0 nodad"]);
      for (const [to, from] of [
        ["1.2.3.4", "10.98.0.9"],
        ["2600::4", "fd57:5752::9"],
      ] as const) {
        const before = usage();
        expect(await net.guest.do("udp", to, 7000, SILENCE_MS, { host: from })).toBe("silent");
        expect(usage()).toEqual({ ...before, refused: before.refused + 1 });
        const own = to === "1.2.3.4" ? net.at.guestAddress : net.at.guestAddress6;
        expect(await net.guest.do("udp", to, 7000, ANSWER_MS, { host: own })).toBe("ok");
      }
      await net.guest.do("ip", ["addr del 10.98.0.9/32 dev eth0", "addr del fd57:5752::9/128 dev eth0"]);
      await net.guest.do("ip", ["link set eth0 address 02:57:52:00:00:03"]);
      const { bytesOut, refused } = usage();
      expect(await net.guest.do("tcp", "1.2.3.4", 80, SILENCE_MS)).toBe("silent");
      expect(await net.guest.do("udp", "2600::4", 7000, SILENCE_MS, {})).toBe("silent");
      expect(usage().bytesOut).toBe(bytesOut);
      expect(usage().refused).toBeGreaterThan(refused);
      // A new address of its own makes a kernel forget all neighbours.
      const gateways = [net.at.tapAddress, net.at.tapAddress6];
      const known = gateways.map((address) => `neigh replace ${address} lladdr ${net.at.tapMac} dev eth0`);
      await net.guest.do("ip", [`link set eth0 address ${net.at.guestMac}`, ...known]);
      expect(await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS)).toBe("ok");
    });

    test("keep a guest from filling the host's one list of neighbours", async () => {
      const neighbours = async (): Promise<number> =>
        (await net.slot.do("read", "/proc/net/arp")).split("\n").filter((line) => line.includes("11.32.")).length;
      const damaged = new Batch(net.nl);
      damaged.inFamily(FAMILY.arp, () => damaged.deleteTable());
      damaged.commit();
      expect(tableIsWhole(net.nl)).toBe(false);
      await net.guest.do("arpFlood", net.at.tapAddress, 200);
      await until("Control: without the rule they are believed", async () => (await neighbours()) > 100);
      resetTable(net.nl, net.at);
      await net.slot.do("ip", ["neigh flush dev tap0 nud stale"]);
      expect(await neighbours()).toBe(0);
      install();
      await net.guest.do("arpFlood", net.at.tapAddress, 200);
      expect(await net.guest.do("tcp", "1.2.3.4", 80, ANSWER_MS)).toBe("ok");
      expect(await neighbours()).toBe(0);
    });

    test("let nothing begin towards the guest", async () => {
      await net.guest.do("tcpServe", [net.at.guestAddress], 8000, "echo", 0, 0);
      await net.guest.do("tcpServe", [net.at.guestAddress6], 8000, "echo", 0, 0);
      install();
      const guest = [net.at.guestAddress, net.at.guestAddress6];
      const pinged = [...guest, net.at.slotAddress, net.at.slotAddress6];
      const tries = [
        ...guest.map((to) => net.host.do("tcp", to, 8000, SILENCE_MS)),
        ...pinged.map((to) => net.host.do("ping", to, SILENCE_MS, undefined)),
      ];
      expect([...new Set(await Promise.all(tries))]).toEqual(["silent"]);
    });

    test("let fragments pass as the whole that they are", async () => {
      install();
      expect(await net.guest.do("upload", "1.2.3.4", 7000, 1, 4000, ANSWER_MS)).toBe(1);
      expect(await net.guest.do("upload", "2600::4", 7000, 1, 4000, ANSWER_MS)).toBe(1);
      install({ mode: "none" });
      const before = usage().bytesOut;
      expect(await net.guest.do("upload", "1.2.3.4", 7000, 1, 4000, SILENCE_MS)).toBe(0);
      expect(usage().bytesOut).toBe(before);
    });

    function damage(how: (batch: Batch) => void): void {
      const batch = new Batch(net.nl);
      how(batch);
      batch.commit();
    }

    test("are known to be whole until somebody changes them", async () => {
      install();
      expect(tableIsWhole(net.nl)).toBe(true);
      installRules(net.nl, { ...OPEN, mode: "allowlist" }, net.at, ++generation);
      expect(tableIsWhole(net.nl)).toBe(true);
      damage((batch) => batch.clear("fresh"));
      expect(tableIsWhole(net.nl)).toBe(false);
      install();
      expect(tableIsWhole(net.nl)).toBe(true);
      damage((batch) => batch.clear("judge"));
      expect(tableIsWhole(net.nl)).toBe(false);
      damage((batch) => batch.deleteTable());
      expect(tableIsWhole(net.nl)).toBe(false);
      expect(readUsage(net.nl)).toBe(null);
      expect(() => install()).toThrow("ENOENT");
    });
  });
