/** A sandbox's egress over its life: modes, changes of policy, what breaks meanwhile, its log, its end. */
import { describe, expect, test } from "bun:test";
import { parseAddress } from "../../src/base/address.ts";
import { createLog } from "../../src/base/log.ts";
import type { Egress } from "../../src/contract/routes/network.ts";
import { DNS } from "../../src/egress/dns/bounds.ts";
import { SandboxEgress } from "../../src/egress/egress.ts";
import { parsePolicy } from "../../src/egress/policy.ts";
import { isWarrenError, WarrenError } from "../../src/errors.ts";
import { LIMITS } from "../../src/limits.ts";
import { FakeClock } from "../harness/clock.ts";
import { until } from "../harness/until.ts";
import { FakeNetwork } from "./fake-network.ts";
import { NAMED, PUBLIC, sandboxes, shown } from "./sandbox.ts";
import { a, overTcp, reply, wire } from "./wire.ts";

const sandbox = sandboxes();
const policy = (egress: Egress) => parsePolicy(egress, []);
const broken = () => new WarrenError("driver_failed", "netlink says no");

/** Whether a name server listens there. */
async function listens(port: number): Promise<boolean> {
  const query = wire({ id: 7, questions: [{ name: "no.example" }] });
  return (await overTcp(port, Uint8Array.from([0, query.length, ...query]), { enough: 2 })).length > 0;
}

describe("SandboxEgress", () => {
  test("of mode none has rules and nothing that listens", async () => {
    const { network, clock } = await sandbox(NAMED, { egress: { mode: "none" } });
    expect(network.told).toHaveLength(1);
    expect(network.rules).toMatchObject({ mode: "none", dnsPort: null, proxyPort: null, caught: "none" });
    expect(clock.waiting).toBe(0);
  });

  test("tells the kernel its list, limits and name server", async () => {
    const egress: Egress = { mode: "allowlist", allow: ["a.example", "8.8.8.0/24:53"], mbps: 8 };
    const { network, port } = await sandbox(NAMED, { egress });
    expect(network.rules).toMatchObject({ mode: "allowlist", dnsPort: port, limits: { bytesPerSecond: 1_000_000 } });
    expect(network.rules.ranges).toHaveLength(1);
    expect(await listens(port)).toBe(true);
  });

  test("leaves nothing behind when its rules cannot be put in force", async () => {
    const network = new FakeNetwork(new FakeClock());
    let port = 0;
    network.apply = ({ dnsPort }) => {
      port = dnsPort ?? port;
      throw broken();
    };
    const parts = { clock: new FakeClock(), log: createLog("silent"), upstreams: [], exempt: [], sandboxId: "sb_x" };
    const opened = SandboxEgress.open(network, policy({ mode: "open" }), parts);
    expect(isWarrenError(await opened.catch((error: unknown) => error), "driver_failed")).toBe(true);
    expect(port).toBeGreaterThan(0);
    expect(await listens(port)).toBe(false);
  });

  test("says where it cannot listen", async () => {
    const network = new FakeNetwork(new FakeClock(), "192.0.2.1");
    const parts = { clock: new FakeClock(), log: createLog("silent"), upstreams: [], exempt: [], sandboxId: "sb_x" };
    const error = await SandboxEgress.open(network, policy({ mode: "open" }), parts).catch((e: unknown) => e);
    expect(isWarrenError(error, "driver_failed")).toBe(true);
    expect(String(error)).toContain("192.0.2.1");
  });

  test("ends with rules of mode none and with closed ports, once", async () => {
    const { network, port, egress } = await sandbox();
    await Promise.all([egress.close(), egress.close()]);
    expect(network.rules).toMatchObject({ mode: "none", ranges: [], dnsPort: null });
    expect(network.told).toHaveLength(2);
    expect(await listens(port)).toBe(false);
    expect(isWarrenError(await egress.change(policy({ mode: "open" })).catch((e: unknown) => e), "wrong_state")).toBe(
      true,
    );
  });

  test("ends without a word to a network that is gone, or that fails", async () => {
    const gone = await sandbox();
    expect(gone.egress.usage()).toMatchObject({ bytesOut: 1 });
    gone.network.used = null;
    await gone.egress.close();
    expect(gone.network.told).toHaveLength(1);
    expect(gone.egress.usage()).toMatchObject({ bytesOut: 1 }); // as it was last
    const failing = await sandbox();
    failing.network.breaks = broken();
    await failing.egress.close();
    expect(await listens(failing.port)).toBe(false);
  });
});

