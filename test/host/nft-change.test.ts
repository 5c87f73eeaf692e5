/** What becomes of open connections when the policy changes, and of connections to the name server and the proxy. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseAddress, parseRange } from "../../src/base/address.ts";
import { systemClock } from "../../src/base/clock.ts";
import { admitInto } from "../../src/host/net/nft/admit.ts";
import { flushConntrack } from "../../src/host/net/nft/conntrack.ts";
import { installRules } from "../../src/host/net/nft/rules.ts";
import { resetTable } from "../../src/host/net/nft/table.ts";
import type { Admitted, EgressRules } from "../../src/host/network.ts";
import { gate } from "../harness/gates.ts";
import { ANSWER_MS, type Lab, lab, SILENCE_MS } from "../harness/netns.ts";
import { until } from "../harness/until.ts";

const [ECHO, SOURCE, DNS_PORT, PROXY_PORT] = [80, 7001, 5300, 8443];
const HOSTS = ["1.2.3.4", "1.2.3.5", "2600::4", "2600::5"];

const OPEN: EgressRules = {
  mode: "open",
  ranges: [],
  exempt: [],
  limits: { bytesPerSecond: null, newConnectionsPerSecond: 1000, connections: 1000 },
  dnsPort: null,
  proxyPort: null,
  caught: "none",
};

function listing(...texts: readonly string[]): Partial<EgressRules> {
  const ranges = texts.map((text) => {
    const range = parseRange(text);
    if (range === null) throw new TypeError(text);
    return { range, ports: null };
  });
  return { mode: "allowlist", ranges };
}

function admitted(text: string, rest: Partial<Admitted> = {}): Admitted {
  const address = parseAddress(text);
  if (address === null) throw new TypeError(text);
  return { address, ports: null, seconds: 60, proxied: false, ...rest };
}

if (gate("root"))
  describe("A change of a slot's rules", () => {
    let net: Lab;
    let generation = 0;
    let names = 0;

    beforeAll(async () => {
      net = await lab();
      for (const port of [ECHO, 443]) await net.peer.do("tcpServe", HOSTS, port, "echo", 0, 0);
      await net.peer.do("tcpServe", HOSTS, SOURCE, "source", 20, 100);
      for (const port of [443, 7000]) await net.peer.do("udpServe", HOSTS, port);
      resetTable(net.nl, net.at);
    });
    afterAll(async () => net[Symbol.asyncDispose]());

    function install(rules: Partial<EgressRules>): void {
      installRules(net.nl, { ...OPEN, ...rules }, net.at, ++generation);
    }

    async function open(host: string, port: number): Promise<string> {
      const name = `stream ${names++}`;
      await net.guest.do("open", name, host, port);
      return name;
    }

    async function seen(name: string): Promise<number> {
      return (await net.guest.do("seen", name)).bytes;
    }

    /** Goes on: more arrives than there was. */
    async function flows(name: string): Promise<void> {
      const before = await seen(name);
      await until(`${name} goes on`, async () => (await seen(name)) > before, 5000);
    }

    /** How much arrives in a second after what was under way. */
    async function lateBytes(name: string): Promise<number> {
      await systemClock.sleep(SILENCE_MS);
      const before = await seen(name);
      await systemClock.sleep(1000);
      return (await seen(name)) - before;
    }

    for (const [keep, lose] of [
      ["1.2.3.4", "1.2.3.5"],
      ["2600::4", "2600::5"],
    ] as const) {
      test(`a download from ${lose} stops at once, and one from ${keep} goes on`, async () => {
        install({});
        const [kept, lost] = [await open(keep, SOURCE), await open(lose, SOURCE)];
        await flows(kept);
        await flows(lost);
        install(listing(keep));
        const [before, late] = [await seen(kept), await lateBytes(lost)];
        expect(late).toBe(0);
        expect(await seen(kept)).toBeGreaterThan(before + 1000);
        await net.guest.do("close", kept);
        await net.guest.do("close", lost);
      });

      test(`a connection to ${keep} that is silent goes on, whichever side speaks first`, async () => {
        install({});
        const echo = await open(keep, ECHO);
        await net.guest.do("say", echo);
        await until("the echo", async () => (await seen(echo)) === 1);
        install(listing(keep));
        await net.guest.do("say", echo);
        await until("the echo under new rules", async () => (await seen(echo)) === 2);
        await net.guest.do("close", echo);
      });
    }

    test("what waits only for its peer is judged by the peer's packet", async () => {
      install({});
      const slow = 9001;
      await net.peer.do("tcpServe", ["1.2.3.4"], slow, "source", 700, 10);
      const stream = await open("1.2.3.4", slow);
      await until("the first piece", async () => (await seen(stream)) > 0);
      install(listing("1.2.3.4"));
      await flows(stream);
      install({ mode: "none" });
      expect(await lateBytes(stream)).toBe(0);
      await net.guest.do("close", stream);
    });

    test("a connection that was stopped is reset when its program sends again", async () => {
      install({});
      const echo = await open("1.2.3.4", ECHO);
      install({ mode: "none" });
      await systemClock.sleep(300); // the grace, in which it only stands still
      await net.guest.do("say", echo);
      await until("the reset", async () => (await net.guest.do("seen", echo)).ended, 5000);
    });

    test("one whose address is admitted again right after the change goes on, without a reset between", async () => {
      install({ mode: "allowlist" });
      admitInto(net.nl, [admitted("1.2.3.4")]);
      const [echo, source] = [await open("1.2.3.4", ECHO), await open("1.2.3.4", SOURCE)];
      await flows(source);
      install({ mode: "allowlist" });
      await net.guest.do("say", echo); // judged between the two
      admitInto(net.nl, [admitted("1.2.3.4")]);
      await until("the echo, sent again", async () => (await seen(echo)) === 1, 5000);
      await flows(source);
    });

    test("an admitted address expires for new connections, and open ones go on", async () => {
      install({ mode: "allowlist" });
      admitInto(net.nl, [admitted("1.2.3.4", { seconds: 1 })]);
      const source = await open("1.2.3.4", SOURCE);
      const refused = async (): Promise<boolean> =>
        (await net.guest.do("tcp", "1.2.3.4", ECHO, SILENCE_MS)) === "refused";
      expect(await refused()).toBe(false);
      await until("new ones are refused", refused, 5000);
      await flows(source);
      admitInto(net.nl, [admitted("1.2.3.4", { seconds: 60 })]);
      admitInto(net.nl, [admitted("1.2.3.4", { seconds: 1 })]);
      expect(await refused()).toBe(false);
      await until("a later answer's time counts", refused, 5000);
    });

    test("a UDP flow is judged again too, and so is everything once connections are forgotten", async () => {
      install({});
      const flow = { port: 4001 };
      expect(await net.guest.do("udp", "1.2.3.4", 7000, ANSWER_MS, flow)).toBe("ok");
      install(listing("1.2.3.4"));
      expect(await net.guest.do("udp", "1.2.3.4", 7000, ANSWER_MS, flow)).toBe("ok");
      install({ mode: "none" });
      expect(await net.guest.do("udp", "1.2.3.4", 7000, SILENCE_MS, flow)).not.toBe("ok");
      install({});
      const source = await open("1.2.3.4", SOURCE);
      await flows(source);
      flushConntrack(net.nl);
      expect(await lateBytes(source)).toBe(0);
    });

    describe("with a name server and a proxy", () => {
      beforeAll(async () => {
        const own = [net.at.hostAddress, net.at.hostAddress6];
        await net.host.do("udpServe", [net.at.hostAddress], DNS_PORT);
        await net.host.do("tcpServe", [net.at.hostAddress], DNS_PORT, "echo", 0, 0);
        for (const port of [PROXY_PORT, PROXY_PORT + 1]) await net.host.do("tcpServe", own, port, "proxy", 0, 0);
      });

      /** Who answers: the proxy says so. */
      async function web(host: string, port = 443): Promise<string> {
        const outcome = await net.guest.do("tcp", host, port, ANSWER_MS);
        return outcome === "ok" ? await net.guest.do("answered", host, port) : outcome;
      }

      test("queries to the gateway reach it in every mode, by UDP and TCP, and nothing else of the gateway is reached", async () => {
        for (const mode of ["none", "allowlist", "open"] as const) {
          install({ mode, dnsPort: DNS_PORT });
          expect(await net.guest.do("udp", net.at.tapAddress, 53, ANSWER_MS, {})).toBe("ok");
          expect(await net.guest.do("tcp", net.at.tapAddress, 53, ANSWER_MS)).toBe("ok");
          expect(await net.guest.do("udp", net.at.tapAddress, DNS_PORT, ANSWER_MS, {})).toBe("refused");
          expect(await net.guest.do("udp", net.at.hostAddress, DNS_PORT, ANSWER_MS, {})).toBe("refused");
          expect(await net.guest.do("ping", net.at.tapAddress, ANSWER_MS, undefined)).toBe("refused");
        }
        install({ mode: "open" });
        expect(await net.guest.do("udp", net.at.tapAddress, 53, ANSWER_MS, {})).toBe("refused");
      });

      test("all: the proxy has ports 80 and 443 of what is allowed, and nothing else", async () => {
        install({ ...listing("1.2.3.4", "2600::4"), proxyPort: PROXY_PORT, caught: "all" });
        for (const host of ["1.2.3.4", "2600::4"]) {
          for (const port of [80, 443]) expect(await web(host, port)).toBe("proxy");
          expect(await net.guest.do("udp", host, 7000, ANSWER_MS, {})).toBe("ok");
          expect(await net.guest.do("udp", host, 443, ANSWER_MS, {})).toBe("refused"); // HTTP/3, which it cannot read
        }
        install({ mode: "open" });
        expect(await net.guest.do("udp", "1.2.3.4", 443, ANSWER_MS, {})).toBe("ok");
        install({ ...listing("1.2.3.4", "2600::4"), proxyPort: PROXY_PORT, caught: "all" });
        for (const host of ["1.2.3.5", "2600::5", "10.20.30.40"]) expect(await web(host)).toBe("refused");
      });

      test("named: only addresses admitted so", async () => {
        install({ mode: "open", proxyPort: PROXY_PORT, caught: "named" });
        admitInto(net.nl, [admitted("1.2.3.4", { proxied: true }), admitted("2600::4", { proxied: true })]);
        for (const host of ["1.2.3.4", "2600::4"]) expect(await web(host)).toBe("proxy");
        for (const host of ["1.2.3.5", "2600::5"]) expect(await web(host)).toBe("x");
        admitInto(net.nl, [admitted("1.2.3.4")]);
        expect(await web("1.2.3.4")).toBe("x");
      });

      test("an open connection that would go another way under new rules stops", async () => {
        const proxied = { ...listing("1.2.3.4"), proxyPort: PROXY_PORT, caught: "all" } as const;
        const goesOn = async (name: string): Promise<void> => {
          const before = await seen(name);
          await net.guest.do("say", name);
          await until(`${name} is answered again`, async () => (await seen(name)) > before);
        };
        const hasStopped = async (name: string): Promise<void> => {
          const before = await seen(name);
          await net.guest.do("say", name);
          await systemClock.sleep(SILENCE_MS);
          expect(await seen(name)).toBe(before);
        };
        install({});
        const direct = await open("1.2.3.4", 443);
        install(proxied);
        const through = await open("1.2.3.4", 443);
        await hasStopped(direct);
        await goesOn(through);
        install(proxied);
        await goesOn(through);
        install({ ...proxied, proxyPort: PROXY_PORT + 1 });
        await hasStopped(through);
        const other = await open("1.2.3.4", 443);
        await goesOn(other);
        install({});
        await hasStopped(other);
      });
    });
  });
