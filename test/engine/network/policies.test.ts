/** Egress policies as the engine gives and keeps them: who gets which, who may change it, and what stays when it ends. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Egress } from "../../../src/contract/routes/network.ts";
import type { SandboxHost } from "../../../src/contract/routes.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import { FakeNetwork } from "../../../src/host/fake-network.ts";
import { fold } from "../../../src/meter/fold.ts";
import { World } from "../../harness/fakes.ts";
import { fails } from "../../suites/sandbox/subject.ts";

let world: World;
let engine: Engine;
let host: SandboxHost;

beforeEach(() => {
  world = new World();
  world.host.networkDegraded = null;
  engine = world.engine();
  host = engine.as("local");
});

afterEach(async () => {
  await engine.close();
  world.expectNothingLeft();
});

async function refuses(job: Promise<unknown>, code: ErrorCode, says: RegExp): Promise<void> {
  expect((await fails(code, job)).message).toMatch(says);
}

/** The rules in force for a sandbox. */
function rulesOf(id: string) {
  const network = world.host.networks.get(id);
  return network?.applied.at(-1);
}

const ALLOW: Egress = { mode: "allowlist", allow: ["*.example.com:443", "93.184.216.0/24"] };

describe("Engine.create", () => {
  test("opens the public internet unless it is told otherwise, before the guest runs", async () => {
    let atResume: string | undefined;
    world.driver.hooks = {
      vmm: (call, id) => {
        if (call === "resume") atResume = rulesOf(id)?.mode;
      },
    };
    const { id, egress } = await host.create({});
    expect([egress.mode, rulesOf(id)?.mode, atResume]).toEqual(["open", "open", "open"]);
    const closed = await host.create({ egress: { mode: "none" } });
    expect([closed.egress, rulesOf(closed.id)?.mode, rulesOf(closed.id)?.dnsPort]).toEqual([
      { mode: "none" },
      "none",
      null,
    ]);
    const listed = await host.create({ egressAllowlist: ["Example.COM.", "93.184.216.34:443"] });
    expect(listed.egress).toEqual({ mode: "allowlist", allow: ["example.com", "93.184.216.34:443"] });
    expect(rulesOf(listed.id)).toMatchObject({ mode: "allowlist", ranges: [{ ports: { from: 443, to: 443 } }] });
  });

  test("refuses what it cannot mean by the entry's name, and leaves nothing", async () => {
    const bad: [unknown, RegExp][] = [
      [{ mode: "opne" }, /egress\.?\/?mode|mode/],
      [{ mode: "allowlist", allow: ["a.example.com", "*.x.example.com:0"] }, /egress\.allow\[1\]/],
      [{ mode: "allowlist", allow: ["a.example.com:70000"] }, /egress\.allow\[0\]/],
      [{ mode: "allowlist", allow: ["10.0.0.0/33"] }, /egress\.allow\[0\]/],
      [{ mode: "allowlist", allow: ["192.168.0.0/16"] }, /egress\.allow\[0\]/],
      [{ mode: "allowlist", allow: ["-a.example.com"] }, /egress\.allow\[0\]/],
      [{ mode: "allowlist", allow: Array.from({ length: 10_000 }, (_, i) => `h${i}.example.com`) }, /allow/],
      [{ mode: "open", allow: ["a.example.com"] }, /allow/],
    ];
    for (const [egress, says] of bad) await refuses(host.create({ egress: egress as Egress }), "invalid_request", says);
    const both = { egress: ALLOW, egressAllowlist: ["a.example.com"] };
    await refuses(host.create(both), "invalid_request", /egressAllowlist/);
    expect(world.host.made).toBe(0);
  });

  test("is never silently open where there is no network: none by default, an error when asked for more", async () => {
    world.host.networkDegraded = "nft_masq is missing: modprobe nft_masq";
    world.host.hooks = { network: () => null };
    const { id, egress } = await host.create({});
    expect(egress).toEqual({ mode: "none" });
    world.host.networkDegraded = null; // as before the first lease
    const first = await host.create({});
    expect([first.egress, first.notes]).toEqual([{ mode: "none" }, ["it has no network: it has none to give"]]);
    await refuses(host.create({ egress: { mode: "open" } }), "host_unsupported", /no network/);
    world.host.networkDegraded = "nft_masq is missing: modprobe nft_masq";
    await refuses(host.create({ egress: { mode: "open" } }), "host_unsupported", /modprobe nft_masq/);
    await refuses(host.create({ egress: ALLOW }), "host_unsupported", /no network/);
    await refuses(host.setNetwork({ id, egress: { mode: "open" } }), "host_unsupported", /no network/);
    expect(await host.network({ id })).toEqual({
      ...{ egress: { mode: "none" }, secretHosts: [], usage: null },
      degraded: "nft_masq is missing: modprobe nft_masq",
    });
  });

  test("fails, and gives all back, when the rules cannot be made", async () => {
    const network = new FakeNetwork();
    network.failing = "the kernel refuses";
    world.host.hooks = { network: () => network };
    await refuses(host.create({}), "driver_failed", /the kernel refuses/);
    expect((await host.list({})).length).toBe(0);
  });
});