describe("A change of policy", () => {
  test("holds for the next name, and keeps its name server", async () => {
    const { guest, egress, network, port } = await sandbox();
    expect(shown(await guest.ask("d.example"))).toBe("3");
    await egress.change(policy({ mode: "allowlist", allow: ["d.example"] }));
    expect(network.rules.dnsPort).toBe(port);
    expect(shown(await guest.ask("d.example"))).toBe(`0 ${PUBLIC}/60`);
    expect(shown(await guest.ask("a.example"))).toBe("3");
  });

  test("keeps open what was answered and is still allowed, for what is left or a while", async () => {
    const addresses: Record<string, string> = {
      "a.example": "1",
      "x.b.example": "2",
      "c.example": "3",
      "y.b.example": "4",
    };
    const { guest, egress, network, clock } = await sandbox((asking) => {
      const { name } = asking.question;
      return [reply(asking, [a(name, `93.184.216.${addresses[name]}`, name === "c.example" ? 200 : 20)])];
    });
    await guest.ask("y.b.example");
    await clock.advance(60_000);
    for (const name of ["a.example", "x.b.example", "c.example"]) await guest.ask(name);
    await clock.advance(19_000);
    await egress.change(policy({ mode: "allowlist", allow: ["*.b.example:22", "c.example"] }));
    const open = () => [1, 2, 3, 4].map((last) => network.open(`93.184.216.${last}`).join());
    expect(open()).toEqual(["", "22", "all", "22"]); // the last was answered long ago: a connection to it may be open
    await clock.advance(DNS.keptSeconds * 1000);
    expect(open()).toEqual(["", "", "all", ""]);
    await clock.advance(173_000);
    expect(open()).toEqual(["", "", "", ""]);
  });

  test("comes before what a name's answer would open that is under way", async () => {
    const gate = Promise.withResolvers<void>();
    const { guest, egress, network, up } = await sandbox(async (asking) => {
      await gate.promise;
      return NAMED(asking);
    });
    const asked = [guest.ask("a.example"), guest.ask("c.example")];
    await until("both are asked for", () => up.asked.length === 2);
    await egress.change(policy({ mode: "allowlist", allow: ["c.example:22"] }));
    gate.resolve();
    expect((await Promise.all(asked)).map(shown)).toEqual(["3", `0 ${PUBLIC}/60`]);
    expect(network.open(PUBLIC)).toEqual(["22"]);
  });

  test("to none and back closes the name server and opens one again", async () => {
    const { guest, egress, network, port } = await sandbox();
    await guest.ask("a.example");
    await egress.change(policy({ mode: "none" }));
    expect(network.rules).toMatchObject({ mode: "none", dnsPort: null });
    expect(network.open(PUBLIC)).toEqual([]);
    expect(await listens(port)).toBe(false);
    await egress.change(policy({ mode: "open" }));
    expect(await listens(network.rules.dnsPort!)).toBe(true);
  });

  test("that fails leaves the policy before in force", async () => {
    const { guest, egress, network, port } = await sandbox();
    const before = egress.policy;
    network.breaks = broken();
    const error = await egress.change(policy({ mode: "none" })).catch((e: unknown) => e);
    expect(isWarrenError(error, "driver_failed")).toBe(true);
    expect(egress.policy).toBe(before);
    expect(await listens(port)).toBe(true);
    expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
  });

  test("comes after the one that was asked for before it", async () => {
    const { egress, network } = await sandbox();
    const modes = ["none", "open", "none", "open"] as const;
    await Promise.all(modes.map((mode) => egress.change(policy({ mode }))));
    const applied = network.told.flatMap((one) => ("mode" in one ? [one.mode] : []));
    expect(applied).toEqual(["allowlist", ...modes]);
    expect(await listens(network.rules.dnsPort!)).toBe(true);
  });
});

