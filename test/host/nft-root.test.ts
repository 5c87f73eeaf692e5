/** The table of a host's own namespace: slots against each other, against the host's services and against what is around it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeAll } from "../../ffi/files.ts";
import { Attributes } from "../../src/host/net/answer.ts";
import { Netlink, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP } from "../../src/host/net/message.ts";
import { Batch, tableMessage } from "../../src/host/net/nft/batch.ts";
import { MSG, SUBSYSTEM } from "../../src/host/net/nft/names.ts";
import { closeHostPorts, installRootTable, openHostPorts, rootTableIsWhole } from "../../src/host/net/nft/root.ts";
import { resetTable } from "../../src/host/net/nft/table.ts";
import { slotAddresses } from "../../src/host/net/plan.ts";
import { gate } from "../harness/gates.ts";
import { Agent, ANSWER_MS, type Lab, lab, SILENCE_MS } from "../harness/netns.ts";
import { until } from "../harness/until.ts";

const [PORT, OTHER_PORT] = [5300, 5301];
const HOSTS = ["1.2.3.4", "2600::4"];

if (gate("root"))
  describe("A host's own rules", () => {
    let net: Lab;
    /** Another slot's namespace, which is its guest too; and a network beside the host. */
    let neighbour: Agent;
    let beside: Agent;
    let other: ReturnType<Agent["sockets"]>;
    const at4 = slotAddresses(4);

    beforeAll(async () => {
      net = await lab();
      [neighbour, beside] = await Promise.all([Agent.start(), Agent.start()]);
      other = neighbour.sockets();
      await net.host.do("ip", [
        `link add ${at4.rootDevice} address ${at4.hostMac} type veth peer name eth0 address ${at4.slotMac} netns ${neighbour.pid}`,
        `link set ${at4.rootDevice} addrgenmode none up`,
        `addr add ${at4.hostAddress}/30 dev ${at4.rootDevice}`,
        `addr add ${at4.hostAddress6}/64 dev ${at4.rootDevice} nodad`,
        ...[at4.slotAddress, at4.slotAddress6].map((a) => `neigh add ${a} lladdr ${at4.slotMac} dev ${at4.rootDevice}`),
        `link add lan0 type veth peer name eth0 netns ${beside.pid}`,
        "link set lan0 addrgenmode none up",
        "addr add 11.1.0.1/24 dev lan0",
      ]);
      await neighbour.do("ip", [
        "link set eth0 addrgenmode none up",
        `addr add ${at4.slotAddress}/30 dev eth0`,
        `addr add ${at4.slotAddress6}/64 dev eth0 nodad`,
        ...[at4.hostAddress, at4.hostAddress6].map((a) => `neigh add ${a} lladdr ${at4.hostMac} dev eth0`),
        `route add default via ${at4.hostAddress}`,
        `route add ::/0 via ${at4.hostAddress6}`,
      ]);
      await beside.do("ip", [
        "link set eth0 addrgenmode none up",
        "addr add 11.1.0.2/24 dev eth0",
        "route add default via 11.1.0.1",
      ]);
      await net.peer.do("tcpServe", HOSTS, 80, "echo", 0, 0);
      await neighbour.do("tcpServe", [at4.slotAddress, at4.slotAddress6], 80, "echo", 0, 0);
      await beside.do("tcpServe", ["11.1.0.2"], 80, "echo", 0, 0);
      for (const port of [PORT, OTHER_PORT]) {
        await net.host.do("tcpServe", ["::"], port, "echo", 0, 0);
        await net.host.do("udpServe", [net.at.hostAddress, net.at.hostAddress6, "11.0.0.1"], port);
      }
      await net.slot.do("tcpServe", [net.at.slotAddress, net.at.slotAddress6], 80, "echo", 0, 0);
      // As in the lab itself: a new link may take the kernel a second until it carries.
      for (const to of [at4.slotAddress, at4.slotAddress6, "11.1.0.2"]) {
        await until(`${to} is reached`, async () => (await ping(net.host, to)) === "ok");
      }
    });
    afterAll(async () => {
      closeAll([other.route, other.netfilter]);
      await Promise.all([net[Symbol.asyncDispose](), neighbour[Symbol.asyncDispose](), beside[Symbol.asyncDispose]()]);
    });

    const tcp = (from: Agent, to: string, port: number): Promise<string> => from.do("tcp", to, port, SILENCE_MS);
    /** That none of these tries is answered. */
    async function silent(...tries: readonly Promise<string>[]): Promise<void> {
      expect([...new Set(await Promise.all(tries))]).toEqual(["silent"]);
    }
    const ping = (from: Agent, to: string): Promise<string> => from.do("ping", to, SILENCE_MS, undefined);
    async function reaches(how: "tcp" | "udp", from: Agent, to: string, port: number): Promise<void> {
      const tried = how === "tcp" ? from.do("tcp", to, port, ANSWER_MS) : from.do("udp", to, port, ANSWER_MS, {});
      expect(await tried).toBe("ok");
    }

    test("Control: without them a slot reaches its neighbour and the host, and is reached", async () => {
      const { hostAddress, hostAddress6, slotAddress, slotAddress6 } = net.at;
      for (const to of [at4.slotAddress, at4.slotAddress6]) await reaches("tcp", net.slot, to, 80);
      for (const to of [hostAddress, hostAddress6, "11.0.0.1"]) await reaches("tcp", net.slot, to, PORT);
      await reaches("udp", net.slot, hostAddress, PORT);
      for (const to of [slotAddress, slotAddress6]) await reaches("tcp", net.peer, to, 80);
      await reaches("tcp", net.peer, "11.1.0.2", 80);
    });

    test("a slot reaches the world, in the host's name, and the world does not reach it", async () => {
      installRootTable(net.hostNl, { ownForwarding: [] });
      expect(rootTableIsWhole(net.hostNl)).toBe(true);
      await net.peer.do("ip", ["route add blackhole 198.18.0.0/15", "route add blackhole fd57:5752:1::/48"]);
      for (const to of HOSTS) await reaches("tcp", net.slot, to, 80);
      await net.peer.do("ip", ["route del blackhole 198.18.0.0/15", "route del blackhole fd57:5752:1::/48"]);
      const slot = [net.at.slotAddress, net.at.slotAddress6];
      await silent(...slot.flatMap((to) => [tcp(net.peer, to, 80), ping(net.peer, to)]));
    });

    test("slots do not reach each other", async () => {
      const others = [at4.slotAddress, at4.slotAddress6, at4.hostAddress, at4.hostAddress6];
      await silent(...others.flatMap((to) => [tcp(net.slot, to, 80), ping(net.slot, to)]));
    });

    test("a slot reaches the ports that are open to it, at its own link's address alone", async () => {
      const { rootDevice, hostAddress, hostAddress6 } = net.at;
      await silent(tcp(net.slot, hostAddress, PORT), tcp(net.slot, hostAddress6, PORT));
      openHostPorts(net.hostNl, rootDevice, [PORT]);
      openHostPorts(net.hostNl, rootDevice, [PORT]);
      for (const to of [hostAddress, hostAddress6]) {
        await reaches("tcp", net.slot, to, PORT);
        await reaches("udp", net.slot, to, PORT);
        await silent(tcp(net.slot, to, OTHER_PORT), ping(net.slot, to));
      }
      const elsewhere = ["11.0.0.1", at4.hostAddress, at4.hostAddress6].map((to) => tcp(net.slot, to, PORT));
      await silent(...elsewhere, ...[at4.hostAddress, at4.hostAddress6].map((to) => tcp(neighbour, to, PORT)));
      openHostPorts(net.hostNl, rootDevice, [OTHER_PORT]);
      await silent(tcp(net.slot, hostAddress, PORT));
      await reaches("tcp", net.slot, hostAddress, OTHER_PORT);
      installRootTable(net.hostNl, { ownForwarding: [] });
      await reaches("tcp", net.slot, hostAddress, OTHER_PORT);
      closeHostPorts(net.hostNl, rootDevice);
      closeHostPorts(net.hostNl, rootDevice);
      expect(await tcp(net.slot, hostAddress, OTHER_PORT)).toBe("silent");
    });

    test("nothing leaves a slot's link in another name than the link's", async () => {
      // The guest's address, unchanged: this slot has no table that would change it.
      await silent(tcp(net.guest, "1.2.3.4", 80), tcp(net.guest, "2600::4", 80));
      await reaches("tcp", net.slot, "1.2.3.4", 80);
    });

    test("a device that forwards only for the slots' sake forwards nothing else", async () => {
      await reaches("tcp", net.peer, "11.1.0.2", 80);
      installRootTable(net.hostNl, { ownForwarding: ["up0", "lan0"] });
      await silent(tcp(net.peer, "11.1.0.2", 80), tcp(beside, "1.2.3.4", 80));
      await reaches("tcp", net.slot, "1.2.3.4", 80);
      await reaches("tcp", net.host, "1.2.3.4", 80);
      await reaches("tcp", net.peer, "11.0.0.1", PORT);
    });

    test("are known to be whole until somebody changes them", () => {
      expect(rootTableIsWhole(net.hostNl)).toBe(true);
      expect(rootTableIsWhole(new Netlink(other.netfilter))).toBe(false);
      const batch = new Batch(net.hostNl);
      batch.clear("forward");
      batch.commit();
      expect(rootTableIsWhole(net.hostNl)).toBe(false);
      installRootTable(net.hostNl, { ownForwarding: [] });
      expect(rootTableIsWhole(net.hostNl)).toBe(true);
    });

    test("leave other tables alone", () => {
      const nl = net.hostNl;
      const names = (): string[] => {
        tableMessage(nl, "list tables", MSG.getTable, NLM_F_DUMP).end();
        return nl
          .dump()
          .map(({ body }) => new Attributes(body, 4).text(1) ?? "")
          .sort();
      };
      const [begin, end] = [16, 17];
      nl.begin("begin", begin).u8(0).u8(0).be16(SUBSYSTEM).end();
      tableMessage(nl, "a table", MSG.newTable, NLM_F_CREATE | NLM_F_ACK)
        .attrText(1, "somebody")
        .end();
      nl.begin("end", end).u8(0).u8(0).be16(SUBSYSTEM).end();
      nl.flush();
      installRootTable(nl, { ownForwarding: [] });
      expect(names()).toEqual(["somebody", "warren"]);
      expect(rootTableIsWhole(nl)).toBe(true);
      resetTable(nl, net.at);
      expect(names()).toEqual(["somebody", "warren"]);
    });
  });