describe("Egress of a running sandbox", () => {
  test("is replaced at once, told in its info, and kept when the new one is bad", async () => {
    const { id } = await host.create({});
    const info = await host.setNetwork({ id, egress: ALLOW });
    expect(info.egress).toEqual(ALLOW);
    expect(rulesOf(id)?.mode).toBe("allowlist");
    expect((await host.get({ id })).egress).toEqual(ALLOW);
    const bad = { id, egress: { mode: "allowlist" as const, allow: ["nonsense"] } };
    await refuses(host.setNetwork(bad), "invalid_request", /egress\.allow\[0\]/);
    expect(rulesOf(id)?.mode).toBe("allowlist");
    await refuses(host.setNetwork({ id: "sb_none", egress: ALLOW }), "not_found", /sb_none/);
  });

  test("has its counters told and metered, in the move by which it stops", async () => {
    const { id } = await host.create({});
    const network = world.host.networks.get(id);
    if (network === undefined) throw new Error("it has no network");
    network.counted = { bytesOut: 1000, bytesIn: 5000, connections: 3, refused: 2 };
    expect((await host.network({ id })).usage).toEqual(network.counted);
    await host.close({ id });
    expect(engine.moves.of(id).filter((move) => move.network !== undefined)).toMatchObject([
      { to: "stopping", network: { bytesOut: 1000, bytesIn: 5000, connections: 3 } },
    ]);
    expect(fold(engine.moves.of(id)).egress_bytes).toBe(1000n);
  });
});

describe("A sandbox that hibernates", () => {
  test("is woken to be given another policy, and not to be asked for the one it has", async () => {
    const { id } = await host.create({ egress: ALLOW });
    await host.hibernate({ id });
    expect((await host.network({ id })).egress).toEqual(ALLOW);
    expect((await host.get({ id })).state).toBe("hibernated");
    await host.setNetwork({ id, egress: { mode: "none" } });
    expect([(await host.get({ id })).state, rulesOf(id)?.mode]).toEqual(["running", "none"]);
  });
});

describe("What stands on a sandbox", () => {
  const SECRET = { host: "api.example.com", header: "Authorization", value: "Bearer hidden" };

  test("forks keep its policy and may only narrow it", async () => {
    const parent = await host.create({ egress: ALLOW });
    const { children } = await host.fork({ id: parent.id });
    expect(children[0]?.egress).toEqual(ALLOW);
    const narrow: Egress = { mode: "allowlist", allow: ["a.example.com:443"] };
    const narrower = await host.fork({ id: parent.id, egress: narrow });
    expect(narrower.children[0]?.egress).toEqual(narrow);
    for (const egress of [
      { mode: "open" },
      { mode: "allowlist", allow: ["a.example.com"] },
      { mode: "allowlist", allow: ["example.com:443"] },
      { mode: "allowlist", allow: ["93.184.0.0/16"] },
    ] satisfies Egress[]) {
      await refuses(host.fork({ id: parent.id, egress }), "invalid_request", /egress: .*narrower/);
    }
    await host.setNetwork({ id: parent.id, egress: { mode: "none" } });
    const later = await host.fork({ id: parent.id });
    expect(later.children[0]?.egress).toEqual({ mode: "none" });
  });

  test("snapshots and sleepers have it again, in another process too, and may only narrow it", async () => {
    const { id } = await host.create({ egress: ALLOW });
    const saved = await host.snapshot({ id });
    await host.hibernate({ id });
    await host.wake({ id });
    expect([(await host.get({ id })).egress, rulesOf(id)?.mode]).toEqual([ALLOW, "allowlist"]);
    const other = world.engine();
    const again = await other.as("local").create({ snapshot: saved.id });
    expect([again.egress, rulesOf(again.id)?.mode]).toEqual([ALLOW, "allowlist"]);
    const wider = other.as("local").create({ snapshot: saved.id, egress: { mode: "open" } });
    await refuses(wider, "invalid_request", /egress: .*the snapshot's/);
    await other.close();
  });

  test("secrets go along, are told to nobody, and stay behind where they are of no use", async () => {
    const open = await host.create({ egress: { mode: "allowlist", allow: ["*.example.com"] }, secrets: [SECRET] });
    const { children } = await host.fork({ id: open.id });
    const child = children[0]?.id ?? "";
    expect((await host.network({ id: child })).secretHosts).toEqual(["api.example.com"]);
    const other: Egress = { mode: "allowlist", allow: ["b.example.com"] };
    const without = await host.fork({ id: open.id, egress: other });
    expect((await host.network({ id: without.children[0]?.id ?? "" })).secretHosts).toEqual([]);
    const told = JSON.stringify([
      await host.get({ id: child }),
      await host.network({ id: child }),
      await host.list({}),
    ]);
    expect(told).not.toContain("hidden");
    const saved = await host.snapshot({ id: open.id });
    expect(JSON.stringify(saved)).not.toContain("hidden");
  });
});