describe("The proxy", () => {
  const secret = (host: string) => ({ host, header: "Authorization", value: "hush" });
  const get = (host: string) =>
    new TextEncoder().encode(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);

  test("is there for hosts with a secret, whose addresses are marked for it", async () => {
    const { guest, network, egress } = await sandbox(NAMED, { secrets: [secret("a.example")] });
    expect(network.rules).toMatchObject({ caught: "named" });
    expect(network.rules.proxyPort).toBeGreaterThan(0);
    expect(egress.certificatePem).toStartWith("-----BEGIN CERTIFICATE-----");
    await guest.ask("c.example");
    expect(network.open(PUBLIC)).toEqual(["80-90"]);
    await guest.ask("a.example");
    expect(network.open(PUBLIC)).toEqual(["80-90 proxied", "443 proxied"]);
  });

  test("is there in mode open, where nothing else is marked", async () => {
    const { guest, network } = await sandbox(
      (asking) => [reply(asking, [a(asking.question.name, asking.question.name === "a.example" ? PUBLIC : "8.8.8.8")])],
      { egress: { mode: "open" }, secrets: [secret("a.example")] },
    );
    await guest.ask("a.example");
    await guest.ask("b.example");
    expect([network.open(PUBLIC), network.open("8.8.8.8")]).toEqual([["all proxied"], []]);
  });

  test("holds what it sees to the policy of the moment, and tells the log", async () => {
    const { network, egress } = await sandbox(NAMED, {
      egress: { mode: "allowlist", allow: ["a.example"], inspect: true },
    });
    expect(network.rules).toMatchObject({ caught: "all" });
    expect(egress.certificatePem).toBeNull();
    const proxyPort = network.rules.proxyPort!;
    const refused = await overTcp(proxyPort, get("d.example"));
    expect(new TextDecoder().decode(refused)).toStartWith("HTTP/1.1 403 ");
    await until("the log has it", () => egress.log().events.some(({ kind }) => kind === "request"));
    const event = egress.log().events.find(({ kind }) => kind === "request");
    expect(event).toMatchObject({ name: "d.example", verdict: "refused" });
    await egress.change(policy({ mode: "allowlist", allow: ["b.example"], inspect: true }));
    expect(network.rules.proxyPort).toBe(proxyPort);
    expect(new TextDecoder().decode(await overTcp(proxyPort, get("a.example")))).toStartWith("HTTP/1.1 403 ");
  });

  test("is another one when there are hosts with a secret that its authority is not good for", async () => {
    const { network, egress } = await sandbox(NAMED, { egress: { mode: "open", inspect: true } });
    const [proxyPort, pem] = [network.rules.proxyPort!, egress.certificatePem];
    expect(pem).toBeNull();
    await egress.change(parsePolicy({ mode: "open", inspect: true }, [secret("a.example")]));
    expect(egress.certificatePem).toStartWith("-----BEGIN");
    expect(network.rules.proxyPort).not.toBe(proxyPort);
    expect(await overTcp(proxyPort, get("a.example"))).toHaveLength(0);
  });

  test("is gone when nothing is for it, and its authority stays for when it is back", async () => {
    const secrets = [secret("a.example"), secret("x.b.example")];
    const { network, egress } = await sandbox(NAMED, { secrets });
    const [pem, proxyPort] = [egress.certificatePem, network.rules.proxyPort!];
    await egress.change(policy({ mode: "open" }));
    expect(network.rules).toMatchObject({ caught: "none", proxyPort: null });
    expect(await overTcp(proxyPort, get("a.example"))).toHaveLength(0);
    await egress.change(parsePolicy({ mode: "open" }, secrets.slice(1)));
    expect(egress.certificatePem).toBe(pem);
    expect(network.rules).toMatchObject({ caught: "named" });
    await egress.close();
    expect(await overTcp(network.rules.proxyPort ?? proxyPort, get("a.example"))).toHaveLength(0);
  });
});

describe("What cannot be opened", () => {
  test("is not answered", async () => {
    const { guest, network, egress } = await sandbox();
    network.breaks = broken();
    expect(shown(await guest.ask("a.example"))).toBe("2");
    expect(egress.log().events[0]!.reason).toContain("netlink says no");
    expect(shown(await guest.ask("a.example"))).toBe(`0 ${PUBLIC}/60`);
  });

  test("is more than the addresses that may be open at once", async () => {
    let count = 0;
    const { guest, network, clock } = await sandbox((asking) => {
      const next = Array.from({ length: DNS.addresses }, () => `93.184.${count >> 8}.${count++ & 255}`);
      return [
        reply(
          asking,
          next.map((address) => a(asking.question.name, address, 60)),
        ),
      ];
    });
    const names = LIMITS.egressAddresses / DNS.addresses;
    for (let i = 0; i < names; i++) expect(shown(await guest.ask(`n${i}.b.example`))).toStartWith("0 ");
    expect(shown(await guest.ask("more.b.example"))).toBe("2");
    expect(network.open(`93.184.${(count - 1) >> 8}.${(count - 1) & 255}`)).toEqual([]);
    await clock.advance(70_000);
    expect(shown(await guest.ask("later.b.example"))).toStartWith("0 ");
  });
});

