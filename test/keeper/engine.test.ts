/** Detached sandboxes of engines in memory: their egress is the keeper's from the start, and any process may change it. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Egress } from "../../src/contract/routes/network.ts";
import type { SandboxHost } from "../../src/contract/routes.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { Sandbox } from "../../src/sandbox.ts";
import { World } from "../harness/fakes.ts";

const ALLOW: Egress = { mode: "allowlist", allow: ["*.example.com:443"] };
const NARROW: Egress = { mode: "allowlist", allow: ["a.example.com:443"] };
const SECRET = { host: "a.example.com", header: "Authorization", value: "Bearer hidden" };

let world: World;
let engine: Engine;
let host: SandboxHost;
/** Another process of the home. */
let other: SandboxHost;
let second: Engine;

beforeEach(() => {
  world = new World();
  world.host.networkDegraded = null;
  engine = world.engine();
  second = world.engine();
  host = engine.as("local");
  other = second.as("local");
});

afterEach(async () => {
  for (const { id } of await other.list({})) await other.close({ id });
  await world.end(engine);
  await second.close();
});

const modeOf = (id: string) => world.host.networks.get(id)?.applied.at(-1)?.mode;

async function run(from: SandboxHost, id: string): Promise<void> {
  const { exitCode } = await new Sandbox(from, id).exec("true");
  expect(exitCode).toBe(0);
}

describe("A detached sandbox", () => {
  test("has its egress from the keeper before it runs; one that is not, or is to have none, does not", async () => {
    let atResume: string | undefined;
    world.driver.hooks = {
      vmm: (call, id) => {
        if (call === "resume") atResume = modeOf(id);
      },
    };
    await host.create({ detached: true, egress: { mode: "none" } });
    await host.create({ egress: ALLOW });
    expect(world.keeper.size).toBe(0);
    const { id, egress } = await host.create({ detached: true, egress: ALLOW });
    expect([world.keeper.size, atResume, modeOf(id), egress]).toEqual([1, "allowlist", "allowlist", ALLOW]);
  });

  test("keeps it when its maker ends, and is changed and asked about by others", async () => {
    const { id } = await host.create({ detached: true, egress: ALLOW, secrets: [SECRET] });
    await world.end(engine);
    expect(modeOf(id)).toBe("allowlist");
    const info = await other.setNetwork({ id, egress: { mode: "open" } });
    expect(info).toMatchObject({ egress: { mode: "open" }, secretHosts: ["a.example.com"], usage: { refused: 0 } });
    expect([modeOf(id), (await other.get({ id })).egress]).toEqual(["open", { mode: "open" }]);
    expect(await other.networkLog({ id })).toEqual({ events: [], lost: 0 });
  });

  test("that another process changes has the new policy for its maker too: told, kept over a pause, and no fork has more", async () => {
    const { id } = await host.create({ detached: true, egress: ALLOW });
    await other.setNetwork({ id, egress: NARROW });
    expect((await host.network({ id })).egress).toEqual(NARROW);
    await other.setNetwork({ id, egress: { mode: "none" } });
    await host.pause({ id });
    await host.resume({ id });
    expect((await world.registry.get(id))?.egress).toEqual({ mode: "none" });
    await other.setNetwork({ id, egress: NARROW });
    const { children } = await host.fork({ id });
    expect(children[0]?.egress).toEqual(NARROW);
    const wider = host.fork({ id, egress: ALLOW });
    await expect(wider).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("has it again after it slept, with what was said last", async () => {
    const { id } = await host.create({ detached: true, egress: { mode: "open" } });
    await other.setNetwork({ id, egress: NARROW });
    await host.hibernate({ id });
    await other.wake({ id });
    expect([modeOf(id), (await other.network({ id })).egress]).toEqual(["allowlist", NARROW]);
    expect((await other.setNetwork({ id, egress: ALLOW })).egress).toEqual(ALLOW);
  });

  test("is taken up by the next keeper as it was changed last", async () => {
    const { id } = await host.create({ detached: true, egress: { mode: "open" } });
    await host.setNetwork({ id, egress: NARROW });
    world.keeper.forget();
    await other.networkLog({ id });
    expect([world.keeper.size, world.host.networks.get(id)?.applied.at(-1)?.mode]).toEqual([1, "allowlist"]);
    expect((await host.get({ id })).egress).toEqual(NARROW);
  });

  test("has its names again when another process so much as runs a command in it after its keeper was killed", async () => {
    const { id } = await host.create({ detached: true, egress: ALLOW, secrets: [SECRET] });
    const applied = () => world.host.networks.get(id)?.applied.length ?? 0;
    const before = applied();
    world.keeper.forget();
    await run(other, id);
    expect([world.keeper.size, applied()]).toEqual([1, before + 1]);
    world.keeper.open = () => Promise.reject(new Error("no keeper today"));
    const third = world.engine();
    await run(third.as("local"), id); // which has nothing to do with its network
    await third.close();
  });

  test("fails to be made, and leaves nothing, when the keeper cannot open it", async () => {
    world.keeper.open = () => Promise.reject(new Error("no keeper today"));
    await expect(host.create({ detached: true, egress: ALLOW })).rejects.toThrow("could not be started");
    expect([world.registry.size, world.driver.machines.size, world.host.lent.size]).toEqual([0, 0, 0]);
  });

  test("that is bound to its maker is not changed by another process", async () => {
    const { id } = await host.create({ egress: ALLOW });
    await expect(other.setNetwork({ id, egress: NARROW })).rejects.toMatchObject({ code: "unsupported" });
    await expect(other.networkLog({ id })).rejects.toMatchObject({ code: "unsupported" });
  });
});