describe("The log", () => {
  const at = Date.UTC(2030, 0, 1);
  const tried = (text: string, port: number, verdict: "allowed" | "refused", atMs = at) =>
    ({ atMs, address: parseAddress(text)!, protocol: "tcp", port, verdict }) as const;

  test("joins names and connections, oldest first, and reading it takes nothing out", async () => {
    const { guest, network, egress } = await sandbox();
    await guest.ask("a.example");
    await guest.ask("d.example");
    network.tries = [tried("8.8.8.8", 53, "refused", at + 50_000), tried(PUBLIC, 443, "allowed", at + 20_000)];
    const read = egress.log();
    expect(read.lost).toBe(0);
    expect(read.events).toMatchObject([
      { kind: "dns", name: "a.example", address: PUBLIC, verdict: "allowed", reason: null },
      { kind: "dns", name: "d.example", address: null, verdict: "refused" },
      { kind: "connection", name: "a.example", address: PUBLIC, port: 443, verdict: "allowed", reason: null },
      { kind: "connection", name: null, address: "8.8.8.8", port: 53, verdict: "refused" },
    ]);
    expect(read.events[2]!.at).toBe("2030-01-01T00:00:20.000Z");
    expect(egress.log()).toEqual(read);
    await egress.close();
    expect(egress.log()).toEqual(read);
  });

  test("has what repeats within a minute once", async () => {
    const { guest, egress, clock } = await sandbox();
    for (let i = 0; i < 5; i++) await guest.ask("d.example");
    expect(egress.log().events).toHaveLength(1);
    await clock.advance(60_000);
    await guest.ask("d.example");
    expect(egress.log().events).toHaveLength(2);
  });

  test("keeps the newest rows, and says how many it has not", async () => {
    const { network, egress } = await sandbox();
    const more = LIMITS.egressLogRows * 2 + 17;
    network.tries = Array.from({ length: more }, (_, i) => tried("8.8.8.8", i + 1, "refused", at + i));
    const { events, lost } = egress.log();
    expect(events).toHaveLength(LIMITS.egressLogRows);
    expect(lost).toBe(more - LIMITS.egressLogRows);
    expect([events[0]!.port, events.at(-1)!.port]).toEqual([lost + 1, more]);
  });
});

describe("resolve, which the proxy connects by,", () => {
  test("gives addresses that may be reached, of names and of themselves", async () => {
    const { egress } = await sandbox(NAMED, { egress: { mode: "allowlist", allow: ["a.example", "8.8.8.0/24"] } });
    const texts = async (name: string) => (await egress.resolve(name)).map(({ family }) => family);
    expect(await texts("a.example")).toEqual([4, 6]);
    expect(await texts("8.8.8.8")).toEqual([4]);
    for (const name of ["d.example", "9.9.9.9", "2606:4700::1", "localhost", "127.0.0.1", "::ffff:127.0.0.1"])
      expect(await texts(name)).toEqual([]);
    await egress.change(policy({ mode: "open" }));
    expect(await texts("::ffff:9.9.9.9")).toEqual([4]);
    for (const name of ["127.0.0.1", "::1", "169.254.169.254"]) expect(await texts(name)).toEqual([]);
  });

  test("gives no IPv6 address where IPv6 cannot be reached", async () => {
    const { egress } = await sandbox(NAMED, { egress: { mode: "open" }, ipv6: false });
    expect([await egress.resolve("2606:4700::1"), (await egress.resolve("a.example")).length]).toEqual([[], 1]);
  });

  test("never gives an address of this host, exempt or not", async () => {
    const exempt = [{ family: 4, first: 0x7f000000n, last: 0x7fffffffn }] as const;
    const { egress } = await sandbox(
      (asking) => [reply(asking, [a(asking.question.name, "127.0.0.1"), a(asking.question.name, "127.0.0.9")])],
      {
        egress: { mode: "open" },
        exempt,
        ipv6: false,
      },
    );
    expect(await egress.resolve("a.example")).toEqual([parseAddress("127.0.0.9")!]); // the control: only 127.0.0.1 is an interface's
    expect(await egress.resolve("127.0.0.1")).toEqual([]);
  });
});
